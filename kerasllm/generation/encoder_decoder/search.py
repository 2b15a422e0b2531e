"""The two loops that generate targets, each one graph: token by token, and beam search.

Beam search computes what transformers 5 does. A beam's score is the sum of its log-probabilities;
that of a target that has ended is divided by its number of tokens to the power of the length
penalty. A source is done when its best open beam cannot become better than the worst of its ended
targets, as `early_stopping` estimates it; a source that is done no longer changes, so that each
gets what it would get alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from kerasllm.generation.encoder_decoder.decoders import KerasHubDecoder, ReadDecoder
from kerasllm.generation.encoder_decoder.rules import Rules
from kerasllm.generation.sampling import Sampler
from kerasllm.generation.traced import repeated

# The score of what must not be taken, as in transformers: a number, so that scores can be added.
_LOW = -1e9


@dataclass(frozen=True)
class Beams:
    """How beam search compares targets.

    Attributes:
        count: The number of beams.
        length_penalty: The power of the length that scores are divided by.
        early_stopping: `True`, `False` or `"never"`; see `GenerationSettings`.
    """

    count: int
    length_penalty: float
    early_stopping: bool | str


def choose_tokens(
    decoder: ReadDecoder | KerasHubDecoder,
    rules: Rules,
    sampler: Sampler,
    start_token_id: int,
    weights,
    token_ids,
    padding_mask,
    limits,
    slots,
    numbers,
    uniform,
):
    """Generates a target for each source, the next token always chosen by a sampler.

    Args:
        decoder: What computes logits.
        rules: What may come.
        sampler: How a token is chosen.
        start_token_id: What the decoder reads first.
        weights: Of the decoder.
        token_ids: int32 `[sources, length]`, padded at their ends.
        padding_mask: int32 of the same shape, 1 for a token.
        limits: int32 `[sources]`: the maximum number of tokens of each target, at least 1.
        slots: The highest limit, or more.
        numbers: Of the sampler; see `kerasllm.generation.sampling.numbers_of`.
        uniform: float32 `[sources, slots]`; read only where tokens are drawn.

    Returns:
        The targets, int32 `[sources, slots]`. A target ends with its first end token, or at its
        limit; what comes after is meaningless.
    """
    memory, cache = decoder.start(weights, token_ids, padding_mask, 1, slots)
    sources = tf.shape(token_ids)[0]
    tokens = tf.fill(tf.stack([sources, slots + 1]), start_token_id)
    # A row that pads the batch has no limit.
    ended = limits < 1
    places = tf.range(slots + 1)

    def advance(count, tokens, ended, cache):
        logits, cache = decoder.step(weights, memory, cache, tokens[:, count], count)
        scores = rules.apply(logits, tokens, count, limits)
        drawn = uniform[:, count] if sampler.draws else None
        token = sampler.choose(scores, (), numbers, drawn)
        tokens = tf.where(places == count + 1, token[:, None], tokens)
        return count + 1, tokens, ended | rules.ends(token, count, limits), cache

    _, tokens, _, _ = repeated(
        lambda count, tokens, ended, cache: ~tf.reduce_all(ended),
        advance,
        (tf.constant(0), tokens, ended, cache),
    )
    return tokens[:, 1:]


def search_beams(
    decoder: ReadDecoder | KerasHubDecoder,
    rules: Rules,
    beams: Beams,
    start_token_id: int,
    weights,
    token_ids,
    padding_mask,
    limits,
    slots,
):
    """Generates the best target of each source by beam search.

    Args:
        decoder: What computes logits.
        rules: What may come.
        beams: The beams.
        start_token_id: What the decoder reads first.
        weights: Of the decoder.
        token_ids: int32 `[sources, length]`, padded at their ends.
        padding_mask: int32 of the same shape, 1 for a token.
        limits: int32 `[sources]`: the maximum number of tokens of each target, at least 1.
        slots: The highest limit, or more.

    Returns:
        As `choose_tokens`.
    """
    width, power = beams.count, beams.length_penalty
    # Enough that a full set of beams continues, whichever candidates end.
    kept = max(2, 1 + len(rules.end_token_ids)) * width
    memory, cache = decoder.start(weights, token_ids, padding_mask, width, slots)
    sources = tf.shape(token_ids)[0]
    tokens = tf.fill(tf.stack([sources, width, slots + 1]), start_token_id)
    low = tf.fill(tf.stack([sources, width]), _LOW)
    # All beams are one at first.
    scores = tf.where(tf.range(width) == 0, 0.0, low)
    places, row_limits = tf.range(slots + 1), tf.repeat(limits, width)

    def advance(count, is_open, tokens, scores, best, best_scores, has_ended, cache):
        flat = tf.reshape(tokens, [-1, slots + 1])
        logits, cache = decoder.step(weights, memory, cache, flat[:, count], count)
        vocabulary = logits.shape[-1]
        new = rules.apply(tf.nn.log_softmax(logits), flat, count, row_limits)
        new = tf.reshape(new, [-1, width, vocabulary]) + scores[..., None]
        found, flat_places = tf.math.top_k(tf.reshape(new, [-1, width * vocabulary]), kept)
        parents, chosen = flat_places // vocabulary, flat_places % vocabulary
        candidates = tf.gather(tokens, parents, batch_dims=1)
        candidates = tf.where(places == count + 1, chosen[..., None], candidates)
        ends = rules.ends(chosen, count, limits[:, None])

        # The best that do not end continue.
        scores, order = tf.math.top_k(tf.where(ends, found + _LOW, found), width)
        tokens = tf.gather(candidates, order, batch_dims=1)
        cache = decoder.reordered(cache, tf.gather(parents, order, batch_dims=1))

        # Of those that end the first may be among the best; the others are kept to continue.
        count += 1
        length = tf.cast(count, tf.float32)
        ended = ends & (tf.range(kept) < width)
        final = tf.where(ended & is_open[:, None], found / length**power, _LOW)
        best_scores, order = tf.math.top_k(tf.concat([best_scores, final], 1), width)
        best = tf.gather(tf.concat([best, candidates], 1), order, batch_dims=1)
        has_ended = tf.gather(tf.concat([has_ended, ended], 1), order, batch_dims=1)

        if beams.early_stopping == "never" and power > 0:
            length = tf.cast(limits, tf.float32)
        hope = scores[:, 0] / length**power
        worst = tf.where(tf.reduce_all(has_ended, 1), best_scores[:, -1], _LOW)
        is_open &= (hope > worst) & ~tf.reduce_all(ends, 1)
        if beams.early_stopping is True:
            is_open &= ~tf.reduce_all(has_ended, 1)
        return count, is_open, tokens, scores, best, best_scores, has_ended, cache

    state = (
        tf.constant(0),
        # A row that pads the batch has no limit.
        limits > 0,
        tokens,
        scores,
        tokens,
        low,
        tf.zeros_like(low, tf.bool),
        cache,
    )
    _, _, _, _, best, _, _, _ = repeated(
        lambda count, is_open, *_: tf.reduce_any(is_open), advance, state
    )
    return best[:, 0, 1:]
