"""The ways to compute a decoder token by token: with weights read out, or by KerasHub's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import keras_hub
import tensorflow as tf

from kerasllm.generation import forward, kv_cache
from kerasllm.generation.hub_decoder import KerasHubDecoder
from kerasllm.generation.packed import can_pack
from kerasllm.generation.weights import architecture, can_be_read, read_weights

if TYPE_CHECKING:
    from kerasllm.generation.sharded import ShardedDecoder


def decoder_for(task: keras_hub.models.CausalLM) -> ReadDecoder | KerasHubDecoder | ShardedDecoder:
    """Returns the fastest way to compute a KerasHub `CausalLM`."""
    if keras.config.backend() == "jax":
        # It imports JAX, which need not be installed.
        from kerasllm.generation.sharded import ShardedDecoder

        return ShardedDecoder(task)
    return (ReadDecoder if can_be_read(task.backbone) else KerasHubDecoder)(task)


class ReadDecoder:
    """GPT-2, Llama, Mistral, Qwen 2 and 3, by `kerasllm.generation.forward`.

    Args:
        task: A KerasHub `CausalLM`.

    Attributes:
        mixes_lengths: Whether prompts of a batch may differ in length.
        packs: Whether `step` may keep the weights as the processor's kernels read them.
        in_graph: Whether TensorFlow may trace `prefill` and `step`.
        weights: What `prefill` and `step` take; `refresh` reads it again.
    """

    mixes_lengths = True
    in_graph = True

    def __init__(self, task: keras_hub.models.CausalLM):
        self._backbone = task.backbone
        self._architecture = architecture(task.backbone)
        self.packs = can_pack(self._architecture.dtype)
        self.refresh()

    def refresh(self) -> None:
        """Reads the weights again, as they are now."""
        self.weights = read_weights(self._backbone)

    def prefill(self, weights, token_ids, lengths, slots: int):
        """See `kerasllm.generation.forward.prefill`."""
        return forward.prefill(self._architecture, weights, token_ids, lengths, slots)

    @property
    def weight_bytes(self) -> int:
        """How much memory the weights take."""
        tensors = {id(each): each for each in tf.nest.flatten(self.weights)}
        return sum(each.shape.num_elements() * each.dtype.size for each in tensors.values())

    def step(self, weights, cache, token_ids, slot, prompt: int, lengths, packed: bool = False):
        """See `kerasllm.generation.forward.step`."""
        return forward.step(
            self._architecture, weights, cache, token_ids, slot, prompt, lengths, packed
        )

    def new_cache(self, rows: int, slots: int):
        """Returns an empty cache for `extend`; see `kerasllm.generation.kv_cache.new_cache`."""
        return kv_cache.new_cache(self._architecture, len(self.weights["blocks"]), rows, slots)

    def extend(self, cache, token_ids, starts, lengths, packed: bool = False):
        """See `kerasllm.generation.kv_cache.extend`; the weights are those of now."""
        return kv_cache.extend(
            self._architecture, self.weights, cache, token_ids, starts, lengths, packed
        )

    def reordered(self, cache, rows):
        """Returns the cache of other rows, int32 `[rows]`."""
        return [tuple(tf.gather(each, rows) for each in layer) for layer in cache]
