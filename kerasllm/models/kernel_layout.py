"""How a dense layer's kernel is a matrix: which axes are inputs and which are outputs."""

from __future__ import annotations

import math

import keras
from keras import ops


class KernelLayout:
    """Maps inputs, kernel and outputs of a dense layer to those of a product of two matrices.

    Projections of attention have kernels with an axis for heads, such as `[in, heads, size]`.
    This gives the projection as one matrix, as other libraries hold it.

    Args:
        equation: The equation of the layer: the axes of the inputs, of the kernel, of the outputs.
            An axis of the kernel is either summed over, and then in the inputs alone, or kept, and
            then in the outputs alone.
        kernel_shape: The shape of the kernel.

    Raises:
        ValueError: An equation that is not a product of two matrices.

    Example:

    ```python
    layout = KernelLayout("bquh,uhm->bqm", (4, 16, 64))
    layout.inputs, layout.outputs  # 64, 64
    ```
    """

    def __init__(self, equation: str, kernel_shape: tuple[int, ...]):
        left, self._output_labels = equation.replace(" ", "").split("->")
        self._input_labels, kernel = left.split(",")
        summed = [label for label in self._input_labels if label in kernel]
        kept = [label for label in self._output_labels if label in kernel]
        sizes = dict(zip(kernel, kernel_shape, strict=True))
        shared = set(summed) & set(kept)
        other = set(self._input_labels.replace(".", "")) - set(kernel)
        if (
            shared
            or sorted(summed + kept) != sorted(kernel)
            or not other <= set(self._output_labels)
        ):
            raise ValueError(
                "The kernel's axes must be inputs or outputs, each either, so that it is a matrix. "
                f"Received: equation={equation}"
            )
        self._summed, self._kept = summed, kept
        self._permutation = [kernel.index(label) for label in summed + kept]
        self._in_shape = [sizes[label] for label in summed]
        self._out_shape = [sizes[label] for label in kept]
        self.inputs = math.prod(self._in_shape)
        self.outputs = math.prod(self._out_shape)

    @classmethod
    def of(cls, layer: keras.layers.Dense | keras.layers.EinsumDense) -> KernelLayout:
        """Returns the layout of a built layer."""
        equation = getattr(layer, "equation", "...x,xy->...y")
        return cls(equation, tuple(layer.kernel.shape))

    @property
    def input_shape(self) -> list[int]:
        """The sizes of the input's axes that are summed over; their product is `inputs`."""
        return self._in_shape

    def matrix(self, kernel):
        """Returns a kernel as `[inputs, outputs]`."""
        return ops.reshape(_transposed(kernel, self._permutation), [self.inputs, self.outputs])

    def kernel(self, matrix):
        """Returns `[inputs, outputs]` in the shape of the kernel."""
        whole = ops.reshape(matrix, self._in_shape + self._out_shape)
        return _transposed(whole, _inverse(self._permutation))

    def rows(self, inputs):
        """Returns the inputs of a call as `[rows, inputs]`."""
        labels = _with_ellipsis(self._input_labels, len(inputs.shape))
        order = [*self._other(labels), *self._summed]
        inputs = _transposed(inputs, [labels.index(label) for label in order])
        return ops.reshape(inputs, [-1, self.inputs])

    def unrolled(self, rows, inputs):
        """Returns `[rows, outputs]` in the shape that the layer gives for these inputs."""
        labels = _with_ellipsis(self._input_labels, len(inputs.shape))
        other = self._other(labels)
        shape = ops.shape(inputs)
        rows = ops.reshape(rows, [*(shape[labels.index(x)] for x in other), *self._out_shape])
        order = [*other, *self._kept]
        wanted = _with_ellipsis(self._output_labels, len(order))
        return _transposed(rows, [order.index(label) for label in wanted])

    def _other(self, labels: list[str]) -> list[str]:
        return [label for label in labels if label not in self._summed]


def _with_ellipsis(labels: str, rank: int) -> list[str]:
    """Returns one label for each axis, where `...` stands for as many as are left."""
    if "..." not in labels:
        return list(labels)
    before, after = labels.split("...")
    count = rank - len(before) - len(after)
    return [*before, *(f"...{number}" for number in range(count)), *after]


def _transposed(tensor, permutation: list[int]):
    in_order = permutation == sorted(permutation)
    return ops.convert_to_tensor(tensor) if in_order else ops.transpose(tensor, permutation)


def _inverse(permutation: list[int]) -> list[int]:
    return [permutation.index(axis) for axis in range(len(permutation))]
