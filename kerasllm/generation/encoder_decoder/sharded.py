"""Generating with an encoder-decoder in shards: JAX computes logits on all devices.

The encoder runs once for each source. The decoder has no cache: for each new token it reads all
tokens of a row again. Every family can compute that, and for a large model on accelerators it takes
little longer, because most of the time goes into reading the weights.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasllm.generation.compiled import size_of
from kerasllm.generation.encoder_decoder.decoders import encoder_of
from kerasllm.models.encoder_decoder import EncoderDecoder
from kerasllm.training.sharded.calls import computed_in_shards

# The least tokens that the decoder is compiled for.
_SHORTEST = 16


class ShardedDecoder:
    """An encoder-decoder in shards, by the backbone's own layers.

    Args:
        model: An encoder-decoder.
    """

    in_graph = False
    weights = ()

    def __init__(self, model: EncoderDecoder):
        backbone = model.backbone
        encoder, decoder = encoder_of(backbone), _decoder_of(backbone)

        def encoded(token_ids, padding_mask):
            inputs = {"encoder_token_ids": token_ids, "encoder_padding_mask": padding_mask}
            return encoder(inputs, training=False)

        def logits(encoded, padding_mask, token_ids, slot):
            everything = ops.ones_like(token_ids)
            hidden = decoder([encoded, padding_mask, token_ids, everything], training=False)
            return ops.cast(model.logits(ops.take(hidden, slot, axis=1)), "float32")

        self._longest = model.max_target_length
        self._encoded = computed_in_shards(backbone, encoded)
        self._logits = computed_in_shards(backbone, logits)

    def refresh(self) -> None:
        """Nothing to do: the values of the variables are read in each call."""

    def start(self, weights, token_ids, padding_mask, beams: int, slots):
        """Reads sources; see `kerasllm.generation.encoder_decoder.decoders.ReadDecoder.start`.

        Returns:
            What the encoder makes of them with their mask, a row for each beam; and the tokens that
            the rows have read, int32 `[rows, slots]`.
        """
        token_ids, padding_mask = np.asarray(token_ids), np.asarray(padding_mask)
        encoded = self._encoded(token_ids, padding_mask)
        if beams > 1:
            encoded = ops.repeat(encoded, beams, axis=0)
        memory = encoded, np.repeat(padding_mask, beams, axis=0)
        return memory, np.zeros((len(memory[1]), int(slots)), np.int32)

    def step(self, weights, memory, cache, token_ids, slot):
        """Reads one more token of each row.

        Args:
            weights: Not used.
            memory: Of `start`.
            cache: The tokens before.
            token_ids: int32 `[rows]`.
            slot: How many tokens a row had read.

        Returns:
            The logits after the tokens, float32 `[rows, vocabulary]`, and the tokens with them.
        """
        slot = int(slot)
        cache = cache.copy()
        cache[:, slot] = np.asarray(token_ids)
        # What comes after a token changes nothing for it. BART has no positions past its longest.
        read = cache[:, : size_of(slot + 1, _SHORTEST)][:, : self._longest]
        return tf.constant(np.asarray(self._logits(*memory, read, np.int32(slot)))), cache

    def reordered(self, cache, parents):
        """Returns the tokens of beams that continue others of their source.

        Args:
            cache: Of `step`.
            parents: int32 `[sources, beams]`: the beam that each one continues.
        """
        parents = np.asarray(parents)
        sources, beams = parents.shape
        return cache[(parents + np.arange(sources)[:, None] * beams).ravel()]


def _decoder_of(backbone: keras.Model) -> keras.Model:
    """Returns the decoder of a backbone, which shares its weights."""
    inputs = [
        backbone.output["encoder_sequence_output"],
        *(
            backbone.input[name]
            for name in ("encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")
        ),
    ]
    return keras.Model(inputs, backbone.output["decoder_sequence_output"])
