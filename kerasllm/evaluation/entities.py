"""Metrics of tagged words: of entities, strict and partial, and of single tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasllm.data.tag_schemes import Spans

NO_ENTITY = "no entity"


class Overlaps(NamedTuple):
    """Which predicted entity each true one overlaps most, and the other way round.

    Attributes:
        predicted: int `[true entities]`, the number of the predicted one, -1 where there is none.
        true: int `[predicted entities]`, the number of the true one, -1 where there is none.
    """

    predicted: np.ndarray
    true: np.ndarray


def entity_report(true: Spans, predicted: Spans, types: Sequence[str]) -> dict[str, Any]:
    """Measures predicted entities.

    Strict: an entity is right if its first word, its last word and its type are. Partial: an
    entity is found if a predicted one of its type overlaps it, and a predicted one is right if it
    overlaps a true one of its type.

    Args:
        true: The true entities of sentences.
        predicted: The predicted entities of the same sentences.
        types: The names of the types.

    Returns:
        `precision`, `recall` and `f1`, strict, over all entities (micro); `macro_precision`,
        `macro_recall` and `macro_f1`, the mean over the types that occur; `partial_precision`,
        `partial_recall` and `partial_f1`; `entities`, the number of true ones; `per_class`, type
        to `precision`, `recall`, `f1` and `support`; `confusion_matrix`, `[types + 1, types + 1]`:
        a true type by the type of the predicted entity that overlaps it most, the last for none.

    Reference:
        Equal to conlleval, and to the strict mode of
        [seqeval](https://github.com/chakki-works/seqeval) on valid tags.
    """
    count = len(types)
    right = right_entities(true, predicted)
    supports = np.bincount(true.types, minlength=count)[:count]
    given = np.bincount(predicted.types, minlength=count)[:count]
    hits = np.bincount(predicted.types[right], minlength=count)[:count]
    precision, recall = _share(hits, given), _share(hits, supports)
    f1 = _f1(precision, recall)
    micro = float(_share(hits.sum(), given.sum())), float(_share(hits.sum(), supports.sum()))
    occurs = (supports > 0) | (given > 0)
    overlaps = overlaps_of(true, predicted)
    loose = (
        float(_share(_same_type(predicted, true), len(predicted.types))),
        float(_share(_same_type(true, predicted), len(true.types))),
    )

    def mean(values: np.ndarray) -> float:
        return float(values[occurs].mean()) if occurs.any() else 0.0

    return {
        "f1": float(_f1(*map(np.asarray, micro))),
        "precision": micro[0],
        "recall": micro[1],
        "macro_f1": mean(f1),
        "macro_precision": mean(precision),
        "macro_recall": mean(recall),
        "partial_f1": float(_f1(*map(np.asarray, loose))),
        "partial_precision": loose[0],
        "partial_recall": loose[1],
        "entities": len(true.types),
        "per_class": {
            name: {
                "precision": float(precision[number]),
                "recall": float(recall[number]),
                "f1": float(f1[number]),
                "support": int(supports[number]),
            }
            for number, name in enumerate(types)
            if occurs[number]
        },
        "confusion_matrix": _confusion(true, predicted, overlaps, count).tolist(),
        "confused": [*types, NO_ENTITY],
    }


def tag_report(true: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Measures single tags, such as parts of speech.

    Args:
        true: int `[words]`.
        predicted: int `[words]`.
        names: The names of the tags.

    Returns:
        `macro_f1`, the mean over the tags that occur, and `per_class` and `confusion_matrix`, as
        those of `entity_report`, of tags that occur.
    """
    count = len(names)
    matrix = np.bincount(true * count + predicted, minlength=count**2).reshape(count, count)
    hits = np.diag(matrix)
    precision, recall = _share(hits, matrix.sum(0)), _share(hits, matrix.sum(1))
    f1 = _f1(precision, recall)
    occurs = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    return {
        "macro_f1": float(f1[occurs].mean()) if len(occurs) else 0.0,
        "per_class": {
            names[number]: {
                "precision": float(precision[number]),
                "recall": float(recall[number]),
                "f1": float(f1[number]),
                "support": int(matrix[number].sum()),
            }
            for number in occurs.tolist()
        },
        "confusion_matrix": matrix[np.ix_(occurs, occurs)].tolist(),
        "confused": [names[number] for number in occurs.tolist()],
    }


def wrong_spans(
    true: Spans, predicted: Spans, names: Sequence[str]
) -> list[tuple[int, str, str, int]]:
    """Returns the entities that are predicted and wrong, and those that were not found.

    Args:
        true: The true entities.
        predicted: The predicted ones.
        names: The names of types.

    Returns:
        For each the number of the predicted entity, -1 where there is none; the true type and the
        predicted one, `NO_ENTITY` where there is none; and the number of the true entity, or -1.
    """
    found = []
    overlaps = overlaps_of(true, predicted)
    right = right_entities(true, predicted)
    for number in np.flatnonzero(~right):
        at = int(overlaps.true[number])
        expected = NO_ENTITY if at < 0 else names[true.types[at]]
        found.append((int(number), expected, names[predicted.types[number]], at))
    for number in np.flatnonzero(overlaps.predicted < 0):
        found.append((-1, names[true.types[number]], NO_ENTITY, int(number)))
    return found


def right_entities(true: Spans, predicted: Spans) -> np.ndarray:
    """Returns which predicted entities are right: first word, last word and type; bool."""
    return np.isin(_keys(predicted), _keys(true))


def overlaps_of(true: Spans, predicted: Spans) -> Overlaps:
    """Returns which entities overlap each other most; the earlier one of equals."""
    return Overlaps(_nearest(true, predicted), _nearest(predicted, true))


def _nearest(ones: Spans, others: Spans) -> np.ndarray:
    """Returns for each of some entities the other one that overlaps it most, or -1.

    Both are in order, and none overlaps another of its own kind.
    """
    found = np.full(len(ones.starts), -1)
    if not len(others.starts):
        return found
    first = np.searchsorted(others.ends, ones.starts, side="right")
    last = np.searchsorted(others.starts, ones.ends, side="left")
    for number in np.flatnonzero(first < last):
        rivals = np.arange(first[number], last[number])
        shared = np.minimum(others.ends[rivals], ones.ends[number])
        shared = shared - np.maximum(others.starts[rivals], ones.starts[number])
        found[number] = rivals[int(shared.argmax())]
    return found


def _same_type(ones: Spans, others: Spans) -> int:
    """Returns how many entities overlap another one of the same type."""
    count = 0
    for kind in np.unique(ones.types):
        mine, theirs = (
            Spans(*(values[spans.types == kind] for values in spans)) for spans in (ones, others)
        )
        first = np.searchsorted(theirs.ends, mine.starts, side="right")
        count += int((first < np.searchsorted(theirs.starts, mine.ends, side="left")).sum())
    return count


def _confusion(true: Spans, predicted: Spans, overlaps: Overlaps, count: int) -> np.ndarray:
    matrix = np.zeros((count + 1, count + 1), np.int64)
    of_true = np.where(overlaps.predicted < 0, count, _of(predicted.types, overlaps.predicted))
    np.add.at(matrix, (true.types, of_true), 1)
    alone = overlaps.true < 0
    np.add.at(matrix, (np.full(int(alone.sum()), count), predicted.types[alone]), 1)
    return matrix


def _of(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return values[numbers] if len(values) else np.zeros(len(numbers), np.int64)


def _keys(spans: Spans) -> np.ndarray:
    """Returns what tells entities apart, one number each."""
    # Words are counted over all sentences; no entity has 2**20 types, or 2**22 words.
    return (spans.starts * (1 << 22) + (spans.ends - spans.starts)) * (1 << 12) + spans.types


def _share(part: Any, whole: Any) -> Any:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return _share(2 * precision * recall, precision + recall)
