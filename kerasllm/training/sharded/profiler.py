"""JAX's profiler, with the options and the place of TensorFlow's."""

from __future__ import annotations

import jax


def start(folder: str) -> None:
    """Begins a profile.

    Args:
        folder: The folder of TensorBoard's event files; the profile is below it when it is stopped.
    """
    options = jax.profiler.ProfileOptions()
    # As TensorFlow's: each call of a Python function would be many times the rest.
    options.python_tracer_level = 0
    jax.profiler.start_trace(folder, profiler_options=options)


def stop() -> None:
    """Ends the profile and writes it."""
    jax.profiler.stop_trace()
