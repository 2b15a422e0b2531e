"""A decoder token by token, by KerasHub's own layers, on any backend of Keras."""

from __future__ import annotations

import keras_hub
from keras import ops


class KerasHubDecoder:
    """Any KerasHub `CausalLM`, by its own layers; prompts of a batch are of one length.

    Args:
        task: A KerasHub `CausalLM`.
    """

    mixes_lengths = False
    packs = False
    in_graph = True
    weights = ()

    def __init__(self, task: keras_hub.models.CausalLM):
        self._task = task
        self._longest = getattr(task.backbone, "max_sequence_length", None)

    def refresh(self) -> None:
        """Nothing to do: the layers read their variables."""

    def prefill(self, weights, token_ids, lengths, slots: int):
        """As `kerasllm.generation.decoders.ReadDecoder.prefill`, for rows of one length."""
        length = token_ids.shape[1]
        slots = min(slots, self._longest or slots)
        token_ids = ops.pad(token_ids, [[0, 0], [0, slots - length]])
        _, cache = self._task._build_cache(token_ids)
        last = ops.take(token_ids, lengths[0] - 1, axis=1)
        return self._read(cache, last, lengths[0] - 1)

    def step(self, weights, cache, token_ids, slot, prompt: int, lengths, packed: bool = False):
        """As `ReadDecoder.step`, for rows of one length, and never packed."""
        # The padding of prompts follows what is read, and is overwritten one token at a time.
        return self._read(cache, token_ids, lengths[0] + slot - prompt)

    def reordered(self, cache, rows):
        """Returns the cache of other rows, int32 `[rows]`."""
        return ops.take(cache, rows, axis=0)

    def _read(self, cache, token_ids, index):
        logits, _, cache = self._task.call_with_cache(token_ids[:, None], cache, index)
        return ops.cast(logits[:, 0], "float32"), cache
