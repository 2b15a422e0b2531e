"""One pass over the rows: the input of later checks, in about a hundred bytes per row."""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kerasllm.data.report import languages, near_duplicates
from kerasllm.data.report.label_checks import labels_of
from kerasllm.data.report.personal_data import personal_data
from kerasllm.data.report.quality import garbled, markup
from kerasllm.data.report.rows import Label, ReportRow, ReportRows

Lengths = Callable[[Sequence[tuple[str, ...]]], np.ndarray]
"""Returns the length of each row, int `[rows]`, of its texts."""

# Of more rows, these are enough to learn the languages and the words of each label from.
_SAMPLE = 100_000
_SAMPLED_CHARACTERS = 1000


@dataclasses.dataclass(eq=False)
class Scan:
    """What is known of the rows of all parts, which are numbered one part after the other.

    Attributes:
        parts: The rows, by part.
        begins: The number of the first row of each part, and the end of the last.
        texts: int64 `[rows]`, a hash of each row's texts, but for the kind of space.
        plain: int64 `[rows]`, the same without case and punctuation; 0 where nothing is left.
        labels: int32 `[rows]`, the number of each row's label in `names`; -1 without labels.
        names: The labels, by number.
        lengths: int32 `[rows]`, tokens (or words) of each row.
        files: int32 `[rows]`, the number of each row's file in its part.
        lines: int64 `[rows]`, the line that each begins in.
        marked: Numbers of rows, by what was noticed, such as `"garbled"` or `"email"`.
        notes: What was noticed of some of them, by kind and row.
        sketches: To find near duplicates; `None` where that is not installed.
        sample: Numbers, texts and labels of up to 100,000 rows of the training data.
    """

    parts: Mapping[str, ReportRows]
    begins: list[int] = dataclasses.field(default_factory=lambda: [0])
    texts: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    plain: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int32))
    names: list[Label] = dataclasses.field(default_factory=list)
    lengths: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int32))
    files: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int32))
    lines: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    marked: dict[str, array] = dataclasses.field(default_factory=lambda: defaultdict(_no_rows))
    notes: dict[str, dict[int, str]] = dataclasses.field(default_factory=lambda: defaultdict(dict))
    sketches: near_duplicates.Sketches | None = None
    sample: list[tuple[int, str, Label]] = dataclasses.field(default_factory=list)
    languages: list[str | None] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return self.begins[-1]

    def part_of(self, row: int) -> str:
        """Returns the part of a row."""
        place = int(np.searchsorted(self.begins, row, side="right")) - 1
        return list(self.parts)[place]

    def rows_of(self, part: str) -> slice:
        """Returns the rows of a part."""
        place = list(self.parts).index(part)
        return slice(self.begins[place], self.begins[place + 1])

    def place(self, row: int) -> str:
        """Returns the `file:line` of a row."""
        return f"{self.file(row)}:{self.lines[row]}"

    def file(self, row: int) -> str:
        """Returns the file of a row."""
        return self.parts[self.part_of(row)].files[self.files[row]]

    def counts(self, part: str) -> Counter:
        """Returns the rows by class, of a part; a row with several classes counts for each."""
        numbers, rows = np.unique(self.labels[self.rows_of(part)], return_counts=True)
        found: Counter = Counter()
        for number, count in zip(numbers.tolist(), rows.tolist()):
            if number >= 0:
                for label in labels_of(self.names[number]):
                    found[label] += count
        return found

    def read(self, wanted: Iterable[int]) -> dict[int, ReportRow]:
        """Reads some rows again, by their numbers."""
        wanted, found, first = sorted(set(wanted)), {}, 0
        for begin, end, rows in zip(self.begins, self.begins[1:], self.parts.values()):
            mine = [row for row in wanted if begin <= row < end]
            if not mine:
                continue
            first = begin
            for chunk in rows.chunks():
                last = first + len(chunk)
                found |= {row: chunk[row - first] for row in mine if first <= row < last}
                first = last
                if mine[-1] < first:
                    break
        return found


def scan(
    parts: Mapping[str, ReportRows],
    lengths: Lengths | None = None,
    *,
    near: bool = True,
    notify: Callable[[str], None] | None = None,
) -> Scan:
    """Reads all rows once.

    Args:
        parts: The rows, by part.
        lengths: Counts the tokens of rows. Defaults to `None`: words.
        near: Whether near duplicates are wanted. Defaults to `True`.
        notify: Called with how far it is. Defaults to `None`.

    Raises:
        DataError: If a file cannot be read.
    """
    lengths = lengths or count_words
    found = Scan(parts)
    if near and near_duplicates.is_installed():
        found.sketches = near_duplicates.Sketches()
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    numbers: dict[Any, int] = {}
    sample = _Sample()
    for name, rows in parts.items():
        first = found.begins[-1]
        for chunk in rows.chunks():
            joined = ["\n".join(row.texts) for row in chunk]
            plain = [near_duplicates.plain(text) for text in joined]
            columns["texts"].append(_hashes(" ".join(text.split()) for text in joined))
            columns["plain"].append(_hashes(plain))
            columns["lengths"].append(np.asarray(lengths([row.texts for row in chunk]), np.int32))
            columns["files"].append(np.fromiter((row.file for row in chunk), np.int32, len(chunk)))
            columns["lines"].append(np.fromiter((row.line for row in chunk), np.int64, len(chunk)))
            columns["labels"].append(_numbers([row.label for row in chunk], numbers))
            if found.sketches is not None:
                found.sketches.add(plain)
            _mark(found, first, joined)
            if name == next(iter(parts)):
                for row, (text, one) in enumerate(zip(joined, chunk), start=first):
                    sample.add(row, text, one.label)
            first += len(chunk)
            if notify:
                notify(f"reading {name}: {first - found.begins[-1]:,} {rows.noun}s")
        found.begins.append(first)
    for name, values in columns.items():
        setattr(found, name, np.concatenate(values))
    found.names = list(numbers)
    found.sample = sample.rows
    if languages.is_installed():
        if notify:
            notify("detecting the languages")
        found.languages = [languages.language_of(text) for _, text, _ in found.sample]
    return found


def count_words(rows: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Returns the words of each row, int32 `[rows]`."""
    words = (sum(len(text.split()) for text in texts) for texts in rows)
    return np.fromiter(words, np.int32, len(rows))


def _mark(found: Scan, first: int, texts: Sequence[str]) -> None:
    """Notes which of some texts are damaged, hold markup, or personal data."""
    for row, text in enumerate(texts, start=first):
        if why := garbled(text):
            found.marked["garbled"].append(row)
            _note(found, "garbled", row, why)
        if tag := markup(text):
            found.marked["markup"].append(row)
            _note(found, "markup", row, tag)
        for kind in personal_data(text):
            found.marked[kind].append(row)


def _note(found: Scan, kind: str, row: int, why: str) -> None:
    if len(found.notes[kind]) < 10:
        found.notes[kind][row] = why


def _hashes(texts: Iterable[str]) -> np.ndarray:
    """Returns a number for each text; that of an empty one is 0."""
    return np.array([hash(text) if text else 0 for text in texts], np.int64)


def _numbers(labels: Sequence[Label], numbers: dict[Any, int]) -> np.ndarray:
    """Returns a number for each label, -1 for none, and adds those that are new."""
    return np.fromiter(
        (-1 if label is None else numbers.setdefault(label, len(numbers)) for label in labels),
        np.int32,
        len(labels),
    )


def _no_rows() -> array:
    return array("q")


class _Sample:
    """Every row, until there are too many; from then on every second one, then every fourth..."""

    def __init__(self):
        self.rows: list[tuple[int, str, Label]] = []
        self._step = 1

    def add(self, row: int, text: str, label: Label) -> None:
        if row % self._step:
            return
        self.rows.append((row, text[:_SAMPLED_CHARACTERS], label))
        if len(self.rows) >= _SAMPLE:
            self._step *= 2
            self.rows = self.rows[::2]
