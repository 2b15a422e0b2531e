"""Decoding with a model in shards: JAX computes logits on all devices, and they come to the host.

The weights stay where they lie. In training a layer's weights are gathered for the many tokens of a
batch; here it is cheaper to send the few hidden states to all parts of a weight, and to add up what
these give, which XLA does by itself where nothing says otherwise.
"""

from __future__ import annotations

import jax
import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.generation.hub_decoder import KerasHubDecoder
from kerasllm.training.sharded.calls import computed_in_shards


class ShardedDecoder:
    """A KerasHub `CausalLM` in shards, by its own layers; prompts of a batch are of one length.

    Args:
        task: A KerasHub `CausalLM`.
    """

    mixes_lengths = False
    packs = False
    in_graph = False
    weights = ()

    def __init__(self, task: keras_hub.models.CausalLM):
        decoder = KerasHubDecoder(task)

        def prefill(token_ids, lengths, slots):
            return decoder.prefill((), token_ids, lengths, slots)

        def step(cache, token_ids, slot, lengths, prompt):
            return decoder.step((), cache, token_ids, slot, prompt, lengths)

        self._prefill = computed_in_shards(task, prefill, static="slots")
        self._step = computed_in_shards(task, step)
        self._reordered = jax.jit(decoder.reordered)

    def refresh(self) -> None:
        """Nothing to do: the values of the variables are read in each call."""

    def prefill(self, weights, token_ids, lengths, slots: int):
        """As `KerasHubDecoder.prefill`."""
        return _on_host(self._prefill(np.asarray(token_ids), np.asarray(lengths), slots=slots))

    def step(self, weights, cache, token_ids, slot, prompt: int, lengths, packed: bool = False):
        """As `KerasHubDecoder.step`."""
        return _on_host(self._step(cache, *map(np.asarray, (token_ids, slot, lengths, prompt))))

    def reordered(self, cache, rows):
        """Returns the cache of other rows, int32 `[rows]`."""
        return self._reordered(cache, np.asarray(rows))


def _on_host(found: tuple) -> tuple:
    """Returns logits as TensorFlow's, which tokens are chosen with, and the cache as it is."""
    logits, cache = found
    return tf.constant(np.asarray(logits)), cache
