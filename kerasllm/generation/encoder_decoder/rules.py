"""Constraints on the next token of a target, as transformers' logits processors."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from kerasllm.generation.sampling import penalized
from kerasllm.generation.settings import GenerationSettings
from kerasllm.models.encoder_decoder import EncoderDecoder

_NEVER = -float("inf")


@dataclass(frozen=True)
class Rules:
    """Changes scores before a token is chosen; which rules there are, a compiled function knows.

    Attributes:
        end_token_ids: The tokens that end a target.
        forced_first: The first token of each target, or `None`.
        forced_last: What ends a target that the limit cuts, or `None`.
        suppressed: Tokens that never come.
        min_new_tokens: How many tokens come before one may end the target.
        no_repeat_ngram_size: As many tokens in a row may come once; 0: no rule.
        repetition_penalty: What the scores of tokens that have come are divided by; 1: no rule.
    """

    end_token_ids: tuple[int, ...]
    forced_first: int | None = None
    forced_last: int | None = None
    suppressed: tuple[int, ...] = ()
    min_new_tokens: int = 0
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, model: EncoderDecoder, settings: GenerationSettings) -> Rules:
        """Returns the rules of a model and of settings.

        Some are the model's own: transformers keeps them in `generation_config.json`.
        """
        ends = settings.stop_token_ids
        own = model.generation
        bad = [ids[0] for ids in own.get("bad_words_ids") or () if len(ids) == 1]
        return cls(
            end_token_ids=(model.end_token_id,) if ends is None else tuple(ends),
            forced_first=model.forced_first_token_id,
            forced_last=own.get("forced_eos_token_id"),
            suppressed=tuple(sorted({*bad, *(own.get("suppress_tokens") or ())})),
            min_new_tokens=settings.min_new_tokens,
            no_repeat_ngram_size=settings.no_repeat_ngram_size,
            repetition_penalty=settings.repetition_penalty,
        )

    def apply(self, scores, tokens, count, limits):
        """Returns the scores of the next tokens.

        Args:
            scores: float32 `[rows, vocabulary]`: logits, or their logarithms of probabilities.
            tokens: int32 `[rows, slots]`: the start token, then those that have come.
            count: int32: how many have come.
            limits: int32 `[rows]`: how many may come.
        """
        if self.repetition_penalty != 1:
            seen = _seen(tokens, count, tf.shape(scores))
            scores = penalized(scores, seen, self.repetition_penalty)
        if self.no_repeat_ngram_size:
            scores = _without_repeated(scores, tokens, count, self.no_repeat_ngram_size)
        vocabulary = tf.range(tf.shape(scores)[-1])
        for token in self.suppressed:
            scores = tf.where(vocabulary == token, _NEVER, scores)
        if self.min_new_tokens:
            early = count < self.min_new_tokens
            scores = tf.where(early & self._ends(vocabulary), _NEVER, scores)
        if self.forced_first is not None:
            forced = tf.where(vocabulary == self.forced_first, 0.0, _NEVER)
            scores = tf.where(count == 0, forced, scores)
        if self.forced_last is not None:
            forced = tf.where(vocabulary == self.forced_last, 0.0, _NEVER)
            scores = tf.where((count == limits - 1)[:, None], forced, scores)
        return scores

    def ends(self, tokens, count, limits):
        """Returns which tokens end their targets, bool of the shape of `tokens`.

        Args:
            tokens: int32: those that come next.
            count: int32: how many have come.
            limits: int32, of a shape that fits: how many may come.
        """
        return self._ends(tokens) | (count + 1 >= limits)

    def _ends(self, tokens):
        return tf.reduce_any(tokens[..., None] == tf.constant(self.end_token_ids, tf.int32), -1)


def _seen(tokens, count, shape):
    """Returns which tokens have come, bool `[rows, vocabulary]`."""
    # What has not come yet counts as the start token.
    tokens = tf.where(tf.range(tf.shape(tokens)[1]) <= count, tokens, tokens[:, :1])
    rows = tf.broadcast_to(tf.range(tf.shape(tokens)[0])[:, None], tf.shape(tokens))
    places = tf.stack([rows, tokens], -1)
    return tf.scatter_nd(places, tf.ones_like(tokens), shape) > 0


def _without_repeated(scores, tokens, count, size: int):
    """Returns scores of minus infinity for tokens that would end an n-gram that has come."""
    length = count + 1
    width = tf.shape(tokens)[1]
    # So that each place has a whole n-gram after it.
    tokens = tf.pad(tokens, [[0, 0], [0, size]])
    repeats = tf.broadcast_to(tf.range(width) + size <= length, tf.shape(tokens[:, :-size]))
    for place in range(size - 1):
        last = tf.gather(tokens, tf.maximum(length - size + 1 + place, 0), axis=1)
        repeats &= tokens[:, place : place + width] == last[:, None]
    banned = tokens[:, size - 1 : size - 1 + width]
    rows = tf.broadcast_to(tf.range(tf.shape(tokens)[0])[:, None], tf.shape(banned))
    updates = tf.where(repeats, _NEVER, -_NEVER)
    return tf.tensor_scatter_nd_min(scores, tf.stack([rows, banned], -1), updates)
