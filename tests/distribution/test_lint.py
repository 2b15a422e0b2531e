"""The lint finds what TPUs are known to refuse, and lets a plain step pass."""

import pytest
import tensorflow as tf

from kerasllm.distribution.lint import lint_inputs, lint_step


def traced(function, *specs):
    return tf.function(function).get_concrete_function(*specs)


NUMBERS = tf.TensorSpec([4], tf.float32)


def test_a_plain_step_passes():
    def step(x):
        tf.debugging.assert_equal(tf.shape(x)[0] % 2, 0, message="An assertion is left out.")
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * x), (0, x))

    assert lint_step(traced(step, NUMBERS)) == []


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: tf.boolean_mask(x, x > 0), "depends on data"),
        (lambda x: tf.unique(x)[0], "depends on data"),
        (lambda x: tf.py_function(lambda y: y, [x], tf.float32), "host"),
        (lambda x: tf.strings.length(tf.strings.as_string(x)), "no strings"),
    ],
)
def test_what_a_tpu_refuses_is_found_with_its_name(function, named):
    assert any(named in line for line in lint_step(traced(function, NUMBERS)))
    inside = tf.function(lambda x: tf.function(function)(x))
    assert any(named in line for line in lint_step(inside.get_concrete_function(NUMBERS)))


def test_inputs_are_whole_numbers_of_known_shape():
    good = {"token_ids": tf.TensorSpec([8, 16], tf.int32)}
    assert lint_inputs((good, tf.TensorSpec([8], tf.float32))) == []
    bad = {"mask": tf.TensorSpec([8, 16], tf.bool), "ids": tf.TensorSpec([8, None], tf.int32)}
    found = " ".join(lint_inputs(bad))
    assert "bool" in found and "(8, None)" in found
