"""The labels in a token store: learned, checked, counted, and encoded as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kerasllm.data import loading
from kerasllm.data.detection import check_detected
from kerasllm.data.label_checks import check_labels, setting
from kerasllm.data.label_column import SAMPLE
from kerasllm.data.label_names import read_label_names
from kerasllm.data.labels import Labels
from kerasllm.data.loading import place_of
from kerasllm.data.readers.row_checks import places
from kerasllm.data.readers.sources import Source
from kerasllm.data.stored_tokens import LABEL, TokenStore
from kerasllm.errors import DataError
from kerasllm.plurals import counted

TO_IGNORE = "data.ignore_labels"
"""The setting that leaves rows out by their label."""

# Labels and files that a message names.
_SHOWN, _FILES_SHOWN = 6, 3


def learn_labels(recipe: Any, source: Source, store: TokenStore) -> Labels:
    """Returns the classes of the training data, with the names that the recipe or the files give.

    Raises:
        DataError: If the labels do not fit the problem that the first rows showed, or the names.
    """
    where = _where(source)
    kind = source.problem.kind
    if kind == "regression":
        return Labels([source.label_column or "score"])
    names = recipe.label_names or source.label_names
    if isinstance(names, str):
        names = read_label_names(names)
    counts = label_counts(store)
    if not recipe.label_names:
        _refuse_unnamed(source, store, counts)
    detected = recipe.problem == "auto" and recipe.label_separator is None
    if detected and len(source.label_columns) == 1 and len(store) > SAMPLE:
        check_detected(
            source.problem,
            counts,
            column=source.label_column,
            locate=lambda unlike: _first_place(store, counts, unlike),
        )
    if kind == "single_label":
        return Labels.learn(counts, names, where=where)
    columns = source.label_columns if len(source.label_columns) > 1 else ()
    return Labels.learn({*columns, *counts}, names, where=where, several=True)


def find_doubtful_labels(
    recipe: Any, source: Source, store: TokenStore, labels: Labels
) -> list[str]:
    """Returns warnings of labels that are hardly classes; see `check_labels`.

    Args:
        recipe: The `data` part of a recipe.
        source: The files.
        store: Their rows.
        labels: What `learn_labels` returned.

    Raises:
        DataError: If labels differ in nothing that can be seen.
    """
    if source.problem.kind == "regression":
        return []
    counts = label_counts(store)
    named = recipe.label_names if isinstance(recipe.label_names, Mapping) else {}
    return check_labels(
        counts,
        labels,
        named=named,
        where=_where(source),
        locate=lambda label: _first_place(store, counts, label.__eq__),
    )


def remarks(store: TokenStore) -> list[str]:
    """Returns what a user should know of how a store was made, and which labels were left out."""
    found, noted = loading.remarks(store), _noted(store)
    lost = noted.get("skipped_labels")
    if lost:
        kept = label_counts(store)
        shares = [
            f"{count:,} of {counted(kept.get(label, 0) + count, 'row')} of {label!r}"
            for label, count in sorted(lost.items(), key=lambda item: -item[1])[:_SHOWN]
        ]
        found.append(f"skipped rows by label: {', '.join(shares)}")
    for label, count in noted.get("unlabelled", {}).items():
        rows = counted(count, "row has", "rows have")
        found.append(f"{rows} no label ({label}) and {'is' if count == 1 else 'are'} skipped")
    return found


def refuse_lost_classes(
    part: str, source: Source, store: TokenStore, to_ignore: str | None = None
) -> None:
    """Stops where most rows of a class are bad and would be skipped.

    Args:
        part: What the data are, in words.
        source: The files.
        store: Their rows.
        to_ignore: As for `refuse_unknown`. Defaults to `None`.

    Raises:
        DataError: With the counts.
    """
    lost, kept = _noted(store).get("skipped_labels"), None
    if not lost or source.problem.kind == "regression":
        return
    kept = label_counts(store)
    most = {label: count for label, count in lost.items() if count > kept.get(label, 0)}
    if not most:
        return
    label = max(most, key=lambda label: (label not in kept, most[label]))
    others = sum(kept.values()) - kept.get(label, 0)
    skipped = sum(lost.values()) - most[label]
    what = "all" if label not in kept else "most"
    more = f"; most of {counted(len(most) - 1, 'other label')} too" * (len(most) > 1)
    raise DataError(
        f"Skipping the bad rows of the {part} leaves out {what} rows of the label {label!r}: "
        f"{most[label]:,} of {most[label] + kept.get(label, 0):,}, and {skipped:,} of "
        f"{others + skipped:,} rows of other labels{more}",
        where=places(store.skipped_rows, store.skipped),
        fix="correct these rows"
        + (
            f"; or ignore the label on purpose: {setting(to_ignore, list(most)[:_SHOWN])}"
            if to_ignore
            else ""
        ),
    )


def refuse_unknown(store: TokenStore, labels: Labels, to_ignore: str | None) -> None:
    """Stops at labels that the training data lack, with how many rows have each.

    Args:
        store: The rows.
        labels: The classes.
        to_ignore: The setting that leaves rows out by their label, for messages; `None`: none.

    Raises:
        DataError: With the labels and their counts.
    """
    counts = label_counts(store)
    unknown = [label for label, _ in counts.most_common() if label not in labels]
    if not unknown:
        return
    error = labels.unknown(unknown, _first_place(store, counts, unknown[0].__eq__), counts)
    if to_ignore:
        error.fix += f"; to skip such rows: {setting(to_ignore, unknown[:_SHOWN])}"
    raise error


def encode_labels(store: TokenStore, labels: Labels) -> np.ndarray:
    """Returns the class of each row of a store, `[rows]`, of the smallest unsigned type.

    Raises:
        DataError: If a label was not in the training data.
    """
    # By distinct label of a few thousand rows at a time: a string for each of a hundred million
    # rows would fill the memory.
    place = place_of(store)
    classes, start = np.empty(len(store), np.min_scalar_type(len(labels) - 1)), 0
    for chunk in store.labels.chunks:
        column = chunk.dictionary_encode()
        rows, first = column.indices.to_numpy(), start
        found = labels.encode(
            column.dictionary.to_pylist(),
            lambda label, rows=rows, first=first: place(first + int(np.argmax(rows == label))),
        )
        classes[start : start + len(rows)] = found[rows]
        start += len(rows)
    store.let_go()
    return classes


def encode_label_sets(store: TokenStore, labels: Labels) -> np.ndarray:
    """Returns the labels of each row of a store as bits, uint8 `[rows, bytes]`.

    Raises:
        DataError: If a label was not in the training data.
    """
    place = place_of(store)
    bits, start = np.empty((len(store), -(-len(labels) // 8)), np.uint8), 0
    for chunk in store.column(LABEL).chunks:
        flat = chunk.flatten().dictionary_encode()
        of_row = np.repeat(np.arange(len(chunk)), chunk.value_lengths().to_numpy())
        indices, first = flat.indices.to_numpy(), start
        numbers = labels.encode(
            flat.dictionary.to_pylist(),
            lambda label, indices=indices, of_row=of_row, first=first: place(
                first + int(of_row[np.argmax(indices == label)])
            ),
        )
        given = np.zeros((len(chunk), len(labels)), bool)
        given[of_row, numbers[indices]] = True
        bits[start : start + len(chunk)] = np.packbits(given, axis=1)
        start += len(chunk)
    store.let_go()
    return bits


def as_numbered(
    labels: Labels, store: TokenStore, names: Mapping[str, str] | None = None
) -> Labels:
    """Returns the labels as a store has them, where that writes classes as their numbers.

    Args:
        labels: The labels of a model.
        store: Rows whose labels are the model's, or `0`, `1`, ... up to their number.
        names: The names that the files have for such numbers. Defaults to `None`: none.
    """
    found = set(label_counts(store))
    own = labels.read_as(names)
    numbers = [str(number) for number in range(len(labels))]
    if all(label in own for label in found) or not found <= set(numbers):
        return own
    return Labels(numbers, labels.names)


def label_counts(store: TokenStore) -> Counter[str]:
    """Returns how many rows have each label, whether a row has one or several."""
    counts: Counter[str] = Counter()
    for chunk in store.column(LABEL).chunks:
        found = (chunk.flatten() if pa.types.is_list(chunk.type) else chunk).value_counts()
        counts.update(dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist())))
    store.let_go()
    return counts


def _refuse_unnamed(source: Source, store: TokenStore, counts: Mapping[str, int]) -> None:
    """Stops at numbers that the file which names its classes has no name for."""
    names = source.label_names or {}
    unnamed = [label for label in counts if label not in names and label not in names.values()]
    if not names or not unnamed:
        return
    label = unnamed[0]
    raise DataError(
        f"The file names {counted(len(names), 'class', 'classes')}, {', '.join(names.values())}, "
        f"and {counted(counts[label], 'row has', 'rows have')} the label {label!r}",
        where=_first_place(store, counts, label.__eq__),
        fix="correct the labels, or name them all with data.label_names; to skip such rows: "
        + setting(TO_IGNORE, unnamed[:_SHOWN]),
    )


def _first_place(
    store: TokenStore, counts: Mapping[str, int], unlike: Callable[[str], bool] | None
) -> str:
    """Returns the place of the first row with a label that a function returns true for.

    Without a function: of the first row after the sample with a label that is not in the sample.
    """
    start, seen = 0, set()
    wanted = {label for label in counts if unlike and unlike(label)}
    for chunk in store.column(LABEL).chunks:
        for row, label in enumerate(chunk.to_pylist(), start=start):
            given = {label} if isinstance(label, str) else set(label)
            if given & wanted if unlike else row >= SAMPLE and given - seen:
                return place_of(store)(row)
            if row < SAMPLE:
                seen |= given
        start += len(chunk)
    return place_of(store)(0)


def _noted(store: TokenStore) -> Mapping[str, Mapping[str, int]]:
    """Returns what was noted of the labels of rows that were left out."""
    return store.remarks[0] if store.remarks else {}


def _where(source: Source) -> str:
    return ", ".join(source.files[:_FILES_SHOWN]) + ", ..." * (len(source.files) > _FILES_SHOWN)
