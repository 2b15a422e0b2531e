"""One environment variable turns each setting of the process off: `KERASLLM_THREADS=0`."""

from __future__ import annotations

import os

# Whether the numbers of a training change without it.
SWITCHES = {
    "KERASLLM_ALLOCATOR": False,
    # What is chosen without it is recorded by itself: whether XLA fuses, and the lengths.
    "KERASLLM_COMPILE_COSTS": False,
    "KERASLLM_GPU_MEMORY": False,
    "KERASLLM_LEAN_IMPORT": False,
    "KERASLLM_QUIET_IMPORT": False,
    "KERASLLM_SLICES": True,
    "KERASLLM_THREADS": False,
    "KERASLLM_XLA_CACHE": False,
    "KERASLLM_XLA_FLAGS": True,
}
_OFF = ("0", "false", "no", "off")


def is_off(switch: str) -> bool:
    """Returns whether a setting is switched off.

    Args:
        switch: One of `SWITCHES`.
    """
    if switch not in SWITCHES:
        raise ValueError(f"Expected one of {', '.join(SWITCHES)}. Received: switch={switch!r}")
    return os.environ.get(switch, "").strip().lower() in _OFF


def off_that_change_numbers() -> list[str]:
    """Returns the switches that are off and without which a training has other numbers."""
    return [switch for switch, changes in SWITCHES.items() if changes and is_off(switch)]
