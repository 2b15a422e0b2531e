"""A batch cut into slices, which cores compute at the same time (data parallelism on a CPU)."""

from __future__ import annotations

import itertools

import tensorflow as tf


def cut(tensors, slices: int) -> list:
    """Returns the slices of a batch, as equal as whole rows allow.

    Args:
        tensors: A structure of tensors `[rows, ...]`.
        slices: How many.
    """
    if slices == 1:
        return [tensors]
    rows = tf.shape(tf.nest.flatten(tensors)[0])[0]
    edges = [rows * number // slices for number in range(slices + 1)]
    return [
        tf.nest.map_structure(lambda each, start=start, end=end: each[start:end], tensors)
        for start, end in itertools.pairwise(edges)
    ]
