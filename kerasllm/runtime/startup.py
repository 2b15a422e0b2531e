"""What a job sets up in its process before TensorFlow's first operation, however it was started."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kerasllm.environment import home, refuse_other_keras, uses_jax
from kerasllm.runtime import quiet_import, xla_cache
from kerasllm.runtime.allocator import keep_memory
from kerasllm.runtime.switches import is_off

# Keras and TensorFlow import these where they are installed, for wrappers and pictures that no verb
# asks them for; together they take longer than Keras itself.
_NOT_USED = ("IPython", "jax", "matplotlib", "pandas", "scipy", "sklearn")


def prepare_process(
    *,
    slices: int = 1,
    gpu_memory: str | int = "growth",
    debug: bool = False,
    lean: bool = False,
) -> list[str]:
    """Sets up the process: XLA's flags and cache, memory, TensorFlow's import, GPUs and threads.

    The commands call it before they import anything that needs TensorFlow, and a job calls it again
    with what its recipe says; what is set already stays. Each setting has a switch that turns it
    off, see `kerasllm.runtime.switches`.

    Args:
        slices: Slices of a batch that are computed at the same time; see
            `kerasllm.runtime.threads`. Defaults to `1`.
        gpu_memory: `"growth"`, `"all"`, or the maximum number of bytes of each GPU. Defaults to
            `"growth"`.
        debug: Whether what TensorFlow logs is shown. It changes nothing else. Defaults to `False`.
        lean: As for `import_tensorflow`. Defaults to `False`.

    Returns:
        A line for each setting that came too late, and for what is not used.
    """
    import_tensorflow(debug=debug, lean=lean)
    from kerasllm.runtime.gpu_memory import set_gpu_memory
    from kerasllm.runtime.threads import set_threads

    found = (xla_cache.refused(), set_gpu_memory(gpu_memory), set_threads(slices))
    return [line for line in found if line]


def import_tensorflow(*, debug: bool = False, lean: bool = False) -> None:
    """Imports TensorFlow and what loads with it, silently.

    TensorFlow writes a handful of lines about its build straight to the file descriptor,
    regardless of `TF_CPP_MIN_LOG_LEVEL`. That variable is set, unless it is set already, so that
    nothing is logged afterwards. An import that fails is told as usual: by its exception.

    What XLA compiles is kept for the next process, see `kerasllm.runtime.xla_cache`; and memory for
    the next operation, see `kerasllm.runtime.allocator`.

    Args:
        debug: Whether what TensorFlow logs is shown. Defaults to `False`.
        lean: Whether packages that Keras takes up where they are installed are left out of it, for
            the whole process, which takes a third of the time off. Its data adapters for pandas,
            its wrappers for scikit-learn and its galleries of pictures say then that these are
            missing: it is for processes of kerasllm's own, such as its commands, and not for a
            user's. A package that is imported before stays, and all of them can be imported
            afterwards. Defaults to `False`.

    Raises:
        CommandError: If the environment asks for another Keras than kerasllm runs on, or has no
            home directory and no place for one.
    """
    refuse_other_keras()
    # KerasHub imports what asks for it.
    home()
    set_before_import()
    if all(name in sys.modules for name in quiet_import.PACKAGES):
        return
    with ExitStack() as stack:
        if debug:
            quiet_import.remove()
        else:
            stack.enter_context(silence())
        if not is_off("KERASLLM_LEAN_IMPORT"):
            if lean:
                stack.enter_context(_nothing_unused())
            stack.enter_context(_no_collection())
        for name in quiet_import.PACKAGES:
            importlib.import_module(name)
        xla_cache.wait()


def set_before_import() -> None:
    """Sets what TensorFlow reads when it is imported, or at its first operation."""
    if not uses_jax():
        # JAX has an XLA of its own, which may not know TensorFlow's flags.
        xla_cache.set_flags()
    keep_memory()


@contextmanager
def silence() -> Iterator[None]:
    """Drops warnings and all that is written to stderr until the block, an import, ends."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with nothing_on_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def nothing_on_stderr() -> Iterator[None]:
    """Drops all that is written to the file descriptor of stderr, until the block ends."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _nothing_unused() -> Iterator[None]:
    """Makes packages that are not used look as if they were not installed, until the block ends."""
    hidden = [name for name in _NOT_USED if name not in sys.modules]
    if uses_jax():
        # JAX imports SciPy.
        hidden = [name for name in hidden if name not in ("jax", "scipy")]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Imports make a million objects that stay: no search for garbage among them, now or later.

    Nor at the end of the process, which gives back its memory at once.
    """
    enabled = gc.isenabled()
    gc.disable()
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
