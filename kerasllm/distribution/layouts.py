"""Layouts of a sharded model's variables: which axis of the device mesh each dimension is split by.

They follow from the shapes alone, so that a family that nobody has listed is split as well. The
mesh has two axes. `data` splits the rows of a batch, and beside them the weights, the gradients and
the optimizer's state, so that no device holds a whole model (FSDP). `model` splits attention by
heads and feed-forward layers by their inner width (tensor parallelism).

Nothing here imports JAX: shapes go in, names of axes come out.

References:
    [Fully Sharded Data Parallel](https://arxiv.org/abs/2304.11277),
    [Megatron-LM](https://arxiv.org/abs/1909.08053), [GSPMD](https://arxiv.org/abs/2105.04663)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DATA, MODEL = "data", "model"

# Biases and the scales of norms: splitting one saves nothing, and costs a transfer in each layer.
_SMALL_VECTOR = 1 << 16
# From so many bytes on a variable that every device holds whole is a fault.
LARGE = 1 << 20

# The kernel of a dense layer in 4 bits. Each byte holds a weight of the upper half of its rows and
# one of the lower half, so a range of the bytes is not a range of the rows.
PACKED = "packed_kernel"
# The scales of a kernel in 4 or 8 bits: few enough to be gathered.
SCALE = "kernel_scale"

Axes = tuple[tuple[str, ...], ...]


def axes_of(shape: tuple[int, ...], mesh: Mapping[str, int]) -> Axes:
    """Returns the axes of the mesh that split each dimension of a variable.

    A dimension is split into equal parts or not at all. Of all ways the one is taken that leaves
    the least on each device; then the one that gives the axis `model` the heads of an attention
    kernel, or the larger dimension of any other matrix, which is the inner width of a feed-forward
    layer and the vocabulary of an embedding.

    Args:
        shape: The variable's shape.
        mesh: Devices along each axis, by its name.

    Returns:
        For each dimension the names of the axes that split it, `()` where none does.

    Example:

    >>> axes_of((384, 1536), {"data": 2, "model": 4})
    (('data',), ('model',))
    >>> axes_of((384,), {"data": 2, "model": 4})
    ((),)
    """
    whole: Axes = ((),) * len(shape)
    if len(shape) < 2 and math.prod(shape) < _SMALL_VECTOR:
        return whole
    axes = [axis for axis in (DATA, MODEL) if mesh.get(axis, 1) > 1]
    wanted = _of_model(shape)

    def rank(places: tuple[int | None, ...]) -> tuple:
        found = dict(zip(axes, places, strict=True))
        parts = math.prod(mesh[axis] for axis, place in found.items() if place is not None)
        apart = len(set(places)) == len(places)
        first = tuple(-1 if place is None else -place for place in places)
        return parts, found.get(MODEL) == wanted, apart, first

    choices = [
        places
        for places in itertools.product((None, *range(len(shape))), repeat=len(axes))
        if _divides(shape, axes, places, mesh)
    ]
    chosen = max(choices, key=rank)
    return tuple(
        tuple(axis for axis, place in zip(axes, chosen, strict=True) if place == dimension)
        for dimension in range(len(shape))
    )


def computed_axes(name: str, axes: Axes) -> Axes:
    """Returns the axes that split a variable while a step computes with it.

    What `data` splits is gathered for as long as a layer needs it: the rows of a batch are split by
    that axis. The axis `model` stays where the parts of a layer are computed apart: heads, the
    inner width, the vocabulary.

    Args:
        name: The variable's own name, such as `kernel`.
        axes: What `axes_of` returns.
    """
    shared = _of_model_axis(name, axes)
    return tuple((MODEL,) if dimension == shared else () for dimension in range(len(axes)))


def _of_model_axis(name: str, axes: Axes) -> int | None:
    found = [dimension for dimension, names in enumerate(axes) if MODEL in names]
    if not found:
        return None
    # Gathered, a weight still takes 4 bits, and each device dequantizes a part of the kernel.
    if name == SCALE or (name == PACKED and found != [len(axes) - 1]):
        return None
    # A table is read by its rows.
    kept = "kernel" in name or ("embeddings" in name and found == [0])
    return found[0] if kept else None


def _of_model(shape: tuple[int, ...]) -> int | None:
    """Returns the dimension that tensor parallelism splits; `None` where the shape does not say."""
    largest = max(range(len(shape)), key=shape.__getitem__)
    if shape.count(shape[largest]) > 1:
        return None
    if len(shape) == 3:
        # Projections of attention, `[width, heads, size]` and `[heads, size, width]`.
        return {0: 1, 2: 0}.get(largest)
    return largest


def _divides(
    shape: tuple[int, ...],
    axes: list[str],
    places: tuple[int | None, ...],
    mesh: Mapping[str, int],
) -> bool:
    parts = [1] * len(shape)
    for axis, place in zip(axes, places, strict=True):
        if place is not None:
            parts[place] *= mesh[axis]
    return all(size % count == 0 for size, count in zip(shape, parts, strict=True))


@dataclass(frozen=True)
class Layout:
    """How one variable lies on the devices.

    Attributes:
        path: The variable's path.
        shape: Its shape.
        axes: See `axes_of`.
        itemsize: Bytes of a number.
        parts: Different parts that it is split into; 1: every device holds all of it.
    """

    path: str
    shape: tuple[int, ...]
    axes: Axes
    itemsize: int
    parts: int

    @property
    def bytes(self) -> int:
        """Bytes of the whole variable."""
        return math.prod(self.shape) * self.itemsize

    @property
    def device_bytes(self) -> int:
        """Bytes of it on each device."""
        return self.bytes // self.parts

    @property
    def is_large(self) -> bool:
        """Whether its memory matters."""
        return self.bytes >= LARGE

    def __str__(self) -> str:
        """Returns the shape with the axes that split it, such as `384/data x 1536/model`."""
        named = zip(self.shape, self.axes, strict=True)
        return " x ".join("/".join([str(size), *axes]) for size, axes in named)


def layouts_of(variables: Iterable[Any], mesh: Mapping[str, int]) -> list[Layout]:
    """Returns the layout of each variable.

    Args:
        variables: Keras variables, or other objects with a `path`, a `shape` and a `dtype`.
        mesh: Devices along each axis, by its name.
    """
    found = []
    for variable in variables:
        shape = tuple(variable.shape)
        axes = axes_of(shape, mesh)
        parts = math.prod(mesh[axis] for names in axes for axis in names)
        found.append(Layout(variable.path, shape, axes, _itemsize(str(variable.dtype)), parts))
    return found


def replicated(layouts: Iterable[Layout], devices: int) -> list[Layout]:
    """Returns the large variables that every one of several devices holds whole."""
    return [each for each in layouts if devices > 1 and each.is_large and each.parts == 1]


def _itemsize(dtype: str) -> int:
    digits = "".join(each for each in dtype.split("_")[0] if each.isdecimal())
    return max(int(digits) // 8, 1) if digits else 1
