"""Silence for what C++ code prints without asking any log level, as TensorFlow's on import."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def import_tensorflow() -> None:
    """Imports TensorFlow and what loads with it, silently.

    TensorFlow writes a handful of lines about its build straight to the file descriptor, whatever
    `TF_CPP_MIN_LOG_LEVEL` says. That variable is set, unless it is set already, so that only errors
    are told afterwards. An import that fails is told as usual: by its exception.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with nothing_on_stderr(), warnings.catch_warnings():
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
