"""The loss in pieces is the loss of all logits at once, with the same gradients."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.training.chunked_loss import chunked_loss, chunked_scores, tokens_at_once
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

WIDTH, VOCABULARY = 6, 11


def problem(rows: int, length: int, seed: int = 0):
    random = np.random.default_rng(seed)
    hidden = tf.constant(random.normal(size=(rows, length, WIDTH)), tf.float32)
    y = tf.constant(random.integers(0, VOCABULARY, (rows, length)), tf.int32)
    share = tf.constant(
        random.uniform(0, 1, (rows, length)) * random.integers(0, 2, (rows, length))
    )
    head = keras.Variable(random.normal(size=(WIDTH, VOCABULARY)), dtype="float32")
    return hidden, y, tf.cast(share, tf.float32), head


def whole(hidden, y, share, head, loss):
    with tf.GradientTape() as tape:
        tape.watch([hidden, head.value])
        logits = tf.matmul(tf.reshape(hidden, [-1, WIDTH]), head.value)
        total = 3 * loss(tf.reshape(y, [-1]), logits, sample_weight=tf.reshape(share, [-1]))
    return total, logits, tape.gradient(total, [hidden, head.value])


def in_pieces(hidden, y, share, head, loss, tokens, train_head=True):
    with tf.GradientTape() as tape:
        tape.watch([hidden, head.value])
        total, correct = chunked_loss(
            hidden,
            y,
            share,
            head=lambda x: tf.matmul(x, head.value),
            loss=loss,
            variables=[head] if train_head else [],
            tokens=tokens,
        )
        total = 3 * total
    return total, correct, tape.gradient(total, [hidden, head.value])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40), st.sampled_from([0.0, 0.2]))
def test_pieces_of_any_size_give_the_whole_loss_and_its_gradients(rows, length, tokens, smoothing):
    loss = SmoothedSparseCategoricalCrossentropy(smoothing, reduction="sum")
    hidden, y, share, head = problem(rows, length, seed=tokens)
    expected, logits, gradients = whole(hidden, y, share, head, loss)
    total, correct, found = in_pieces(hidden, y, share, head, loss, tokens)
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    greedy = np.argmax(logits, -1).reshape(rows, length)
    assert (np.asarray(correct) == (greedy == np.asarray(y))).all()


@pytest.mark.parametrize("xla", [False, True])
def test_a_compiled_function_of_unknown_length_gives_the_same(xla):
    loss = SmoothedSparseCategoricalCrossentropy(0.0, reduction="sum")
    hidden, y, share, head = problem(3, 8)
    expected, _, gradients = whole(hidden, y, share, head, loss)

    @tf.function(
        jit_compile=xla,
        input_signature=[
            tf.TensorSpec([3, None, WIDTH]),
            tf.TensorSpec([3, None], tf.int32),
            tf.TensorSpec([3, None]),
        ],
    )
    def compute(hidden, y, share):
        return in_pieces(hidden, y, share, head, loss, tokens=5)

    total, _, found = compute(hidden, y, share)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_head_that_does_not_train_gets_no_gradient():
    loss = SmoothedSparseCategoricalCrossentropy(0.0, reduction="sum")
    hidden, y, share, head = problem(2, 5)
    _, _, (of_hidden, of_head) = in_pieces(hidden, y, share, head, loss, 4, train_head=False)
    assert of_hidden is not None and of_head is None


def test_scores_are_the_negative_log_likelihoods():
    hidden, y, _, head = problem(3, 7)
    logits = np.asarray(hidden) @ np.asarray(head)
    shifted = logits - logits.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    expected = -np.take_along_axis(logs, np.asarray(y)[..., None], -1)[..., 0]
    for tokens in (4, 100):
        each, correct = chunked_scores(
            hidden, y, head=lambda x: tf.matmul(x, head.value), tokens=tokens
        )
        np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-6)
        assert (np.asarray(correct) == (logits.argmax(-1) == np.asarray(y))).all()


def test_only_a_piece_of_the_logits_is_in_memory_at_once():
    """Of 4,096 tokens and 5,000 words all logits would be 82 MB: none of the graph's is."""
    hidden = tf.TensorSpec([4, 1024, 8])
    head = keras.Variable(np.zeros((8, 5000)), dtype="float32")
    loss = SmoothedSparseCategoricalCrossentropy(0.0, reduction="sum")

    @tf.function
    def compute(hidden, y, share):
        with tf.GradientTape() as tape:
            tape.watch([hidden, head.value])
            total, _ = chunked_loss(
                hidden,
                y,
                share,
                head=lambda x: tf.matmul(x, head.value),
                loss=loss,
                variables=[head],
                tokens=128,
            )
        return tape.gradient(total, [hidden, head.value])

    traced = compute.get_concrete_function(
        hidden, tf.TensorSpec([4, 1024], tf.int32), tf.TensorSpec([4, 1024])
    )
    graph = traced.graph.as_graph_def(add_shapes=True)
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    sizes = [
        math.prod(dimension.size for dimension in shape.dim)
        for node in nodes
        for shape in node.attr["_output_shapes"].list.shape
        if not shape.unknown_rank
    ]
    assert any(node.op == "MatMul" for node in nodes) and max(sizes) >= 128 * 5000
    assert max(sizes) <= 128 * 5000


def test_the_pieces_of_large_vocabularies_are_small():
    assert tokens_at_once(50_000) * 50_000 * 4 < 150e6
    assert tokens_at_once(10_000_000) == 128


def test_pieces_hold_no_more_tokens_than_there_are():
    """Padding to whole chunks once made a step of a small model three times as long."""
    loss = SmoothedSparseCategoricalCrossentropy(0.0, reduction="sum")
    seen = []

    def head(hidden):
        tf.py_function(lambda count: seen.append(int(count)), [tf.shape(hidden)[0]], [])
        return hidden

    @tf.function
    def compute(hidden, y, share):
        return chunked_loss(hidden, y, share, head=head, loss=loss, tokens=30)[0]

    for length, expected in ((10, [20]), (20, [20, 20]), (31, [21, 21, 21])):
        seen.clear()
        signature = [[None, None, WIDTH], [None, None], [None, None]]
        kinds = [tf.float32, tf.int32, tf.float32]
        specs = [tf.TensorSpec(s, k) for s, k in zip(signature, kinds, strict=True)]
        traced = compute.get_concrete_function(*specs)
        traced(tf.zeros([2, length, WIDTH]), tf.zeros([2, length], tf.int32), tf.zeros([2, length]))
        assert seen == expected
