"""The inputs of `fit`, `evaluate` and `predict`, as a tf.data pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def as_dataset(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    seed: int | None = None,
    class_weight: Mapping[int, float] | None = None,
):
    """Returns batches of `x`, `(x, y)` or `(x, y, sample_weight)`.

    Args:
        x: Arrays, or a structure of them: NumPy's, TensorFlow's, pandas', lists of numbers. Or
            batches: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator.
        y: Targets, where `x` is arrays. Defaults to `None`.
        sample_weight: Weights in the loss, where `x` is arrays. Defaults to `None`.
        batch_size: Rows of a batch, where `x` is arrays. Defaults to `None`: 32.
        seed: Seed of the order of the rows of arrays, and of the batches of a `PyDataset`. Defaults
            to `None`: as given.
        class_weight: A factor on the weight of rows by their class. Defaults to `None`: all 1.

    Returns:
        A `tf.data.Dataset`, or `x` where it was distributed to the replicas of a strategy.

    Raises:
        ValueError: If these do not fit each other.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"`batch_size` must be 1 or more. Received: batch_size={batch_size}")
    if makes_batches(x):
        _refuse_beside_batches(x, y=y, sample_weight=sample_weight)
        dataset = _of_batches(x, seed)
    else:
        x, y, sample_weight = check_rows(x, y, sample_weight)
        parts = tuple(part for part in (x, y, sample_weight) if part is not None)
        # Several inputs alone are a tuple, and no inputs with targets.
        alone = len(parts) == 1 and not isinstance(x, tuple)
        dataset = tf.data.Dataset.from_tensor_slices(x if alone else parts)
        if seed is not None:
            dataset = dataset.shuffle(max(int(dataset.cardinality()), 1), seed=seed)
        dataset = dataset.batch(batch_size or 32)
    if class_weight is not None:
        if not isinstance(dataset, tf.data.Dataset):
            raise ValueError(
                "`class_weight` is not supported for distributed batches: use sample weights."
            )
        dataset = dataset.map(_weigher(class_weight))
    return dataset


def makes_batches(x: Any) -> bool:
    """Tells whether these are batches, and not arrays that batches are made of."""
    return is_pipeline(x) or isinstance(x, keras.utils.PyDataset) or hasattr(x, "__next__")


def is_pipeline(x: Any) -> bool:
    """Tells whether it is a `tf.data.Dataset`, or one that was distributed to replicas."""
    return hasattr(x, "element_spec") and not tf.is_tensor(x)


def check_rows(x: Any, y: Any = None, sample_weight: Any = None) -> tuple:
    """Returns `x`, `y` and `sample_weight` as arrays of the same number of rows.

    Raises:
        ValueError: If they have different numbers of rows, or no array can be made.
    """
    if x is None:
        raise ValueError("`x` must be arrays or a dataset. Received: x=None")
    found = tuple(None if part is None else arrays(part) for part in (x, y, sample_weight))
    counts = {
        name: sorted({_rows_of(array) for array in tf.nest.flatten(part)})
        for name, part in zip(("x", "y", "sample_weight"), found, strict=True)
        if part is not None
    }
    if len({count for each in counts.values() for count in each}) > 1:
        told = ", ".join(f"{name}: {', '.join(map(str, each))}" for name, each in counts.items())
        raise ValueError(f"All arrays must have the same number of rows. Received: {told}")
    return found


def arrays(values: Any) -> Any:
    """Returns a structure of arrays, floats in Keras' own precision, as `fit` takes them.

    A list of arrays or of texts is a structure of several inputs to Keras; a list of numbers, or
    of lists of them, is one array.
    """
    if isinstance(values, Mapping):
        return {name: arrays(each) for name, each in values.items()}
    if isinstance(values, tuple) or (isinstance(values, list) and values and _is_array(values[0])):
        return tuple(arrays(each) for each in values)
    if tf.is_tensor(values) or isinstance(values, (tf.RaggedTensor, tf.SparseTensor)):
        return values
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(
            "Lists of different lengths are not an array: pad them first, e.g. with "
            "keras.utils.pad_sequences"
        ) from None
    if array.dtype == object:
        if all(isinstance(each, str) for each in array.flat):
            return array.astype(str)
        try:
            array = array.astype(keras.config.floatx())
        except (TypeError, ValueError):
            raise ValueError(
                "Arrays must hold numbers or texts. Received: an array of "
                f"{type(array.flat[0]).__name__ if array.size else 'nothing'}"
            ) from None
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(keras.config.floatx())
    if array.ndim == 0:
        raise ValueError(f"An array must have rows. Received: {values!r}")
    return array


def held_out(values: Any, share: float) -> tuple[Any, Any]:
    """Cuts the last rows off a structure of arrays.

    Args:
        values: A structure of arrays, or `None`.
        share: The part to cut off, above 0 and below 1.

    Returns:
        The first rows and the last ones.

    Raises:
        ValueError: If one of the two would be empty.
    """
    if values is None:
        return None, None
    rows = _rows_of(tf.nest.flatten(values)[0])
    kept = int(rows * (1 - share))
    if not 0 < kept < rows:
        raise ValueError(
            f"`validation_split` must leave rows for both parts. Received: {share}, {rows} rows"
        )
    parts = [
        tf.nest.map_structure(lambda each, part=part: each[part], values)
        for part in (slice(kept), slice(kept, None))
    ]
    return parts[0], parts[1]


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and len(value.shape) > 0


def _rows_of(array: Any) -> int:
    return int(array.shape[0])


def _refuse_beside_batches(x: Any, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be part of the batches `(x, y, sample_weight)`, where `x` is a "
                f"{type(x).__name__}."
            )


def _of_batches(x: Any, seed: int | None):
    if is_pipeline(x):
        return x
    if isinstance(x, keras.utils.PyDataset):
        count = x.num_batches
        first = x[0] if count is None or count else None
        random = None if seed is None else np.random.default_rng(int(seed))

        def batches() -> Iterator:
            numbers = itertools.count() if count is None else range(count)
            if count is not None and random is not None:
                numbers = random.permutation(count).tolist()
            for number in numbers:
                yield _batch(x[number])
            x.on_epoch_end()

        return _of_generator(batches, first, count)
    first = next(x, None)
    rest = itertools.chain([first], x)
    # A generator cannot begin again: each epoch continues where the last one ended.
    return _of_generator(lambda: map(_batch, rest), first, None)


def _of_generator(batches, first: Any, count: int | None) -> tf.data.Dataset:
    if first is None:
        raise ValueError("The generator yields no batch.")

    def spec(array) -> tf.TensorSpec:
        # Batches may differ in length as well as in rows.
        return tf.TensorSpec([None] * array.ndim, array.dtype)

    signature = tf.nest.map_structure(spec, tf.nest.map_structure(np.asarray, _batch(first)))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    if count is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset.prefetch(2)


def _batch(given: Any) -> Any:
    parts = given if isinstance(given, tuple) else (given,)
    found = tuple(arrays(part) for part in parts if part is not None)
    return found if len(found) > 1 or isinstance(found[0], tuple) else found[0]


def _weigher(class_weight: Mapping[int, float]):
    """Returns a function of a batch that puts the weights of its classes into it."""
    if not all(isinstance(key, (int, np.integer)) and key >= 0 for key in class_weight):
        raise ValueError(
            "`class_weight` must have the number of a class as each key. Received: "
            f"{dict(class_weight)}"
        )
    table = np.ones(max(class_weight) + 1, np.float32)
    table[list(class_weight)] = list(class_weight.values())

    def weighted(*batch):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        if tf.nest.is_nested(y):
            raise ValueError("`class_weight` is for models with one output: use `sample_weight`.")
        classes = y
        if classes.shape.rank == 2:
            is_vector = classes.shape[-1] is None or classes.shape[-1] > 1
            classes = tf.argmax(classes, -1) if is_vector else classes[:, 0]
        if classes.shape.rank != 1:
            raise ValueError("`class_weight` needs one class per row: use `sample_weight`.")
        classes = tf.cast(classes, tf.int64)
        known = tf.minimum(classes, len(table) - 1)
        found = tf.where(classes < len(table), tf.gather(table, known), 1.0)
        return x, y, found if weight is None else found * tf.cast(weight, tf.float32)

    return weighted
