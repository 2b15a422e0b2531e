"""Layouts follow from shapes: all that is large is split, and what is not is named."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.distribution.layouts import (
    LARGE,
    axes_of,
    computed_axes,
    layouts_of,
    replicated,
)

# Of a Llama of 8 billion weights: embedding, queries, keys of grouped heads, output, feed-forward.
SHAPES = [
    (128256, 4096),
    (4096, 32, 128),
    (4096, 8, 128),
    (32, 128, 4096),
    (4096, 14336),
    (14336, 4096),
]
MESHES = [
    {"data": data, "model": model} for data, model in ((4, 1), (1, 4), (2, 2), (2, 4), (8, 8))
]


def variable(shape, path="layer/kernel", dtype="float32"):
    return SimpleNamespace(shape=shape, path=path, dtype=dtype)


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_every_matrix_of_a_large_model_is_split_over_all_devices(mesh):
    for layout in layouts_of(map(variable, SHAPES), mesh):
        assert layout.parts == math.prod(mesh.values()), layout
        assert layout.device_bytes * layout.parts == layout.bytes


def test_the_axis_model_splits_heads_and_the_inner_width():
    mesh = {"data": 2, "model": 4}
    assert axes_of((4096, 32, 128), mesh) == (("data",), ("model",), ())
    assert axes_of((32, 128, 4096), mesh) == (("model",), ("data",), ())
    assert axes_of((4096, 14336), mesh) == (("data",), ("model",))
    assert axes_of((14336, 4096), mesh) == (("model",), ("data",))
    # Three heads of keys are no multiple of four: their size is.
    assert axes_of((576, 3, 64), mesh) == (("data",), (), ("model",))


def test_a_step_computes_without_what_the_axis_data_splits():
    mesh = {"data": 2, "model": 4}

    def of(name, shape):
        return computed_axes(name, axes_of(shape, mesh))

    assert of("kernel", (4096, 14336)) == ((), ("model",))
    assert of("kernel", (32, 128, 4096)) == (("model",), (), ())
    assert of("embeddings", (30000, 384)) == (("model",), ())
    # Its rows are read: split along the width, the hidden states would be.
    assert of("embeddings", (2, 384)) == ((), ())


def test_a_quantized_kernel_is_computed_with_by_its_outputs_or_as_a_whole():
    mesh = {"data": 2, "model": 4}

    def of(name, shape):
        axes = axes_of(shape, mesh)
        assert {"data", "model"} == {axis for names in axes for axis in names}
        return computed_axes(name, axes)

    # Of a feed-forward layer of 4096 x 14336 and back.
    assert of("quantized_kernel", (4096, 14336)) == ((), ("model",))
    assert of("quantized_kernel", (14336, 4096)) == (("model",), ())
    assert of("packed_kernel", (2048, 14336)) == ((), ("model",))
    # Halves of a byte are rows that are far from each other.
    assert of("packed_kernel", (7168, 4096)) == ((), ())
    assert of("kernel_scale", (64, 14336)) == of("kernel_scale", (224, 4096)) == ((), ())


def test_vectors_stay_whole_and_are_small():
    [layout] = layouts_of([variable((4096,))], {"data": 4, "model": 1})
    assert layout.parts == 1 and not layout.is_large
    assert replicated([layout], 4) == []


def test_a_large_variable_that_no_axis_divides_is_told():
    odd, even = layouts_of(
        [variable((50257, 1021), "token/embeddings"), variable((50256, 1021))],
        {"data": 4, "model": 1},
    )
    assert odd.is_large and replicated([odd, even], 4) == [odd]
    assert replicated([odd, even], 1) == []


def test_a_layout_reads_as_its_shape_with_the_axes():
    [layout] = layouts_of([variable((384, 1536))], {"data": 2, "model": 4})
    assert str(layout) == "384/data x 1536/model"


@given(
    st.lists(st.integers(1, 100), max_size=4),
    st.integers(1, 8),
    st.integers(1, 8),
    st.sampled_from(["float32", "bfloat16", "int8", "bool"]),
)
def test_parts_are_equal_whatever_the_shape(shape, data, model, dtype):
    mesh = {"data": data, "model": model}
    [layout] = layouts_of([variable(tuple(shape), dtype=dtype)], mesh)
    for size, names in zip(shape, layout.axes, strict=True):
        assert size % math.prod(mesh[name] for name in names) == 0
    used = [name for names in layout.axes for name in names]
    assert len(used) == len(set(used))
    assert layout.device_bytes * layout.parts == layout.bytes
    assert layout.is_large == (layout.bytes >= LARGE)
