"""The option `--strategy` of commands that use a trained model."""

from __future__ import annotations

from collections.abc import Callable

import click

from kerasllm.cli import completion
from kerasllm.errors import CommandError
from kerasllm.recipe.strategy_names import check_name, is_sharded


def sharded_option(command: Callable) -> Callable:
    """Adds `--strategy` to a command, which gets it as `strategy`, or `None`."""
    return click.option(
        "--strategy",
        metavar="NAME",
        callback=_checked,
        shell_complete=completion.sharded_strategies,
        help="sharded or sharded:DATAxMODEL: split the model over all devices, with JAX.  "
        "[default: one device]",
    )(command)


def _checked(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    if name is None or name == "one_device":
        return None
    check_name(name)
    if not is_sharded(name):
        raise CommandError(
            f"This command computes on one device, or in shards. Received: {name}",
            where="--strategy",
            fix="leave it out, or give sharded or sharded:DATAxMODEL",
        )
    return name
