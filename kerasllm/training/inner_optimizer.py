"""The optimizer that updates weights, where another one scales the loss around it."""

from __future__ import annotations

import keras


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer inside a `LossScaleOptimizer`, or the one that is given.

    Args:
        optimizer: The optimizer of a compiled model.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)
