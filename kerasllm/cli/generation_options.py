"""The generation options of `generate` and `chat`."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import click

from kerasllm.generation.settings import GenerationSettings

_OPTIONS = (
    click.option("--temperature", type=float, help="Sampling temperature; 0: greedy."),
    click.option("--top-k", type=int, help="Sample from this many most likely tokens."),
    click.option(
        "--top-p",
        type=float,
        help="Sample from the most likely tokens up to this total probability.",
    ),
    click.option(
        "--min-p",
        type=float,
        help="Sample from tokens with this probability, relative to the most likely one.",
    ),
    click.option(
        "--repetition-penalty",
        type=float,
        default=1.0,
        help="Above 1, repetitions are less likely.",
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="Stop at this text. Repeatable."),
    click.option("--seed", type=int, help="Seed of the sampling.  [default: random]"),
    click.option("--adapter", metavar="FOLDER", help="PEFT adapter to load into the model."),
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
        help="Maximum number of tokens to generate.",
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
