"""Any projection's kernel is one matrix, and its call one product."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.models.kernel_layout import KernelLayout


@st.composite
def projections(draw):
    """An equation with axes in any order, and shapes of inputs and kernel."""
    count = draw(st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)))
    batch, summed, kept = "ab"[: count[0]], "mn"[: count[1]], "xy"[: count[2]]
    mixed = [
        "".join(draw(st.permutations(axes)))
        for axes in (batch + summed, summed + kept, batch + kept)
    ]
    sizes = {axis: draw(st.integers(1, 3)) for axis in batch + summed + kept}
    shapes = [tuple(sizes[axis] for axis in axes) for axes in mixed[:2]]
    return f"{mixed[0]},{mixed[1]}->{mixed[2]}", *shapes


@settings(max_examples=60, deadline=None)
@given(projections())
def test_rows_times_matrix_is_what_einsum_gives(case):
    equation, input_shape, kernel_shape = case
    rng = np.random.default_rng(0)
    inputs, kernel = rng.normal(size=input_shape), rng.normal(size=kernel_shape)
    layout = KernelLayout(equation, kernel_shape)
    matrix = layout.matrix(kernel)
    np.testing.assert_array_equal(layout.kernel(matrix), kernel)
    rows = layout.rows(inputs) @ matrix
    np.testing.assert_allclose(
        layout.unrolled(rows, inputs), np.einsum(equation, inputs, kernel), atol=1e-12
    )


@pytest.mark.parametrize("shape", [(2,), (3, 2), (4, 3, 2), (1, 4, 3, 2)])
def test_an_ellipsis_stands_for_any_number_of_axes(shape):
    layer = keras.layers.Dense(5)
    inputs = np.random.default_rng(0).normal(size=(1, *shape)).astype("float32")
    expected = np.asarray(layer(inputs))
    layout = KernelLayout.of(layer)
    rows = layout.rows(inputs) @ layout.matrix(layer.kernel)
    np.testing.assert_allclose(layout.unrolled(rows, inputs), expected, atol=1e-6)


def test_heads_are_outputs_side_by_side():
    layout = KernelLayout("btd,ndh->btnh", (3, 5, 2))
    kernel = np.arange(30.0).reshape(3, 5, 2)
    expected = np.concatenate(list(kernel), axis=1)
    np.testing.assert_array_equal(layout.matrix(kernel), expected)


@pytest.mark.parametrize("equation", ["ab,ab->ab", "abc,ac->ab", "ab,c->ac", "ab,bc->bc"])
def test_what_is_no_matrix_is_refused(equation):
    with pytest.raises(ValueError, match="so that it is a matrix"):
        KernelLayout(equation, (2,) * len(equation.split("->")[0].split(",")[1]))
