"""Texts given in Python: their supported forms, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.data.label_cells import shown
from kerasllm.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


def checked_text(given: Any, count: int, number: int) -> str | tuple[str, ...]:
    """Returns an item of a list as a text, or as a tuple of texts where a model reads several.

    Args:
        given: The item.
        count: How many texts the model reads at a time.
        number: The place of the item, for messages.

    Raises:
        DataError: If it is something else.
    """
    texts = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"Item {number} is not a text. Received: {shown(given)}", fix="give texts as strings"
        )
    if len(texts) != count:
        one = count == 1
        raise DataError(
            f"The model reads {'one text' if one else f'{count} texts'} at a time. "
            f"Received as item {number}: {shown(given)}",
            fix='give a list of texts, as in ["one", "another"]'
            if one
            else 'give a list of tuples, as in [("one text", "the text beside it")]',
        )
    # Of NumPy, texts are of a class of their own.
    return str(texts[0]) if count == 1 else tuple(map(str, texts))


def checked_texts(texts: Sequence[Any], count: int = 1) -> list:
    """Returns what `checked_text` does of each of some texts."""
    return [checked_text(text, count, number) for number, text in enumerate(texts)]


def is_pair(value: Any) -> bool:
    """Tells whether these are two texts that belong together."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(each, str) for each in value)
    )


def flat(item: Any) -> Any:
    """Returns an item of one text, as of an array `[n, 1]`, as this text; and pairs as tuples."""
    if isinstance(item, (list, tuple)) and len(item) == 1 and isinstance(item[0], str):
        return item[0]
    return tuple(item) if is_pair(item) else item


def is_conversation(values: Sequence[Any]) -> bool:
    """Tells whether these are the messages of one conversation."""
    return bool(values) and all(
        isinstance(each, Mapping) and "role" in each and "content" in each for each in values
    )


def refuse_unless_list(values: Any) -> None:
    """Refuses what is no list of texts or labels, and has no order or no items.

    Raises:
        DataError: If it is one text, a set, a table, or a single value.
    """
    if isinstance(values, (str, bytes)) or getattr(values, "shape", None) == ():
        text = values.numpy() if hasattr(values, "numpy") else values
        text = text.item() if hasattr(text, "item") else text
        text = text.decode() if isinstance(text, bytes) else text
        told = repr(text[:20] if isinstance(text, str) else text)
        raise DataError(
            f"One value is given where a list is expected: {told}",
            fix=f"write [{told}], with brackets",
        )
    if isinstance(values, (set, frozenset)):
        raise DataError("A set is given, which has no order", fix="give a list")
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        raise DataError(
            "A table is given where a list is expected",
            fix="give a column of it, or use `kerasllm.Dataset.from_pandas(frame, text=..., "
            "label=...)`",
        )
    if isinstance(values, Mapping) or not hasattr(values, "__iter__"):
        raise DataError(f"A list is expected. Received: {shown(values)}", fix="give a list")


def read_tf_data(dataset: tf.data.Dataset, steps: int | None = None) -> tuple:
    """Reads a `tf.data.Dataset` of texts.

    Args:
        dataset: See `Dataset.from_tf_data`.
        steps: Elements to read. Defaults to `None`: all.

    Returns:
        The texts, the labels and the weights of rows, the last two `None` where there are none.
        Labels and weights are lists; texts a list, a tuple of two, or a dict of lists.

    Raises:
        DataError: If it has no end, or its elements have other parts.
    """
    import tensorflow as tf

    if steps is None and int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            "The dataset is infinite, but it is read once before training",
            fix="leave `repeat()` out: `fit` repeats it for each epoch",
        )
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    texts = len(tf.nest.flatten(parts[0]))
    if len(parts) > 3 or any(len(tf.nest.flatten(part)) != 1 for part in parts[1:]):
        raise DataError(
            f"The dataset has elements of another structure: {spec}",
            fix="give texts, (texts, labels) or (texts, labels, sample_weight)",
        )
    if isinstance(parts[0], tuple) and texts != 2:
        raise DataError(
            f"The dataset has elements of {texts} texts", fix="give one, or a tuple of two"
        )
    flat = tf.nest.flatten(spec)
    found: list[list] = [[] for _ in flat]
    for element in (dataset if steps is None else dataset.take(steps)).as_numpy_iterator():
        values = tf.nest.flatten(element)
        # Elements of one row have no axis of rows.
        batched = np.ndim(values[0]) > 0
        for all_values, part in zip(found, values, strict=True):
            all_values.extend(part) if batched else all_values.append(part)
    found = [listed(values) for values in found]
    if isinstance(parts[0], dict):
        own: Any = dict(zip(sorted(parts[0]), found[:texts], strict=True))
    else:
        own = found[0] if texts == 1 else tuple(found[:texts])
    return (own, *found[texts:], None, None)[:3]


def listed(values: Iterable) -> list:
    """Returns values as Python's own: strings, numbers, lists of them.

    Raises:
        DataError: If they are no list: one text, a set, a table.
    """
    refuse_unless_list(values)
    if hasattr(values, "to_list"):
        values = values.to_list()
    elif hasattr(values, "to_pylist"):
        values = values.to_pylist()
    elif hasattr(values, "numpy"):
        values = values.numpy()
    found = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [_plain(value) for value in found]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if hasattr(value, "numpy"):
        return _plain(value.numpy())
    return value
