"""A decoder's layer as a function of its weights, one for all layers of a model that are alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import keras_hub
import tensorflow as tf

from kerasllm.models.accelerated.decoder_programs import (
    Norm,
    activating,
    adding,
    attending,
    dropping,
    gating,
    splitting,
)
from kerasllm.models.accelerated.fused_dense import Dense, DenseLayers
from kerasllm.models.layers import walk


@dataclass(frozen=True)
class LayerKind:
    """What layers that are alike have in common: all but their weights.

    Attributes:
        shape: Heads of queries, of keys and values, and their size.
        window: How many tokens a token sees, itself among them. `None`: all before it.
        heads: Queries, keys and values.
        output: What follows the heads.
        inner: The first part of the feed-forward part, with its gate before it, if it has one.
        outer: The second one.
        activation: Of the inner part, where there is no gate.
        norms: Of queries and of keys, or none.
        second: The norm after the attention.
        following: The one after the layer, which is the first of the next layer.
        rates: Of the dropouts: of scores, of what the heads give, after the attention, and after
            the feed-forward part.
        rotary: Whether positions turn queries and keys.
        dtype: What is computed in.
    """

    shape: tuple[int, int, int]
    window: int | None
    heads: Dense
    output: Dense
    inner: tuple[Dense, ...]
    outer: Dense
    activation: Callable | None
    norms: tuple[Norm, ...]
    second: Norm
    following: Norm
    rates: tuple[float, float, float, float]
    rotary: bool
    dtype: tf.DType

    def prepare(self, read: dict) -> dict:
        """Returns the weights of a layer as they are computed with, of what `read` gives."""
        pairs = zip((self.heads, self.output, *self.inner, self.outer), read["dense"], strict=True)
        return {**read, "dense": [dense.prepare(each, self.dtype) for dense, each in pairs]}

    def compute(self, x, normed, weights: dict, seeds: list, shared: dict):
        """Returns what a layer gives, `[tokens, width]`, and what its following norm makes of it.

        Args:
            x: What the layer before gave.
            normed: What the first norm made of it.
            weights: Of `prepare`.
            seeds: Of `DecoderLayer.seeds`.
            shared: What all layers share: `places`, `segments`, and the batch's `token_ids`, for
                their shape.
        """
        seeds = iter(seeds)
        of_heads, of_output, *of_inner, of_outer = weights["dense"]
        mixed = self._attend(normed, of_heads, weights["norms"], seeds, shared)
        after_attention, after_all = self.rates[2:]
        x, normed = self._add(
            x, mixed, self.output, of_output, self.second, weights["second"], after_attention, seeds
        )
        inner = [
            dense.products(normed, each, seeds)
            for dense, each in zip(self.inner, of_inner, strict=True)
        ]
        sums = [dense.summed for dense in self.inner]
        if self.activation is None:
            activate = gating(*sums, self.dtype)
        else:
            activate = activating(*sums, self.activation, self.dtype)
        inner = activate(*(tensor for each in inner for tensor in each))
        norm = weights["following"]
        return self._add(x, inner, self.outer, of_outer, self.following, norm, after_all, seeds)

    def _attend(self, normed, weights, norms, seeds, shared) -> tf.Tensor:
        queries, keys, size = self.shape
        rows, length = sizes_of(shared["token_ids"])
        found = self.heads.products(normed, weights, seeds)
        summed = self.heads.summed
        shape = [rows, length, queries + 2 * keys, size]
        found[: summed.summands] = [tf.reshape(x, shape) for x in found[: summed.summands]]
        split = splitting(summed, self.shape, self.rotary, self.norms, self.dtype)
        query, key, value = split(*shared["places"], *found, *norms)
        scores = tf.matmul(query, key, transpose_b=True)
        scores = tf.reshape(scores, [rows, queries, length, length])
        packed = bool(shared["segments"])
        of_scores, of_mixed, *_ = self.rates
        attend = attending(1 / math.sqrt(size), of_scores, self.window, packed, self.dtype)
        scores = attend(scores, _seed(of_scores, seeds), *shared["segments"])
        mixed = tf.matmul(tf.reshape(scores, [rows * keys, -1, length]), value)
        mixed = tf.reshape(mixed, [rows, queries, length, size])
        mixed = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [rows * length, queries * size])
        return dropping(of_mixed)(mixed, next(seeds)) if of_mixed else mixed

    def _add(self, x, inputs, dense: Dense, weights, norm: Norm, parts, rate: float, seeds):
        found = dense.products(inputs, weights, seeds)
        add = adding(dense.summed, rate, norm, self.dtype)
        return add(x, _seed(rate, seeds), *found, *parts)


class NormLayer:
    """A norm of KerasHub or Keras."""

    def __init__(self, layer: keras.Layer):
        self._layer = layer
        plain = isinstance(layer, keras.layers.LayerNormalization)
        self._weights = [layer.gamma, layer.beta] if plain else [layer.scale]

    @property
    def norm(self) -> Norm:
        """What does not change of it."""
        trains = any(weight.trainable for weight in self._weights)
        return Norm(len(self._weights), self._layer.epsilon, trains)

    def read(self) -> list[tf.Tensor]:
        """Returns its scale and, where there is one, its shift."""
        return [tf.convert_to_tensor(weight.value) for weight in self._weights]


class DecoderLayer:
    """A transformer layer of KerasHub's decoders.

    Args:
        layer: The layer.
        dtype: What it computes in.

    Attributes:
        norm: The one before its attention.
    """

    def __init__(self, layer: keras.Layer, dtype: tf.DType):
        self._layer, self._dtype = layer, dtype
        inside = list(walk([layer]))
        found = {each.name: each for each in inside}
        attention = f"{layer.path}/self_attention/"
        by_path = {each.path: each for each in inside}
        dense = [by_path[attention + name] for name in ("query", "key", "value")]
        self._heads = DenseLayers(dense)
        self._output = DenseLayers([by_path[f"{attention}attention_output"]])
        gate = found.get("feedforward_gate_dense")
        inner = found["feedforward_intermediate_dense"]
        self._inner = [DenseLayers([each]) for each in (gate, inner) if each is not None]
        self._outer = DenseLayers([found["feedforward_output_dense"]])
        # KerasHub spells it in two ways.
        ends = "layernorm" if gate is not None else "layer_norm"
        self.norm = NormLayer(found[f"self_attention_{ends}"])
        self._second = NormLayer(found[f"feedforward_{ends}"])
        of_heads = ("query_dense_layernorm", "key_dense_layernorm")
        self._norms = [NormLayer(found[name]) for name in of_heads if name in found]
        self._activation = None if gate is not None else inner.activation
        rotary = [each for each in inside if isinstance(each, keras_hub.layers.RotaryEmbedding)]
        self._rotary = rotary[0] if rotary else None
        counts = [each.kernel.shape[1] for each in dense[:2]]
        self._shape = (*counts, dense[0].kernel.shape[2])
        dropouts = {each.name: each for each in inside if isinstance(each, keras.layers.Dropout)}
        parts = "self_attention", "feedforward"
        after = [dropouts.pop(f"{part}_dropout", None) for part in parts]
        [within] = dropouts.values()
        # Llama and its like drop of what the heads give, GPT-2 of their scores.
        self._dropouts = [None, within, *after] if gate is not None else [within, None, *after]

    def kind(self, following: NormLayer) -> LayerKind:
        """Returns what it has in common with others, with the norm that follows it."""
        return LayerKind(
            shape=self._shape,
            window=_window(self._layer),
            heads=self._heads.dense,
            output=self._output.dense,
            inner=tuple(each.dense for each in self._inner),
            outer=self._outer.dense,
            activation=self._activation,
            norms=tuple(each.norm for each in self._norms),
            second=self._second.norm,
            following=following.norm,
            rates=tuple(0.0 if each is None else each.rate for each in self._dropouts),
            rotary=self._rotary is not None,
            dtype=self._dtype,
        )

    def read(self, following: NormLayer) -> dict:
        """Returns the weights as they are now."""
        dense = (self._heads, self._output, *self._inner, self._outer)
        return {
            "dense": [each.read() for each in dense],
            "norms": [part for each in self._norms for part in each.read()],
            "second": self._second.read(),
            "following": following.read(),
        }

    def seeds(self) -> list[tf.Tensor]:
        """Returns a seed for each dropout, uint32 `[2]`, in the order in which they are drawn."""
        of_scores, of_mixed, after_attention, after_all = map(_seeds_of, self._dropouts)
        inner = [seed for each in self._inner for seed in each.seeds()]
        return [
            *(*self._heads.seeds(), *of_scores, *of_mixed),
            *(*self._output.seeds(), *after_attention),
            *(*inner, *self._outer.seeds(), *after_all),
        ]

    def places(self, length) -> list[tf.Tensor]:
        """Returns cosines and sines of the positions, each `[length, size / 2]`."""
        half = self._shape[2] // 2
        if self._rotary is None:
            return [tf.zeros([0], self._dtype)] * 2
        # Half ones, half zeros: turned, they are cosines and sines.
        whole = tf.concat([tf.ones([length, half]), tf.zeros([length, half])], 1)
        turned = self._rotary(tf.cast(whole, self._dtype)[None, :, None])[0, :, 0]
        return tf.split(turned, 2, -1)


def recomputed(function: Callable) -> Callable:
    """Returns a function whose gradient computes it again, instead of keeping what it computed.

    Args:
        function: Takes and returns structures of tensors; a list of tensors is returned.
    """

    @tf.function(autograph=False)
    def backward(structure, upstream):
        # Nothing else keeps it from being computed before its gradient is wanted.
        with tf.control_dependencies(upstream):
            again = tf.nest.map_structure(tf.identity, structure)
        watched = [each for each in tf.nest.flatten(again) if each.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = function(*again)
        return tape.gradient(outputs, watched, upstream)

    def call(*arguments):
        @tf.custom_gradient
        def of_flat(*flat):
            packed = tf.nest.pack_sequence_as(arguments, flat)
            outputs = function(*tf.nest.map_structure(tf.stop_gradient, packed))

            def gradient(*upstream):
                found = iter(backward(packed, list(upstream)))
                return [next(found) if each.dtype.is_floating else None for each in flat]

            return outputs, gradient

        return of_flat(*tf.nest.flatten(arguments))

    return call


def sizes_of(tensor: tf.Tensor) -> list:
    """Returns the sizes of a tensor: a number, or a scalar tensor if it is unknown yet."""
    found = tf.shape(tensor)
    return [found[i] if size is None else size for i, size in enumerate(tensor.shape)]


def _seed(rate: float, seeds: Iterator[tf.Tensor]) -> tf.Tensor:
    return next(seeds) if rate else tf.zeros([2], tf.uint32)


def _seeds_of(layer: keras.layers.Dropout | None) -> list[tf.Tensor]:
    if layer is None or not layer.rate:
        return []
    return [tf.cast(layer.seed_generator.next(), tf.uint32)]


def _window(layer: keras.Layer) -> int | None:
    """Returns how far back a layer looks: Mistral and Qwen name it differently."""
    if not getattr(layer, "use_sliding_window_attention", True):
        return None
    window = getattr(layer, "sliding_window", None) or getattr(layer, "sliding_window_size", None)
    return window or None
