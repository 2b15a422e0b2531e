"""Quantized matrices: their errors are bounded, and products and gradients are those of them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.python.eager import context

from kerasllm.models.quantization import BLOCK, KINDS, Quantized, quantize

# Scales of 4 bits are float16: 2**-14 is the least of its normal numbers.
ENTRIES = st.floats(-100, 100, width=32).map(lambda x: x if abs(x) > 1e-2 else 0.0)
MATRICES = arrays.arrays(
    "float32", st.tuples(st.integers(1, 140), st.integers(1, 3)), elements=ENTRIES
)


def matrix_of(inputs, outputs=6):
    return np.random.default_rng(inputs).normal(0, 0.1, (inputs, outputs)).astype("float32")


@settings(max_examples=60, deadline=None)
@given(MATRICES)
def test_int8_is_off_by_half_a_level_at_most(matrix):
    error = np.abs(quantize(matrix, "int8").dequantized() - matrix)
    assert (error <= np.abs(matrix).max(0) / 127 * 0.5001 + 1e-6).all()


@settings(max_examples=60, deadline=None)
@given(MATRICES)
def test_int4_is_off_by_one_level_of_its_block_at_most(matrix):
    error = np.abs(quantize(matrix, "int4").dequantized() - matrix)
    for start in range(0, len(matrix), BLOCK):
        block = slice(start, start + BLOCK)
        level = np.abs(matrix[block]).max(0) / 8
        assert (error[block] <= level * 1.01).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", [1, 64, 100, 192])
def test_quantizing_again_changes_nothing(kind, inputs):
    once = quantize(matrix_of(inputs), kind).dequantized().numpy()
    np.testing.assert_allclose(quantize(once, kind).dequantized(), once, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros(kind):
    assert not np.any(quantize(np.zeros((70, 2)), kind).dequantized())


def test_bytes_a_weight():
    matrix = matrix_of(640, 64)
    eight, four = (quantize(matrix, kind) for kind in KINDS)
    assert eight.values.nbytes + eight.scales.nbytes == 640 * 64 + 4 * 64
    assert four.values.nbytes + four.scales.nbytes == 640 * 64 / 2 + 2 * 10 * 64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", [64, 100])
@pytest.mark.parametrize("jit", [False, True])
def test_a_product_and_its_gradient_are_those_of_the_dequantized_matrix(kind, inputs, jit):
    quantized = quantize(matrix_of(inputs), kind)
    matrix = quantized.dequantized()
    rows = tf.constant(np.random.default_rng(0).normal(size=(3, inputs)), tf.float32)

    @tf.function(jit_compile=jit)
    def run(product):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            outputs = product(rows)
            loss = tf.reduce_sum(outputs**2)
        return outputs, tape.gradient(loss, rows)

    for ours, expected in zip(run(quantized.product), run(lambda x: x @ matrix), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_backward_pass_holds_no_dequantized_copy(kind):
    """The optimizer of graphs leaves two dequantizations a matrix: nothing is kept between."""
    small = [quantize(matrix_of(64, 64), kind) for _ in range(2)]
    held = [
        Quantized(kind, tf.Variable(each.values), tf.Variable(each.scales), each.inputs)
        for each in small
    ]

    @tf.function
    def run(rows):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            outputs = tf.tanh(held[1].product(tf.tanh(held[0].product(rows))))
        return tape.gradient(outputs, rows)

    context.enable_run_metadata()
    run(tf.zeros((2, 64)))
    graphs = context.export_run_metadata().function_graphs
    context.disable_run_metadata()
    nodes = [node for graph in graphs for node in graph.post_optimization_graph.node]
    stored = held[0].values.dtype.as_datatype_enum
    casts = [node for node in nodes if node.op == "Cast" and node.attr["SrcT"].type == stored]
    assert len(casts) == 4
