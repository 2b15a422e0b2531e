"""Changes to Keras layers that are built, which Keras has no public way to make.

A built layer is locked: it takes no new weights and keeps its class. Layers of a backbone must be
changed in place, as the layers around them hold them by attribute. Everything that leans on the
insides of Keras for it is here; `tests/models/test_built_layers.py` fails if Keras changes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


def turn_into(layer: keras.Layer, new_class: type[keras.Layer]) -> None:
    """Makes a built layer one of another class: a subclass of its own, or back.

    Args:
        layer: Changed in place; weights, name and the layers that hold it stay.
        new_class: It must not need anything that its `__init__` or `build` would have made.
    """
    if not (issubclass(new_class, type(layer)) or issubclass(type(layer), new_class)):
        raise TypeError(
            f"`new_class` must derive from the layer's class, or vice versa. Received: "
            f"a {type(layer).__name__}, new_class={new_class.__name__}"
        )
    layer.__class__ = new_class


@contextmanager
def unlocked(layer: keras.Layer) -> Iterator[None]:
    """Lets a built layer take new weights, seed generators and attributes that hold them."""
    tracker = layer._tracker
    was_locked = tracker.locked
    tracker.unlock()
    try:
        yield
    finally:
        if was_locked:
            tracker.lock()


def remove_weight(layer: keras.Layer, weight: keras.Variable) -> None:
    """Takes a weight from a built layer, with the attribute that holds it."""
    for name, value in list(vars(layer).items()):
        if value is weight:
            with unlocked(layer):
                setattr(layer, name, None)
    layer._untrack_variable(weight)


def cast_weight(layer: keras.Layer, weight: keras.Variable, dtype: str) -> keras.Variable:
    """Puts a copy of a weight in another dtype into its place in a built layer.

    Args:
        layer: The layer that holds the weight in an attribute.
        weight: A weight of it, which is let go.
        dtype: The dtype of the copy.

    Returns:
        The copy, as trainable as the weight was.
    """
    names = [name for name, value in vars(layer).items() if value is weight]
    trainable, value = weight.trainable, keras.ops.cast(weight.value, dtype)
    remove_weight(layer, weight)
    with unlocked(layer):
        copy = layer.add_weight(
            shape=value.shape,
            initializer=lambda shape, dtype=None: value,
            dtype=dtype,
            trainable=trainable,
            name=weight.name,
        )
        for name in names:
            setattr(layer, name, copy)
    return copy
