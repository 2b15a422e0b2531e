"""TensorFlow imported without what it prints, and without what no verb uses."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from kerasllm.runtime.allocator import keep_memory
from kerasllm.runtime.xla_cache import keep_programs

# Keras and TensorFlow import these where they are installed, for wrappers and pictures that no verb
# asks them for; together they take longer than Keras itself.
_NOT_USED = ("IPython", "jax", "matplotlib", "pandas", "scipy", "sklearn")


def import_tensorflow() -> None:
    """Imports TensorFlow and what loads with it, silently and in two thirds of the time.

    TensorFlow writes a handful of lines about its build straight to the file descriptor, whatever
    `TF_CPP_MIN_LOG_LEVEL` says. That variable is set, unless it is set already, so that only errors
    are told afterwards. An import that fails is told as usual: by its exception.

    Packages that Keras takes up where they are installed are left out of it, for the whole process:
    its wrappers for scikit-learn and its galleries of pictures say then that these are missing. A
    package that is imported before stays, and all of them can be imported afterwards.

    What XLA compiles is kept for the next process, see `kerasllm.runtime.xla_cache`; and memory for the
    next operation, see `kerasllm.runtime.allocator`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_programs()
    keep_memory()
    with nothing_on_stderr(), warnings.catch_warnings(), _nothing_unused(), _no_collection():
        warnings.simplefilter("ignore")
        import keras_hub  # noqa: F401
        import tensorflow  # noqa: F401
        import tensorflow_text  # noqa: F401


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
