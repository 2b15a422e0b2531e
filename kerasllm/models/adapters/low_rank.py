"""Dense layers that are frozen, whole or quantized, with low-rank updates that train.

An update computes what `peft` computes: the projection is one matrix `[outputs, inputs]`, however
many axes the layer's kernel has, so that adapters go from one library to the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasllm.distribution.layouts import PACKED, SCALE
from kerasllm.models.built_layers import remove_weight, turn_into, unlocked
from kerasllm.models.kernel_layout import KernelLayout
from kerasllm.models.quantization import Quantized, quantize
from kerasllm.training.host_values import value_of


@dataclass(frozen=True)
class LowRank:
    """What an update is made like.

    Attributes:
        rank: The rank of the product of both matrices.
        alpha: How much the product counts, see `scale`.
        dropout: The rate at which the inputs of the update are dropped in training.
        rank_stabilized: Whether the scale falls with the root of the rank.
        dora: Whether direction and magnitude of each output train apart.

    Reference:
        [LoRA](https://arxiv.org/abs/2106.09685),
        [rank-stabilized LoRA](https://arxiv.org/abs/2312.03732),
        [DoRA](https://arxiv.org/abs/2402.09353).
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    rank_stabilized: bool = False
    dora: bool = False

    @property
    def scale(self) -> float:
        """What the product of both matrices is multiplied with."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)


@dataclass(frozen=True)
class Update:
    """One update of one layer.

    Attributes:
        settings: What it is made like.
        a: float32 `[rank, inputs]`.
        b: float32 `[outputs, rank]`, 0 at first, so that the update changes nothing yet.
        magnitude: With DoRA float32 `[outputs]`, at first the norm of each output's weights.
    """

    settings: LowRank
    a: keras.Variable
    b: keras.Variable
    magnitude: keras.Variable | None = None

    @property
    def variables(self) -> list[keras.Variable]:
        return [each for each in (self.a, self.b, self.magnitude) if each is not None]


class _Frozen:
    """What `FrozenDense` and `FrozenEinsumDense` add to their layers; see `freeze`."""

    @property
    def kernel(self):
        """The kernel, dequantized if need be, without updates."""
        if self.quantized is None:
            return super().kernel
        return self.layout.kernel(self.quantized.dequantized(self.compute_dtype))

    @property
    def parameter_count(self) -> int:
        """How many parameters it has, updates included, in however few bits they are held."""
        updates = [each for update in self.updates.values() for each in update.variables]
        learned = updates if self.bias is None else [*updates, self.bias]
        own = self.layout.inputs * self.layout.outputs
        return own + sum(math.prod(each.shape) for each in learned)

    def call(self, inputs, training=None):
        rows = self.layout.rows(inputs)
        base = self._multiply(rows)
        total = base
        for name in self.active:
            total += self._updated(self.updates[name], rows, base, training)
        outputs = self.layout.unrolled(total, inputs)
        if self.bias is not None:
            outputs += ops.cast(self.bias, outputs.dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def _multiply(self, rows):
        if self.quantized is not None:
            return self.quantized.product(rows)
        matrix = self.layout.matrix(ops.cast(self._kernel, rows.dtype))
        return ops.matmul(rows, ops.stop_gradient(matrix))

    def _updated(self, update: Update, rows, base, training):
        """Returns what an update adds to the product of the rows and the kernel."""
        settings = update.settings
        a, b = (ops.cast(each, rows.dtype) for each in (update.a, update.b))
        if training and settings.dropout:
            rows = keras.random.dropout(rows, settings.dropout, seed=self.update_seeds)
            # DoRA turns what it is given, and then that is the dropped inputs.
            base = self._multiply(rows) if settings.dora else base
        low = _by_transposed(rows, a)
        added = _by_transposed(low * ops.cast(settings.scale, low.dtype), b)
        if not settings.dora:
            return added
        norms = ops.stop_gradient(ops.sqrt(self._squared_norms(a, b, settings.scale)))
        turn = ops.convert_to_tensor(update.magnitude) / norms
        return ops.cast(turn - 1, base.dtype) * base + ops.cast(turn, base.dtype) * added

    def _squared_norms(self, a, b, scale: float):
        """Returns the squared norm of each output's weights with an update, float32 `[outputs]`.

        Of the squared sum, so that the sum itself, as large as the kernel, is never made.
        """
        product = ops.cast(self._multiply(a), "float32")
        a, b = ops.cast(a, "float32"), ops.cast(b, "float32")
        mixed = ops.sum(product * ops.transpose(b), 0)
        own = ops.sum(ops.matmul(b, _by_transposed(a, a)) * b, 1)
        squared = ops.convert_to_tensor(self.squared_norms) + 2 * scale * mixed + scale**2 * own
        return ops.maximum(squared, 1e-30)

    def save_own_variables(self, store):
        """Writes the layer as a plain one would be, with its active updates in the kernel."""
        store["0"] = ops.convert_to_numpy(self.layout.kernel(merged_matrix(self)))
        if self.bias is not None:
            store["1"] = self.bias

    def load_own_variables(self, store):
        """Reads the kernel of a plain layer; updates stay as they are."""
        self._set_matrix(ops.convert_to_numpy(self.layout.matrix(np.asarray(store["0"]))))
        if self.bias is not None:
            self.bias.assign(store["1"])

    def _set_matrix(self, matrix: np.ndarray) -> None:
        if self.quantized is None:
            self._kernel.assign(self.layout.kernel(matrix))
        else:
            new = quantize(matrix, self.quantized.kind)
            self.quantized.values.assign(new.values)
            self.quantized.scales.assign(new.scales)
        if self.squared_norms is not None:
            self.squared_norms.assign(np.square(base_matrix(self)).sum(0))


class FrozenDense(_Frozen, keras.layers.Dense):
    """A `Dense` layer whose kernel does not train, with updates that do; made by `freeze`."""


class FrozenEinsumDense(_Frozen, keras.layers.EinsumDense):
    """An `EinsumDense` whose kernel does not train, with updates that do; made by `freeze`."""


# Files of weights call a layer in a list by its class: there, these are what they came from.
FrozenDense.__name__, FrozenEinsumDense.__name__ = "Dense", "EinsumDense"

_FROZEN = {keras.layers.Dense: FrozenDense, keras.layers.EinsumDense: FrozenEinsumDense}
_PLAIN = {frozen: plain for plain, frozen in _FROZEN.items()}


def is_dense(layer: keras.Layer) -> bool:
    """Returns whether a layer can be frozen and take updates, or already has been."""
    return type(layer) in _FROZEN or type(layer) in _PLAIN


def is_frozen(layer: keras.Layer) -> bool:
    """Returns whether `freeze` was called with a layer."""
    return type(layer) in _PLAIN


def freeze(layer: keras.Layer, quantize_to: str | None = None) -> None:
    """Makes a built dense layer one whose kernel does not train and that takes updates.

    Args:
        layer: A `Dense` or `EinsumDense`, changed in place. One that is frozen stays as it is.
        quantize_to: `"int8"` or `"int4"`: what the kernel is held in from now on.
            Defaults to `None`: as it is.
    """
    if is_frozen(layer):
        return
    layout = KernelLayout.of(layer)
    turn_into(layer, _FROZEN[type(layer)])
    layer.layout, layer.quantized = layout, None
    layer.updates, layer.active, layer.squared_norms = {}, (), None
    for weight in (layer._kernel, layer.bias):
        if weight is not None:
            weight.trainable = False
    if quantize_to is not None:
        small = quantize(base_matrix(layer), quantize_to)
        remove_weight(layer, layer._kernel)
        with unlocked(layer):
            # Layouts tell them apart: halves of a byte are rows that are far from each other.
            name = PACKED if quantize_to == "int4" else "quantized_kernel"
            values = _weight(layer, name, small.values)
            scales = _weight(layer, SCALE, small.scales)
            layer.quantized = Quantized(quantize_to, values, scales, small.inputs)


def thaw(layer: keras.Layer) -> None:
    """Makes a frozen layer a plain one again, with its active updates in its kernel.

    The kernel has the layer's own dtype then, regardless of how it was stored.
    """
    value = layer.layout.kernel(merged_matrix(layer))
    if layer.quantized is not None:
        held = [layer.quantized.values, layer.quantized.scales]
    else:
        held = [layer._kernel]
    if layer.squared_norms is not None:
        held.append(layer.squared_norms)
    for weight in held:
        remove_weight(layer, weight)
    with unlocked(layer):
        for name in list(layer.updates):
            remove_update(layer, name)
        for attribute in ("layout", "quantized", "updates", "active", "squared_norms"):
            delattr(layer, attribute)
        turn_into(layer, _PLAIN[type(layer)])
        layer._kernel = layer.add_weight(
            name="kernel",
            shape=value.shape,
            initializer=lambda shape, dtype=None: ops.cast(value, dtype),
            trainable=False,
        )


def add_update(layer: keras.Layer, name: str, settings: LowRank, seed: int = 0) -> Update:
    """Gives a frozen layer a new update, which changes nothing yet, and makes it active.

    Args:
        layer: A layer that `freeze` was called with.
        name: What the update is called; no other of the layer may be.
        settings: What it is made like.
        seed: Of its first matrix and of its dropout. Defaults to `0`.
    """
    layout = layer.layout
    if name in layer.updates:
        raise ValueError(f"The layer already has an update with this name. Received: name={name}")
    # Uniform between -1/sqrt(inputs) and 1/sqrt(inputs), as in PEFT.
    bound = 1 / math.sqrt(layout.inputs)
    draw = np.random.default_rng(seed).uniform(-bound, bound, (settings.rank, layout.inputs))
    with unlocked(layer):
        a = _weight(layer, f"{name}_lora_a", draw.astype("float32"), trainable=True)
        zeros = np.zeros((layout.outputs, settings.rank), "float32")
        b = _weight(layer, f"{name}_lora_b", zeros, trainable=True)
        magnitude = None
        if settings.dora:
            squared = np.square(base_matrix(layer)).sum(0)
            magnitude = _weight(layer, f"{name}_magnitude", np.sqrt(squared), trainable=True)
            if layer.squared_norms is None:
                layer.squared_norms = _weight(layer, "squared_norms", squared)
        if settings.dropout and not hasattr(layer, "update_seeds"):
            layer.update_seeds = keras.random.SeedGenerator(seed)
        update = Update(settings, a, b, magnitude)
        layer.updates = {**layer.updates, name: update}
        layer.active = (*layer.active, name)
    return update


def remove_update(layer: keras.Layer, name: str) -> None:
    """Takes an update from a frozen layer."""
    update = layer.updates[name]
    layer.updates = {key: value for key, value in layer.updates.items() if key != name}
    layer.active = tuple(key for key in layer.active if key != name)
    for variable in update.variables:
        remove_weight(layer, variable)


def base_matrix(layer: keras.Layer) -> np.ndarray:
    """Returns the kernel of a frozen layer without updates, float32 `[inputs, outputs]`."""
    held = layer.quantized
    if held is not None:
        values, scales = value_of(held.values), value_of(held.scales)
        whole = Quantized(held.kind, values, scales, held.inputs)
        return ops.convert_to_numpy(whole.dequantized("float32"))
    matrix = layer.layout.matrix(value_of(layer._kernel).astype("float32"))
    return ops.convert_to_numpy(matrix)


def merged_matrix(layer: keras.Layer) -> np.ndarray:
    """Returns the kernel of a frozen layer with its active updates, float32 `[inputs, outputs]`."""
    base = base_matrix(layer)
    total = base
    for name in layer.active:
        update = layer.updates[name]
        product = update.settings.scale * (update.b.numpy() @ update.a.numpy()).T
        if update.magnitude is None:
            total = total + product
        else:
            turned = base + product
            norms = np.maximum(np.linalg.norm(turned, axis=0), 1e-15)
            total = total + update.magnitude.numpy() / norms * turned - base
    return total


def _by_transposed(rows, matrix):
    """Returns the product of rows and a matrix that is given transposed."""
    if keras.config.backend() == "tensorflow":
        return tf.matmul(rows, matrix, transpose_b=True)
    return ops.matmul(rows, ops.transpose(matrix))


def _weight(layer, name: str, value: np.ndarray, trainable: bool = False) -> keras.Variable:
    # Not cast by Keras: who uses it does, to what it needs.
    weight = layer.add_weight(
        name=name,
        shape=value.shape,
        initializer="zeros",
        dtype=value.dtype.name,
        trainable=trainable,
        autocast=False,
    )
    # Made first, and then given its value: JAX would compile this into a program for each weight,
    # and hold it whole on every device.
    weight.assign(value)
    return weight
