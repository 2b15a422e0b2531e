"""Decoding with a model in shards: JAX computes logits on all devices, and they come to the host.

The weights stay where they lie. In training a layer's weights are gathered for the many tokens of a
batch; here it is cheaper to send the few hidden states to all parts of a weight, and to add up what
these give, which XLA does by itself where nothing says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import keras
import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.generation.hub_decoder import KerasHubDecoder
from kerasllm.training.sharded.step import mesh_in_use


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


def computed_in_shards(model: keras.Model, function: Callable, static: str | None = None):
    """Returns a function that JAX compiles, and computes with a model's variables as they are now.

    Args:
        model: Whose variables the function reads.
        function: Takes and returns arrays. What it returns first, if it returns a tuple, or else
            all of it, is on each device afterwards.
        static: The argument that it is compiled anew for. Defaults to `None`: none.
    """
    variables = list({id(variable): variable for variable in model.variables}.values())
    everywhere = jax.sharding.NamedSharding(mesh_in_use(), jax.sharding.PartitionSpec())

    def compute(values, *arguments, **options):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            found = function(*arguments, **options)
        if not isinstance(found, tuple):
            return jax.lax.with_sharding_constraint(found, everywhere)
        return (jax.lax.with_sharding_constraint(found[0], everywhere), *found[1:])

    compiled = jax.jit(compute, static_argnames=[static] if static else [])

    def call(*arguments: Any, **options: Any):
        return compiled([variable.value for variable in variables], *arguments, **options)

    return call


def _on_host(found: tuple) -> tuple:
    """Returns logits as TensorFlow's, which tokens are chosen with, and the cache as it is."""
    logits, cache = found
    return tf.constant(np.asarray(logits)), cache
