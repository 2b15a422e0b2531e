"""Import TensorFlow without what its C++ code prints before any log level is read."""

from __future__ import annotations

import os
import sys
import warnings


def import_tensorflow() -> None:
    """Imports TensorFlow and what loads with it, silently.

    TensorFlow writes a handful of lines about its build straight to the file descriptor, whatever
    `TF_CPP_MIN_LOG_LEVEL` says. That variable is set, unless it is set already, so that only errors
    are told afterwards. An import that fails is told as usual: by its exception.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import keras_hub  # noqa: F401
            import tensorflow  # noqa: F401
            import tensorflow_text  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
