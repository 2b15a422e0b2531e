"""Startup of a verb: TensorFlow and other libraries log only under `--debug`."""

from __future__ import annotations

import logging
import warnings

import click

from kerasllm.runtime.startup import prepare_process


def import_tensorflow() -> None:
    """Prepares the process and imports TensorFlow, silently unless `--debug` was given."""
    debug = click.get_current_context().find_root().obj["debug"]
    if not debug:
        warnings.filterwarnings("ignore")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    prepare_process(debug=debug, lean=True)
