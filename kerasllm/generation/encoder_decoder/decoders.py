"""The ways to compute an encoder-decoder token by token: weights read out, or by KerasHub.

The encoder is computed by the backbone's own layers: it runs once for each source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import keras_hub
import tensorflow as tf

from kerasllm.errors import PresetError
from kerasllm.generation.encoder_decoder import forward
from kerasllm.generation.encoder_decoder.weights import architecture, can_be_read, read_weights
from kerasllm.models.encoder_decoder import EncoderDecoder

if TYPE_CHECKING:
    from kerasllm.generation.encoder_decoder.sharded import ShardedDecoder

_BY_KERAS_HUB = {keras_hub.models.T5GemmaBackbone: keras_hub.models.T5GemmaSeq2SeqLM}


def decoder_for(model: EncoderDecoder) -> ReadDecoder | KerasHubDecoder | ShardedDecoder:
    """Returns the fastest way to compute an encoder-decoder.

    Raises:
        PresetError: If there is none.
    """
    backbone = model.backbone
    if keras.config.backend() == "jax":
        # It imports JAX, which need not be installed.
        from kerasllm.generation.encoder_decoder.sharded import ShardedDecoder

        return ShardedDecoder(model)
    if can_be_read(backbone):
        return ReadDecoder(model)
    if type(backbone) in _BY_KERAS_HUB:
        return KerasHubDecoder(model)
    raise PresetError(
        f"kerasllm cannot generate with a {type(backbone).__name__}",
        fix="use BART, mBART, Marian, T5 or T5Gemma, or a new encoder-decoder",
    )


class ReadDecoder:
    """BART, T5 and kerasllm's own, by `kerasllm.generation.encoder_decoder.forward`.

    Args:
        model: An encoder-decoder.

    Attributes:
        in_graph: Whether TensorFlow may trace `start` and `step`.
        encoder: What computes a source, with the backbone's own layers.
        weights: What `start` and `step` take; `refresh` reads it again.
    """

    in_graph = True

    def __init__(self, model: EncoderDecoder):
        self._model = model
        self._architecture = architecture(model)
        self.encoder = encoder_of(model.backbone)
        self.refresh()

    def refresh(self) -> None:
        """Reads the weights again, as they are now."""
        self.weights = read_weights(self._model)

    def start(self, weights, token_ids, padding_mask, beams: int, slots):
        """Reads sources.

        Args:
            weights: Of `self.weights`.
            token_ids: int32 `[sources, length]`, padded at their ends.
            padding_mask: int32 of the same shape, 1 for a token.
            beams: The rows of each source.
            slots: The maximum number of tokens that a row will read, int or int32.

        Returns:
            What is remembered of the sources, and the cache; see `forward`.
        """
        inputs = {"encoder_token_ids": token_ids, "encoder_padding_mask": padding_mask}
        encoded = self.encoder(inputs, training=False)
        sources = tf.shape(token_ids)[0]
        return (
            forward.remember(self._architecture, weights, encoded, padding_mask),
            forward.empty_cache(self._architecture, weights, sources, beams, slots),
        )

    def step(self, weights, memory, cache, token_ids, slot):
        """See `kerasllm.generation.encoder_decoder.forward.step`."""
        return forward.step(self._architecture, weights, memory, cache, token_ids, slot)

    def reordered(self, cache, parents):
        """See `kerasllm.generation.encoder_decoder.forward.reordered`."""
        return forward.reordered(cache, parents)


class KerasHubDecoder:
    """T5Gemma, by its own layers; its cache is copied where beams change places."""

    in_graph = True
    weights = ()

    def __init__(self, model: EncoderDecoder):
        self._model = model
        self._task = _BY_KERAS_HUB[type(model.backbone)](backbone=model.backbone)

    def refresh(self) -> None:
        """Nothing to do: the layers read their variables."""

    def start(self, weights, token_ids, padding_mask, beams: int, slots):
        """As `ReadDecoder.start`."""
        encoded = self._task.call_encoder(token_ids, padding_mask)
        memory = tuple(tf.repeat(each, beams, 0) for each in encoded)
        backbone, rows = self._task.backbone, tf.shape(memory[0])[0]
        shape = [
            rows,
            backbone.decoder_num_layers,
            2,
            slots,
            backbone.decoder_num_key_value_heads,
            backbone.decoder_head_dim,
        ]
        empty = tf.zeros(tf.stack(shape), backbone.compute_dtype)
        # The keys and values of the sources come out of the first call; it is made again.
        first = tf.fill([rows], self._model.start_token_id)
        _, (_, crossed) = self._read(memory, (empty, None), first, 0)
        return (*memory, crossed), empty

    def step(self, weights, memory, cache, token_ids, slot):
        """As `ReadDecoder.step`."""
        *memory, crossed = memory
        logits, (new, _) = self._read(memory, (cache, crossed), token_ids, slot)
        return logits, tf.ensure_shape(new, cache.shape)

    def reordered(self, cache, parents):
        """As `ReadDecoder.reordered`."""
        beams = parents.shape[1]
        if beams == 1:
            return cache
        rows = parents + tf.range(tf.shape(parents)[0])[:, None] * beams
        return tf.gather(cache, tf.reshape(rows, [-1]))

    def _read(self, memory, cache, token_ids, slot):
        encoded, mask = memory
        logits, _, cache = self._task.call_decoder_with_cache(
            decoder_token_ids=token_ids[:, None],
            decoder_padding_mask=None,
            cache=cache,
            cache_update_index=slot,
            encoder_output=encoded,
            encoder_padding_mask=mask,
        )
        return tf.cast(logits[:, 0], tf.float32), cache


def encoder_of(backbone: keras_hub.models.Backbone) -> keras.Model:
    """Returns the encoder of a backbone, which shares its weights."""
    inputs = {name: backbone.input[name] for name in ("encoder_token_ids", "encoder_padding_mask")}
    return keras.Model(inputs, backbone.output["encoder_sequence_output"])
