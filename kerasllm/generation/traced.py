"""What TensorFlow traces into a graph, or calls as it is where another library computes logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def traced(function: Callable, in_graph: bool, **options: Any) -> Callable:
    """Returns a function as a graph of TensorFlow, or as it is.

    Args:
        function: What is computed.
        in_graph: Whether all of it is TensorFlow's.
        **options: See `tf.function`.
    """
    return tf.function(function, autograph=False, **options) if in_graph else function


def repeated(condition: Callable, body: Callable, state: Sequence) -> Sequence:
    """Calls a function on its own result for as long as a condition holds, as `tf.while_loop`.

    Outside of a graph the state may hold anything: a cache of another library as well.

    Args:
        condition: Takes the parts of the state; returns a bool scalar.
        body: Takes the parts of the state; returns the next ones.
        state: The first ones.
    """
    if not tf.executing_eagerly():
        return tf.while_loop(condition, body, state)
    while condition(*state):
        state = body(*state)
    return state
