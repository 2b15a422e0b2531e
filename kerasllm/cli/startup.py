"""Startup of a verb: TensorFlow and other libraries log only under `--debug`."""

from __future__ import annotations

import logging
import warnings

import click

from kerasllm.environment import use_jax
from kerasllm.recipe.strategy_names import is_sharded
from kerasllm.runtime.startup import prepare_process


def import_tensorflow(strategy: str | None = None) -> None:
    """Prepares the process and imports TensorFlow, silently unless `--debug` was given.

    Args:
        strategy: The strategy of a recipe: under a sharded one Keras computes with JAX. Defaults to
            `None`: there is none.
    """
    if strategy and is_sharded(strategy):
        use_jax()
    debug = click.get_current_context().find_root().obj["debug"]
    if not debug:
        warnings.filterwarnings("ignore")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    prepare_process(debug=debug, lean=True)
