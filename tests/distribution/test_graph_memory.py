"""The peak of a function's memory is told from its graph."""

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.distribution.graph_memory import operation_count, peak_of

SIDE = 64
MATRIX = SIDE * SIDE * 4
# Scalars, shapes and axes, which stand beside the matrices.
SMALL = 256


def matrices_of(function, inputs: int = 1) -> float:
    """Returns the peak of a function of float32 matrices, in matrices, its inputs included."""
    specs = [tf.TensorSpec([SIDE, SIDE])] * inputs
    peak = peak_of(tf.function(function).get_concrete_function(*specs))
    assert peak % (MATRIX // 2) <= SMALL
    return peak // (MATRIX // 2) / 2


def squared(x, times):
    for _ in range(times):
        x = tf.matmul(x, x)
    return x


def test_a_chain_holds_two_links_at_a_time():
    assert matrices_of(lambda x: squared(x, 6)) == 1 + 2


def test_what_is_read_again_later_is_kept():
    def diamond(x):
        first = squared(x, 1)
        return tf.matmul(squared(first, 3), first)

    assert matrices_of(diamond) == 1 + 3


def test_the_backward_pass_needs_what_the_forward_pass_made():
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = squared(x, 6)
        return tape.gradient(y, x)

    # The products that are read again, without the last, which nothing needs; the gradient of a
    # product as it comes in, and the two parts of the next one.
    assert matrices_of(gradient) == 1 + 5 + 3


def test_elementwise_operations_work_in_place_but_not_in_what_the_caller_holds():
    assert matrices_of(lambda x: tf.tanh(tf.matmul(x, x) + 1.0) * 2.0) == 1 + 1
    assert matrices_of(lambda x: x + 1.0) == 1 + 1


def test_a_new_shape_is_the_same_memory():
    assert matrices_of(lambda x: tf.reshape(tf.transpose(x), [-1]) + 1.0) == 1 + 1


def test_a_copy_in_another_dtype_counts_by_its_size():
    assert matrices_of(lambda x: tf.cast(x, tf.bfloat16)) == 1 + 0.5


def test_variables_do_not_count_and_copies_of_them_do():
    weight = tf.Variable(tf.ones([SIDE, SIDE]))
    assert matrices_of(lambda x: tf.matmul(x, weight)) == 1 + 1
    assert matrices_of(lambda x: tf.matmul(x, weight * 2.0)) == 1 + 2


def test_what_no_result_needs_is_not_computed():
    def wasteful(x):
        tf.concat([x, x, x], axis=0)
        return tf.matmul(x, x)

    assert matrices_of(wasteful) == 1 + 1


def test_a_function_inside_frees_as_it_goes():
    @tf.function
    def inner(x):
        return squared(x, 4)

    assert matrices_of(lambda x: inner(tf.matmul(x, x))) == 1 + 2


def test_what_xla_fuses_makes_one_tensor_on_its_way():
    def four(x):
        return tf.add_n([tf.transpose(x) + each for each in (1.0, 2.0, 3.0, 4.0)])

    assert matrices_of(four) == 1 + 4
    assert matrices_of(tf.function(four, jit_compile=True)) == 1 + 2
    # With a product inside XLA keeps what TensorFlow would keep.
    whole = lambda x: tf.matmul(four(x), x)  # noqa: E731
    assert matrices_of(tf.function(whole, jit_compile=True)) == matrices_of(whole) == 1 + 4


def test_of_a_conditional_the_longer_branch_counts_once_it_is_reached():
    def branches(x):
        start = tf.matmul(x, x)

        def wide():
            return squared(tf.concat([start] * 4, axis=0)[:SIDE], 2)

        return tf.cond(start[0, 0] > 0, wide, lambda: start)

    # The start, and four of it; then the four and their slice.
    assert matrices_of(branches) == 1 + 1 + 4


def test_a_loop_counts_its_state_and_one_turn():
    def loop(x):
        def turn(index, total):
            return index + 1, total + squared(x, 3)

        _, total = tf.while_loop(lambda index, _: index < 100, turn, (0, tf.transpose(x)))
        return total

    # The total is added to in place.
    assert matrices_of(loop) == 1 + 1 + 2


def test_a_function_may_wait_for_its_argument():
    @tf.function
    def inner(x, y):
        with tf.control_dependencies([x]):
            return squared(y, 2)

    def turn(index, total):
        return index + 1, total + inner(total, tf.transpose(total))

    def loop(x):
        return tf.while_loop(lambda index, _: index < 9, turn, (0, tf.matmul(x, x)))[1]

    assert matrices_of(lambda x: inner(tf.matmul(x, x), x)) == 1 + 2
    assert matrices_of(loop) == 1 + 1 + 2


@settings(max_examples=10)
@given(depth=st.integers(2, 8))
def test_each_layer_whose_output_is_kept_adds_one_matrix(depth):
    def stacked(x):
        layers = [x]
        for _ in range(depth):
            layers.append(tf.matmul(layers[-1], layers[-1]))
        return layers[1:]

    assert matrices_of(stacked) == 1 + depth


def test_inputs_must_have_static_shapes():
    function = tf.function(lambda x: x + 1.0)
    with pytest.raises(ValueError, match="static shapes"):
        peak_of(function.get_concrete_function(tf.TensorSpec([None, SIDE])))


def test_operations_of_called_functions_are_counted():
    inner = tf.function(lambda x: squared(x, 10))
    outer = tf.function(lambda x: inner(x))
    count = operation_count(outer.get_concrete_function(tf.TensorSpec([SIDE, SIDE])))
    assert 10 < count < 20
