"""Grappler, TensorFlow's optimizer of graphs, left out where there is nothing for it to find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

_SWITCH = "disable_meta_optimizer"


@contextmanager
def without_grappler() -> Iterator[None]:
    """Runs functions that are called in the block as they were traced.

    Grappler takes a second or more over the graph of a training step, before the first one. Where
    XLA fuses what it would fuse, the steps are as fast without it. A function that is called with
    it as well is prepared twice.
    """
    before = tf.config.optimizer.get_experimental_options().get(_SWITCH, False)
    tf.config.optimizer.set_experimental_options({_SWITCH: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_SWITCH: before})
