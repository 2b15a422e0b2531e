"""The options of `generate` and `chat`: how tokens are chosen."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import click

from kerasllm.generation.settings import GenerationSettings

_OPTIONS = (
    click.option("--temperature", type=float, help="Below 1: more likely tokens; 0: greedy."),
    click.option("--top-k", type=int, help="Sample among this many most likely tokens."),
    click.option("--top-p", type=float, help="Sample among the most likely tokens up to this sum."),
    click.option("--min-p", type=float, help="Sample among tokens this likely, beside the first."),
    click.option(
        "--repetition-penalty", type=float, default=1.0, help="Above 1: fewer repetitions."
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="End at this text; repeatable."),
    click.option("--seed", type=int, help="Of what is drawn.  [default: another each time]"),
    click.option("--adapter", metavar="FOLDER", help="Put this adapter on the model."),
)


def generation_options(max_new_tokens: int) -> Callable:
    """Returns a decorator that gives a command the options of decoding.

    Args:
        max_new_tokens: The default of `--max-new-tokens`.
    """
    first = click.option(
        "--max-new-tokens",
        type=int,
        default=max_new_tokens,
        show_default=True,
        help="The most tokens that are written.",
    )

    def decorate(command: Callable) -> Callable:
        for option in reversed((first, *_OPTIONS)):
            command = option(command)
        return command

    return decorate


def settings_of(stop: tuple[str, ...], seed: int | None, **options) -> GenerationSettings:
    """Returns the settings that options ask for; a seed that is not given is drawn."""
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    return GenerationSettings(stop=stop, seed=seed, **options)
