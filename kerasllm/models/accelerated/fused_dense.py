"""Dense layers that read the same inputs, as one product, with the low-rank updates of adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import keras
import tensorflow as tf

from kerasllm.models.accelerated.decoder_programs import Summed, dropping
from kerasllm.models.adapters.low_rank import FrozenDense, FrozenEinsumDense
from kerasllm.models.kernel_layout import KernelLayout


class _Update(NamedTuple):
    """A low-rank update: its layer, rank, scale and dropout rate."""

    layer: int
    rank: int
    scale: float
    rate: float


@dataclass(frozen=True)
class Dense:
    """What does not change of dense layers with the same inputs.

    Attributes:
        outputs: Of each layer.
        trains: Whether a kernel trains.
        biased: Whether they have biases.
        bias_trains: Whether a bias trains.
        updates: Their low-rank updates.
    """

    outputs: tuple[int, ...]
    trains: bool
    biased: bool
    bias_trains: bool
    updates: tuple[_Update, ...]

    @property
    def summed(self) -> Summed:
        """What `products` gives."""
        return Summed(2 if self.updates else 1, self.biased, self.bias_trains)

    def prepare(self, read: dict, dtype: tf.DType) -> dict:
        """Returns the matrices that `products` multiplies by, of what `read` gives."""
        matrices = [tf.cast(kernel, dtype) for kernel in read["kernels"]]
        found = {"matrix": _joined(matrices)}
        if self.biased:
            found["bias"] = _joined(read["biases"])
        if self.updates:
            found["low"] = tf.concat([tf.transpose(tf.cast(a, dtype)) for a in read["a"]], 1)
            high = []
            for update, b in zip(self.updates, read["b"], strict=True):
                before = sum(self.outputs[: update.layer])
                after = sum(self.outputs[update.layer + 1 :])
                scaled = tf.transpose(tf.cast(update.scale * tf.cast(b, tf.float32), dtype))
                high.append(tf.pad(scaled, [[0, 0], [before, after]]))
            found["high"] = tf.concat(high, 0)
        return found

    def products(self, x: tf.Tensor, prepared: dict, seeds: Iterator[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the summands of the product, each `[tokens, outputs]`, and the bias.

        Args:
            x: `[tokens, inputs]`.
            prepared: Of `prepare`.
            seeds: Of the dropout of each update that has one.
        """
        matrix = prepared["matrix"]
        found = [tf.matmul(x, matrix if self.trains else tf.stop_gradient(matrix))]
        bias = [prepared["bias"]] if self.biased else []
        if not self.updates:
            return [*found, *bias]
        low = prepared["low"]
        if any(update.rate for update in self.updates):
            parts = tf.split(low, [update.rank for update in self.updates], 1)
            inputs = [
                dropping(update.rate)(x, next(seeds)) if update.rate else x
                for update in self.updates
            ]
            reduced = tf.concat([tf.matmul(*pair) for pair in zip(inputs, parts, strict=True)], 1)
        else:
            reduced = tf.matmul(x, low)
        return [*found, tf.matmul(reduced, prepared["high"]), *bias]


class DenseLayers:
    """Dense layers with the same inputs.

    Args:
        layers: Each plain, or frozen with updates; see `can_fuse_dense`.
    """

    def __init__(self, layers: Sequence[keras.Layer]):
        self._layers = layers
        self._layouts = [_layout(layer) for layer in layers]

    @property
    def dense(self) -> Dense:
        """What does not change of them, as it is now."""
        updates = [
            _Update(number, update.settings.rank, update.settings.scale, update.settings.dropout)
            for number, _, update in self._updates()
        ]
        return Dense(
            tuple(layout.outputs for layout in self._layouts),
            any(_kernel_trains(layer) for layer in self._layers),
            self._layers[0].bias is not None,
            any(layer.bias is not None and layer.bias.trainable for layer in self._layers),
            tuple(updates),
        )

    def read(self) -> dict:
        """Returns the weights as they are now."""
        pairs = zip(self._layers, self._layouts, strict=True)
        kernels = [layout.matrix(tf.convert_to_tensor(layer.kernel)) for layer, layout in pairs]
        read = {"kernels": kernels}
        if self._layers[0].bias is not None:
            read["biases"] = [tf.reshape(layer.bias.value, [-1]) for layer in self._layers]
        found = [update for *_, update in self._updates()]
        if found:
            read["a"] = [tf.convert_to_tensor(update.a) for update in found]
            read["b"] = [tf.convert_to_tensor(update.b) for update in found]
        return read

    def seeds(self) -> list[tf.Tensor]:
        """Returns seeds of the dropouts of updates, each uint32 `[2]`."""
        return [
            tf.cast(layer.update_seeds.next(), tf.uint32)
            for _, layer, update in self._updates()
            if update.settings.dropout
        ]

    def _updates(self) -> Iterator[tuple]:
        for number, layer in enumerate(self._layers):
            for name in layer.active if isinstance(layer, _FROZEN) else ():
                yield number, layer, layer.updates[name]


_FROZEN = (FrozenDense, FrozenEinsumDense)


def can_fuse_dense(layer: keras.Layer) -> bool:
    """Returns whether `DenseLayers` computes a layer: not one that is quantized, nor DoRA."""
    if isinstance(layer, _FROZEN):
        dora = any(update.settings.dora for update in layer.updates.values())
        return layer.quantized is None and not dora
    plain = type(layer) in (keras.layers.Dense, keras.layers.EinsumDense)
    return plain and layer.quantization_mode is None


def _layout(layer: keras.Layer) -> KernelLayout:
    return layer.layout if isinstance(layer, _FROZEN) else KernelLayout.of(layer)


def _kernel_trains(layer: keras.Layer) -> bool:
    if isinstance(layer, _FROZEN):
        return False
    # Or a low-rank update of Keras', which is part of what it gives as its kernel.
    return any(weight.trainable for weight in layer.weights if weight is not layer.bias)


def _joined(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, -1)
