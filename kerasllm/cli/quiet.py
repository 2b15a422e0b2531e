"""Import TensorFlow without what its C++ code prints before any log level is read."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import click


def import_tensorflow() -> None:
    """Imports TensorFlow and what loads with it, silently unless `--debug` was given.

    TensorFlow writes a handful of lines about its build straight to the file descriptor, whatever
    `TF_CPP_MIN_LOG_LEVEL` says. An import that fails is told as usual: by its exception.
    """
    if click.get_current_context().find_root().obj["debug"]:
        return
    warnings.filterwarnings("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        import keras_hub  # noqa: F401
        import tensorflow  # noqa: F401
        import tensorflow_text  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
