"""Input data of a model's `fit`, `evaluate` and `predict`: files, tables, lists."""

from __future__ import annotations

import copy
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.data.label_column import UnclearLabels
from kerasllm.data.label_forms import is_number
from kerasllm.data.split import split_label_sets, split_stratified
from kerasllm.data.tables import table_file
from kerasllm.data.texts import (
    checked_texts,
    flat,
    is_conversation,
    is_pair,
    listed,
    read_tf_data,
)
from kerasllm.errors import DataError, worded_for_python

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import tensorflow as tf

    from kerasllm.data.labels import Labels
    from kerasllm.data.readers.sources import Source

# Where scores are split, each part has its share of each of so many ranges of them.
_RANGES = 10
# The kind of labels that may be classes as well as scores.
_UNCLEAR = "unclear"
ARGUMENTS = (
    *("data.text", "data.text_pair", "data.label", "data.label_separator", "data.on_bad_row"),
    *("data.encoding", "data.delimiter"),
)
"""The keys of a recipe that are arguments of a `Dataset`, for messages."""

UNCLEAR_COLUMNS = "remove or rename one of them, or read one column as plain text: text=COLUMN"
"""What to do with files in which several columns could be the prompt, or the response."""


@dataclass(frozen=True, eq=False)
class _Read:
    """Facts about all rows of the files.

    Attributes:
        rows: How many there are.
        strata: What a split keeps in proportion, `[rows, ...]`; `None` without labels.
        kind: What is predicted; `None` without labels; `"unclear"` where the model decides.
        counts: How many rows have each label.
        names: What the labels of a bundled data set mean.
    """

    rows: int
    strata: np.ndarray | None = None
    kind: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] | None = None


class Dataset:
    """Texts, with or without labels, or conversations, for training or evaluation.

    Create it with one of the `from_...` methods. It is tokenized once, regardless of the number of
    epochs, and the tokens are cached; `fit` plans batches of similar length, to minimize padding,
    and knows the number of steps in advance.

    In-memory data is first written to a file in the cache, and then read like any other file.

    Args:
        files: A path, a glob, an address, `starter:NAME`, or a sequence of these.
        split: The split of `starter:NAME`. Defaults to `"train"`.
        text: The column of the texts. Defaults to `None`: found by common names.
        text_pair: The column of the second texts. Defaults to `None`: found, for a model that reads
            two texts.
        label: The column of the labels, or a list of columns that hold 0 or 1. Defaults to `None`:
            found by common names.
        label_separator: Separator of the labels in a cell. Defaults to `None`: detected.
        on_bad_row: `"error"` refuses files with bad rows, `"skip"` skips them. Defaults to
            `"error"`.
        encoding: The encoding of the files' text. Defaults to `None`: UTF-8.
        delimiter: Field delimiter of csv and tsv files. Defaults to `None`: detected.

    Attributes:
        files: As given, or found where an encoding or a delimiter is named.
        columns: The arguments that name and describe columns, a dict.
        on_bad_row: As given.
        rows: int64, the selected row numbers of the files; `None`: all.
        weights: float32, the weight of each row in the loss; `None`: all 1.
        balanced: Whether all classes have the same total weight; see `balance`.

    Example:

    ```python
    dataset = kerasllm.Dataset.from_pandas(frame, text="review", label="stars")
    train, validation = dataset.split(0.1, seed=0)
    model.fit(train, validation_data=validation, epochs=2)
    ```
    """

    def __init__(
        self,
        files: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        split: str = "train",
        text: str | None = None,
        text_pair: str | None = None,
        label: str | Sequence[str] | None = None,
        label_separator: str | None = None,
        on_bad_row: str = "error",
        encoding: str | None = None,
        delimiter: str | None = None,
    ):
        from kerasllm.data.readers.files import read_as

        reading: dict[str, Any] = {"encoding": encoding, "delimiter": delimiter}
        self.files = read_as(files, split, preferred="text", **reading)
        self.columns: dict[str, Any] = {
            "split": split,
            "text": text,
            "text_pair": text_pair,
            "label": label,
            "label_separator": label_separator,
        }
        self.on_bad_row = on_bad_row
        self.rows: np.ndarray | None = None
        self.weights: np.ndarray | None = None
        self.balanced = False

    @classmethod
    def from_files(
        cls, files: str | os.PathLike | Sequence[str | os.PathLike], **options: Any
    ) -> Dataset:
        """Returns the rows of files: csv, tsv, jsonl, parquet, text; see the class for options.

        Raises:
            DataError: If a file does not exist.
        """
        from kerasllm.data.readers.files import find_files

        with worded_for_python(ARGUMENTS):
            find_files(files, options.get("split", "train"), preferred="text")
        return cls(files, **options)

    @classmethod
    def from_lists(
        cls,
        texts: Iterable[Any],
        labels: Sequence[Any] | None = None,
        *,
        text_pairs: Sequence[str] | None = None,
        sample_weight: Sequence[float] | None = None,
    ) -> Dataset:
        """Returns the rows of lists.

        Args:
            texts: Texts; or pairs of texts; or conversations, each a list of messages `{"role",
                "content"}`; or dicts with the keys of a row, such as `prompt` and `completion`.
            labels: The label of each text: a string, a number, or a list of strings. Defaults to
                `None`: they have none.
            text_pairs: Second texts. Defaults to `None`: there are none.
            sample_weight: The weight of each row in the loss. Defaults to `None`: all 1.

        Raises:
            DataError: If the lists have different lengths, or hold something else.
        """
        texts = [flat(text) for text in listed(texts)]
        if is_conversation(texts):
            raise DataError(
                "One conversation is given where a list of them is expected",
                fix="write [conversation], with brackets",
            )
        if texts and isinstance(texts[0], Mapping):
            _refuse_beside_rows(labels=labels, text_pairs=text_pairs)
            found = cls(table_file(texts))
        else:
            if text_pairs is None and texts and all(map(is_pair, texts)):
                texts, text_pairs = ([pair[side] for pair in texts] for side in (0, 1))
            elif any(isinstance(text, str) for text in texts):
                texts = checked_texts(texts)
            given = {_column_of(texts): texts, "text_pair": text_pairs, "label": labels}
            columns = {name: listed(part) for name, part in given.items() if part is not None}
            lengths = {name: len(part) for name, part in columns.items()}
            _refuse_missing(columns.get("label", ()))
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"{name} {count}" for name, count in lengths.items())
                raise DataError(f"The lists have different lengths: {told}", fix="give one each")
            found = cls(table_file(_table(columns)), **_roles(columns))
        return found._weighted(sample_weight)

    @classmethod
    def from_pandas(cls, frame: pandas.DataFrame, **options: Any) -> Dataset:
        """Returns the rows of a DataFrame; see the class for options.

        Args:
            frame: The rows; its index is ignored.
            **options: `text`, `text_pair`, `label` name columns; others as for the class.
        """
        return cls(table_file(frame), **options)

    @classmethod
    def from_arrow(cls, table: pyarrow.Table, **options: Any) -> Dataset:
        """Returns the rows of a pyarrow table; see `from_pandas`."""
        return cls(table_file(table), **options)

    @classmethod
    def from_huggingface(cls, dataset: Any, **options: Any) -> Dataset:
        """Returns the rows of a `datasets.Dataset`; see `from_pandas`.

        The numbers of a `ClassLabel` become its names.
        """
        return cls(table_file(dataset), **options)

    @classmethod
    def from_tf_data(
        cls,
        dataset: tf.data.Dataset,
        *,
        text: str | None = None,
        label: str | None = None,
        steps: int | None = None,
    ) -> Dataset:
        """Returns the rows of a `tf.data.Dataset`, which is read once.

        Args:
            dataset: Of texts, `(text, label)` or `(text, label, sample_weight)`, or of dicts; in
                batches or not. A text may be a tuple of two, or a dict.
            text: The key of the texts in dicts. Defaults to `None`: found by common names.
            label: The key of the labels in dicts. Defaults to `None`: found by common names.
            steps: Elements to read. Defaults to `None`: all.

        Raises:
            DataError: If it is infinite, or has other elements.
        """
        texts, labels, weights = read_tf_data(dataset, steps)
        if isinstance(texts, dict):
            if labels is not None:
                label = "label"
                texts = {**texts, label: labels}
            return cls(table_file(_table(texts)), text=text, label=label)._weighted(weights)
        if isinstance(texts, tuple):
            return cls.from_lists(texts[0], labels, text_pairs=texts[1], sample_weight=weights)
        return cls.from_lists(texts, labels, sample_weight=weights)

    def __len__(self) -> int:
        return self.count if self.rows is None else len(self.rows)

    def __repr__(self) -> str:
        named = {name: value for name, value in self.columns.items() if value is not None}
        told = "".join(f", {name}={value!r}" for name, value in named.items() if name != "split")
        return f"<Dataset of {len(self):,} rows of {self.files}{told}>"

    def take(self, rows: int | Sequence[int] | np.ndarray) -> Dataset:
        """Returns some of the rows, in the order given.

        Args:
            rows: Row numbers, where negative ones count from the end; or a boolean mask; or an int,
                the number of first rows.

        Raises:
            ValueError: If there are no such rows.
        """
        rows = _numbers(rows, len(self))
        found = copy.copy(self)
        found.rows = rows if self.rows is None else self.rows[rows]
        if self.weights is not None:
            found.weights = self.weights[rows]
        return found

    def split(self, fraction: float = 0.1, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Splits the rows in two, stratified by class or label; deterministic for a seed.

        Args:
            fraction: The share of rows in the second part. Defaults to `0.1`.
            seed: Chooses the rows. Defaults to `0`.

        Returns:
            The larger part, for training, and the other one.

        Raises:
            DataError: If one of the two would be empty.
        """
        strata = self._strata
        if strata is None:
            strata = np.zeros(self.count, np.int8)
        if self.rows is not None:
            strata = strata[self.rows]
        cut = split_label_sets if strata.ndim == 2 else split_stratified
        kept, held_out = cut(strata, fraction, seed)
        if not len(kept) or not len(held_out):
            raise DataError(
                f"A fraction of {fraction} of {len(self):,} rows leaves one part empty",
                fix="give more rows, or name validation data",
            )
        return self.take(kept), self.take(held_out)

    def balance(self, how: str = "weights", seed: int = 0) -> Dataset:
        """Returns the rows such that all classes count the same.

        Args:
            how: `"weights"`: in the loss, by their weights; `"oversample"`: rows of rare classes
                are repeated, up to the most frequent one; `"undersample"`: rows of frequent ones
                are left out, down to the rarest. Defaults to `"weights"`.
            seed: Chooses the rows. Defaults to `0`.

        Raises:
            DataError: If the rows have no labels, or several each.
        """
        if how not in ("weights", "oversample", "undersample"):
            raise ValueError(
                f"`how` must be weights, oversample or undersample. Received: how={how!r}"
            )
        strata = self._strata
        if self._read.kind == _UNCLEAR:
            # Says why.
            _ = self.source
        if strata is None or strata.ndim == 2 or self._read.kind == "regression":
            raise DataError("Only rows with one label each can be balanced", where=str(self.files))
        if how == "weights":
            found = copy.copy(self)
            found.balanced = True
            return found
        strata = strata if self.rows is None else strata[self.rows]
        values, counts = np.unique(strata, return_counts=True)
        wanted = counts.max() if how == "oversample" else counts.min()
        generator = np.random.default_rng(seed)
        chosen = []
        for value in values:
            rows = np.flatnonzero(strata == value)
            more = generator.permutation(rows)
            whole, rest = divmod(int(wanted), len(rows))
            chosen += [np.repeat(rows, whole), more[:rest]]
        return self.take(np.sort(np.concatenate(chosen)))

    @property
    def source(self) -> Source:
        """The files as labelled texts, where what is predicted is detected.

        Raises:
            DataError: If the files have no labels.
        """
        try:
            return self._labelled()
        except UnclearLabels as error:
            error.fix = (
                "a model is told what its labels are, and `split` does not need to know: "
                'TextClassifier.from_preset(..., problem="regression") predicts a number, '
                "labels=[...] are classes; or name another column: label=NAME"
            )
            raise

    def _labelled(self, problem: str = "auto") -> Source:
        from kerasllm.data.readers.sources import Source

        text_pair = self.columns["text_pair"] or (None if self.columns["text"] else "auto")
        columns = {**self.columns, "text_pair": text_pair}
        with worded_for_python(ARGUMENTS):
            return Source(self.files, **columns, problem=problem, on_bad_row=self.on_bad_row)

    def unlabelled(self, *, pair: bool = True) -> Source:
        """Returns the files as texts alone; columns that are not named are found as by `source`.

        Args:
            pair: Whether second texts are read, where there are some. Defaults to `True`.

        Raises:
            DataError: If the files have no texts.
        """
        from kerasllm.data.readers.sources import Source

        columns: dict[str, Any] = {
            "split": self.columns["split"],
            "text": self.columns["text"],
            "text_pair": self.columns["text_pair"],
            "on_bad_row": self.on_bad_row,
        }
        if pair and not columns["text_pair"] and not columns["text"]:
            columns["text_pair"] = "auto"
        if columns["text"] is None:
            try:
                labelled = Source(
                    self.files, **columns, label=self.columns["label"], problem="single_label"
                )
                columns["text"], columns["text_pair"] = labelled.text_column, labelled.pair_column
            except DataError:
                pass
        with worded_for_python(ARGUMENTS):
            return Source(self.files, **columns, labelled=False)

    @property
    def labels(self) -> Labels:
        """The classes, for `TextClassifier.from_preset(..., labels=...)`.

        A `UserWarning` tells of labels that look alike, and of those that may mean none.

        Raises:
            DataError: If the rows have no labels, or scores; or labels that nobody can tell apart.
        """
        from kerasllm.data.label_checks import check_labels
        from kerasllm.data.labels import Labels

        if not self.counts:
            # What is wrong with the labels, if it is known.
            _ = self.source
            raise DataError("The rows have scores, not classes", where=str(self.files))
        several = self._read.kind == "multi_label"
        with worded_for_python(ARGUMENTS):
            labels = Labels.learn(self._read.counts, self._read.names, several=several)
            where = str(self.files)
            found = check_labels(self.counts, labels, where=where, of_recipe=False)
        for warning in found:
            warnings.warn(warning.removeprefix("warning: "), UserWarning, stacklevel=2)
        return labels

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each label, by what the files call it; empty where there are none."""
        strata = self._strata
        if strata is None or self._read.kind in ("regression", _UNCLEAR):
            return {}
        if self.rows is None:
            return dict(self._read.counts)
        if strata.ndim == 1:
            values, counts = np.unique(strata[self.rows], return_counts=True)
            return dict(zip(values.tolist(), counts.tolist(), strict=True))
        bits = np.unpackbits(strata[self.rows], axis=1, count=len(self._read.counts))
        return dict(zip(self._read.counts, bits.sum(axis=0).tolist(), strict=True))

    def head(self, count: int = 5) -> list[dict[str, Any]]:
        """Returns the first rows as they are read: `text`, `text_pair`, `label` where there are.

        Raises:
            DataError: If the files hold conversations.
        """
        if self._strata is None:
            source = self.unlabelled()
        else:
            source = self._labelled("single_label" if self._read.kind == _UNCLEAR else "auto")
        wanted = np.arange(count) if self.rows is None else self.rows[:count]
        found: dict[int, dict] = {}
        done, last = 0, int(wanted.max(initial=-1))
        for batch in source.batches():
            targets = batch.targets
            for row in wanted[(wanted >= done) & (wanted < done + len(batch))]:
                place = int(row) - done
                found[int(row)] = {
                    "text": batch.texts[place],
                    **({"text_pair": batch.pairs[place]} if batch.pairs is not None else {}),
                    **({"label": targets[place]} if targets is not None else {}),
                }
            done += len(batch)
            if done > last:
                break
        return [found[int(row)] for row in wanted if int(row) in found]

    @cached_property
    def _read(self) -> _Read:
        source, unclear = None, False
        try:
            source = self._labelled()
        except DataError as error:
            named = self.columns["label"] is not None
            unclear = named and isinstance(error, UnclearLabels)
            if named and not unclear:
                raise
        if unclear:
            # What they are is a matter of the model; a split needs the rows.
            source = self._labelled("single_label")
        elif source is None:
            if self.columns["text"] is not None or self.columns["text_pair"] is not None:
                # What is wrong may be their names.
                self.unlabelled()
            # Without labels, or conversations.
            with worded_for_python(ARGUMENTS):
                return _Read(self._count_unlabelled())
        with worded_for_python(ARGUMENTS):
            targets = [each for batch in source.batches() for each in batch.targets or ()]
        kind, rows = source.problem.kind if source.problem else None, len(targets)
        if unclear:
            numeric = all(map(is_number, targets))
            return _Read(rows, _ranges(targets) if numeric else np.zeros(rows, np.int8), _UNCLEAR)
        if kind == "regression":
            return _Read(rows, _ranges(targets), kind)
        if kind == "multi_label":
            found = Counter(name for given in targets for name in given)
            counts = {name: found[name] for name in sorted({*found, *source.label_columns[1:]})}
            places = {name: place for place, name in enumerate(counts)}
            bits = np.zeros((rows, max(len(places), 1)), bool)
            for row, given in enumerate(targets):
                bits[row, [places[name] for name in given]] = True
            return _Read(rows, np.packbits(bits, axis=1), kind, counts, source.label_names)
        return _Read(rows, np.asarray(targets), kind, Counter(targets), source.label_names)

    def _count_unlabelled(self) -> int:
        from kerasllm.data.chat.conversations import holds_conversations
        from kerasllm.data.documents import Documents
        from kerasllm.data.readers.files import find_files
        from kerasllm.data.readers.records import records

        split, text = self.columns["split"], self.columns["text"]
        if text is None and holds_conversations(self.files, split, fix=UNCLEAR_COLUMNS):
            files = find_files(self.files, split)
            return sum(1 for file in files for _ in records(file))
        documents = Documents(self.files, split=split, text=text, on_bad_row=self.on_bad_row)
        return sum(document.begins for document in documents)

    @property
    def count(self) -> int:
        """How many rows the files have."""
        return self._read.rows

    @property
    def _strata(self) -> np.ndarray | None:
        return self._read.strata

    def _weighted(self, weights: Sequence[float] | None) -> Dataset:
        if weights is not None:
            self.weights = np.asarray(listed(weights), np.float32).reshape(-1)
            if len(self.weights) != len(self):
                raise DataError(
                    f"{len(self.weights)} weights are given for {len(self)} rows",
                    fix="give one for each row",
                )
        return self


def _ranges(scores: Sequence[Any]) -> np.ndarray:
    """Returns the number of the range that each score is in; the ranges have as many rows each."""
    values = np.asarray(scores, np.float64)
    edges = np.quantile(values, np.linspace(0, 1, _RANGES + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def _numbers(rows: Any, count: int) -> np.ndarray:
    """Returns the numbers of some of `count` rows, int64; see `Dataset.take`."""
    if isinstance(rows, (int, np.integer)) and not isinstance(rows, bool):
        if rows < 0:
            raise ValueError(f"`rows` must not be a negative number of rows. Received: rows={rows}")
        return np.arange(min(int(rows), count))
    found = np.asarray(rows)
    if not found.size:
        found = found.astype(np.int64)
    if found.ndim != 1 or found.dtype.kind not in "biu":
        raise ValueError(
            "`rows` must be an int, a list of ints, or a boolean for each row. "
            f"Received: rows={rows!r}"
        )
    if found.dtype.kind == "b":
        if len(found) != count:
            raise ValueError(
                f"`rows` must have a boolean for each of the {count:,} rows. Received: "
                f"{len(found):,}"
            )
        return np.flatnonzero(found)
    found = found.astype(np.int64)
    wrong = found[(found < -count) | (found >= count)]
    if len(wrong):
        raise ValueError(
            f"`rows` holds {wrong[0]}, and the dataset has {count:,} rows, counted from 0"
        )
    return np.where(found < 0, found + count, found)


def _refuse_missing(labels: Sequence[Any]) -> None:
    missing = [item for item, label in enumerate(labels) if label is None or label != label]
    if missing:
        more = f" ({len(missing) - 1:,} more have none)" if len(missing) > 1 else ""
        raise DataError(
            f"Item {missing[0]} has no label{more}: {labels[missing[0]]}",
            fix="leave out the rows that have none",
        )


def _column_of(texts: list) -> str:
    """Returns the name of the column that texts or conversations become."""
    first = texts[0] if texts else ""
    return "text" if isinstance(first, str) else "messages"


def _roles(columns: Mapping) -> dict[str, str]:
    return {name: name for name in ("text", "text_pair", "label") if name in columns}


def _table(columns: Mapping[str, list]) -> pyarrow.Table:
    import pyarrow as pa

    try:
        return pa.table({name: pa.array(values) for name, values in columns.items()})
    except (pa.ArrowException, TypeError) as error:
        raise DataError(
            f"The values of a list have different types: {error}",
            fix="give texts as strings, and labels all as strings or all as numbers",
        ) from error


def _refuse_beside_rows(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise DataError(
                f"`{name}` is given in addition to rows that have their own",
                fix=f"leave `{name}` out, or give the texts as strings",
            )
