"""How quiet a verb is: TensorFlow and the libraries speak only under `--debug`."""

from __future__ import annotations

import logging
import warnings

import click

from kerasllm.runtime import startup as quiet


def import_tensorflow() -> None:
    """Imports TensorFlow and what loads with it, silently unless `--debug` was given."""
    if click.get_current_context().find_root().obj["debug"]:
        return
    warnings.filterwarnings("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    quiet.import_tensorflow()
