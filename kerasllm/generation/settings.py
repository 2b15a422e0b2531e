"""The settings of generation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from kerasllm.errors import CommandError
from kerasllm.recipe.generation import Generation


@dataclass(frozen=True)
class GenerationSettings:
    """How tokens are chosen, and when to stop.

    Decoding is greedy if none of `temperature`, `top_k`, `top_p` and `min_p` is given, or if
    `temperature` is 0.

    Args:
        max_new_tokens: Maximum number of tokens to generate. Defaults to `128`.
        temperature: Divisor of the logits: below 1 favours likely tokens, above 1 unlikely ones.
            Defaults to `None`: 1 if another setting enables sampling.
        top_k: Sample from this many most likely tokens. Defaults to `None`: from all.
        top_p: Sample from the smallest set of most likely tokens whose probabilities reach this
            sum. Defaults to `None`: from all.
        min_p: Sample from tokens with at least this share of the highest probability. Defaults to
            `None`: from all.
        repetition_penalty: Divisor of the logits of tokens that already occur in the text (a factor
            for negative logits). Defaults to `1.0`: no penalty.
        beams: The number of beams of beam search. Defaults to `1`: no beam search.
        length_penalty: Exponent of the length that divides a beam's score: above 0 favours long
            texts. Defaults to `1.0`.
        early_stopping: When beam search ends, as in transformers: with `True` as soon as as many
            texts have ended as there are beams; with `False` also the best open beam must not be
            better than the worst of these, if it ended now; with `"never"` it must not become so
            at any length. Defaults to `False`.
        seed: Seed of the random numbers. Defaults to `0`.
        stop: Texts at which generation stops; they are not part of the result. Defaults to `()`.
        stop_token_ids: Tokens at which generation stops. Defaults to `None`: the tokenizer's.
        max_length_ratio: How many tokens may be generated for each token of a source, special
            tokens included, beside `max_length_extra` and at most `max_new_tokens`; for
            encoder-decoders. Defaults to `None`: `max_new_tokens` alone limits.
        max_length_extra: See `max_length_ratio`. Defaults to `10`.
        min_new_tokens: Minimum number of tokens; for encoder-decoders. Defaults
            to `0`.
        no_repeat_ngram_size: N-grams of this length may occur only once in a text; for
            encoder-decoders. Defaults to `0`: no limit.

    Raises:
        CommandError: If a value is out of range, or two do not go together.

    References:
        [CTRL](https://arxiv.org/abs/1909.05858) (repetition penalty),
        [top-k](https://arxiv.org/abs/1805.04833), [top-p](https://arxiv.org/abs/1904.09751),
        [min-p](https://arxiv.org/abs/2407.01082)
    """

    max_new_tokens: int = 128
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    beams: int = 1
    length_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] | None = None
    early_stopping: bool | str = False
    max_length_ratio: float | None = None
    max_length_extra: int = 10
    min_new_tokens: int = 0
    no_repeat_ngram_size: int = 0

    def __post_init__(self) -> None:
        _check_whole("max_new_tokens", self.max_new_tokens, 1)
        _check_whole("beams", self.beams, 1)
        _check_whole("seed", self.seed, 0)
        if self.top_k is not None:
            _check_whole("top_k", self.top_k, 1)
        _check("temperature", self.temperature, lambda v: v >= 0, "0 or a number above it")
        _check("top_p", self.top_p, lambda v: 0 < v <= 1, "a number above 0 and at most 1")
        _check("min_p", self.min_p, lambda v: 0 <= v <= 1, "a number from 0 to 1")
        _check("repetition_penalty", self.repetition_penalty, lambda v: v > 0, "a number above 0")
        _check("length_penalty", self.length_penalty, lambda v: True, "a number")
        _check("max_length_ratio", self.max_length_ratio, lambda v: v > 0, "a number above 0")
        for name in ("max_length_extra", "min_new_tokens", "no_repeat_ngram_size"):
            _check_whole(name, getattr(self, name), 0)
        if self.early_stopping not in (True, False, "never"):
            raise CommandError(
                f"early_stopping must be True, False or 'never'. Received: {self.early_stopping!r}"
            )
        if "" in self.stop:
            raise CommandError("A stop text is empty", where="stop", fix="leave it out")
        if self.beams > 1 and self.samples:
            raise CommandError(
                f"Beam search does not sample. Received: "
                f"beams={self.beams} with temperature, top_k, top_p or min_p",
                fix="leave out beams, or the sampling settings",
            )

    @classmethod
    def of(cls, section: Generation) -> GenerationSettings:
        """Returns the settings of a recipe's section."""
        return cls(**section.model_dump())

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random."""
        if self.temperature is None:
            return any(value is not None for value in (self.top_k, self.top_p, self.min_p))
        return self.temperature > 0

    def refuse_for_decoders(self) -> None:
        """Raises a `CommandError` if a setting is there that only encoder-decoders have."""
        for name, usual in (
            ("max_length_ratio", None),
            ("min_new_tokens", 0),
            ("no_repeat_ngram_size", 0),
        ):
            if getattr(self, name) != usual:
                raise CommandError(
                    f"{name} is a setting of encoder-decoders, but this model is a decoder. "
                    f"Received: {name}={getattr(self, name)!r}",
                    fix="leave it out",
                )

    def limit(self, source_length: int, most: int | None = None) -> int:
        """Returns how many tokens may be generated for a source.

        Args:
            source_length: The tokens of the source, with its special tokens.
            most: The maximum number of tokens that the model can write. Defaults to `None`: any
                number.
        """
        limits = [self.max_new_tokens, *([] if most is None else [most])]
        if self.max_length_ratio is not None:
            limits.append(int(self.max_length_ratio * source_length) + self.max_length_extra)
        return max(min(limits), 1)


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CommandError(f"{name} must be a whole number, {least} or more. Received: {value!r}")


def _check(name: str, value: float | None, holds: Callable[[float], bool], expected: str) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not holds(value):
        raise CommandError(f"{name} must be {expected}. Received: {value!r}")
