"""A decoder's forward pass for training on a CPU: products by oneDNN, all else fused by XLA.

The weights are those of the KerasHub backbone, and so are the numbers, to rounding; dropout draws
other elements. A layer is one function, which TensorFlow traces once for all layers that are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import keras
import keras_hub
import tensorflow as tf

from kerasllm.models.accelerated.decoder_layer import (
    DecoderLayer,
    LayerKind,
    NormLayer,
    recomputed,
    sizes_of,
)
from kerasllm.models.accelerated.decoder_programs import normalising
from kerasllm.models.accelerated.fused_dense import can_fuse_dense
from kerasllm.models.accelerated.fused_loss import fused_loss
from kerasllm.models.decoder_forward import can_be_walked, positions_in_segments
from kerasllm.models.layers import walk


def can_fuse(backbone: keras_hub.models.Backbone) -> bool:
    """Returns whether `FusedDecoder` computes a backbone: GPT-2, Llama, Mistral, Qwen 2 and 3.

    Not those whose kernels are quantized, and not DoRA.
    """
    if not can_be_walked(backbone):
        return False
    head = backbone.token_embedding
    plain = head.logit_soft_cap is None and head.reverse_dtype is None
    dense = [each for each in walk(backbone.transformer_layers) if hasattr(each, "kernel")]
    return plain and head.quantization_mode is None and all(map(can_fuse_dense, dense))


class FusedDecoder:
    """Computes what a decoder's last layer gives in training, and the loss; see `can_fuse`.

    `tests/models/accelerated/test_fused_decoder.py` compares both and their gradients with those of
    KerasHub's own layers, and so fails when KerasHub changes what this file relies on.

    Args:
        backbone: The decoder.
    """

    def __init__(self, backbone: keras_hub.models.Backbone):
        self._backbone = backbone
        self._dtype = tf.as_dtype(backbone.compute_dtype)
        self._embedding = backbone.token_embedding
        layers = [DecoderLayer(layer, self._dtype) for layer in backbone.transformer_layers]
        self._first = layers[0].norm
        following = [*(layer.norm for layer in layers[1:]), NormLayer(backbone.layer_norm)]
        self._blocks = list(zip(layers, following, strict=True))
        self._functions = {}
        self._given = None

    def matrices(self) -> list[tf.Tensor]:
        """Returns all weights but the embeddings of tokens, as they are computed with."""
        return tf.nest.flatten(self._prepared())

    @contextmanager
    def given(self, matrices: Sequence[tf.Tensor]) -> Iterator[None]:
        """Lets the calls in the block reuse what `matrices` returned."""
        self._given = tf.nest.pack_sequence_as(self._structure, matrices)
        try:
            yield
        finally:
            self._given = None

    def __call__(self, token_ids, segment_ids=None, *, rematerialize: bool = False) -> tf.Tensor:
        """Computes what the last layer gives, with dropout; see `decoder_forward.hidden_states`.

        Args:
            token_ids: int32 `[rows, length]`.
            segment_ids: int32 `[rows, length]`. Defaults to `None`: a row is one text.
            rematerialize: Whether the backward pass computes each layer again. Defaults to `False`.

        Returns:
            `[rows, length, width]`.
        """
        prepared = self._prepared() if self._given is None else self._given
        rows, length = sizes_of(token_ids)
        x = self._embed(token_ids, segment_ids)
        width = x.shape[-1]
        x = tf.reshape(x, [-1, width])
        shared = {
            "places": self._blocks[0][0].places(length),
            "segments": () if segment_ids is None else (segment_ids,),
            "token_ids": token_ids,
        }
        normed = normalising(self._first.norm, self._dtype)(x, *prepared["first"])
        for (layer, norm), weights in zip(self._blocks, prepared["blocks"], strict=True):
            compute = self._once(layer.kind(norm), rematerialize)
            x, normed = compute(x, normed, weights, layer.seeds(), shared)
        return tf.reshape(normed, [rows, length, width])

    def loss(self, hidden, y, share, *, loss: keras.losses.Loss, tokens: int):
        """Returns the loss and hits as `kerasllm.training.chunked_loss` does.

        Args:
            hidden: Of a call, `[rows, length, width]`.
            y: int32 `[rows, length]`, the target tokens.
            share: float32 `[rows, length]`, the part of the loss that each target makes up.
            loss: A Keras loss on logits whose reduction is `"sum"`.
            tokens: How many tokens' logits are in memory at once.
        """
        prepared = self._prepared() if self._given is None else self._given
        return fused_loss(
            hidden,
            y,
            share,
            prepared["head"],
            tied=self._embedding.tie_weights,
            trains=self._head.trainable,
            loss=loss,
            tokens=tokens,
        )

    @property
    def _head(self) -> keras.Variable:
        embedding = self._embedding
        return embedding.embeddings if embedding.tie_weights else embedding.reverse_embeddings

    def _prepared(self) -> dict:
        prepared = {
            "first": self._first.read(),
            "blocks": [layer.kind(norm).prepare(layer.read(norm)) for layer, norm in self._blocks],
            # A variable of this dtype would stay one.
            "head": tf.cast(tf.convert_to_tensor(self._head.value), self._dtype),
        }
        self._structure = tf.nest.map_structure(lambda _: 0, prepared)
        return prepared

    def _embed(self, token_ids, segment_ids) -> tf.Tensor:
        embeddings = self._embedding.embeddings
        x = tf.cast(tf.gather(embeddings.value, token_ids), self._dtype)
        x = x if embeddings.trainable else tf.stop_gradient(x)
        backbone = self._backbone
        if not isinstance(backbone, keras_hub.models.GPT2Backbone):
            return x
        positions = None
        if segment_ids is not None:
            same = tf.cast(segment_ids[:, :, None] == segment_ids[:, None, :], tf.int32)
            positions = positions_in_segments(same)
        x = backbone.embeddings_add((x, backbone.position_embedding(x, positions=positions)))
        return backbone.embeddings_dropout(x, training=True)

    def _once(self, kind: LayerKind, rematerialize: bool) -> Callable:
        """Returns what computes a kind of layer, a function that is traced once for all of them."""
        key = (kind, rematerialize)
        if key not in self._functions:
            traced = tf.function(lambda *arguments: kind.compute(*arguments), autograph=False)
            self._functions[key] = recomputed(traced) if rematerialize else traced
        return self._functions[key]
