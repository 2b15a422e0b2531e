"""A source of tagged words: files in any known layout, read as sentences with words and tags."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import EMPTY_TEXT, Fault, Notes, counted_reasons, reason_of
from kerasllm.data.readers.files import Spec, find_files, read_as
from kerasllm.data.readers.row_checks import places, surrogate_problem, what_to_do
from kerasllm.data.readers.tagged_lines import Layout, find_layout, read_sentences
from kerasllm.data.readers.tagged_records import (
    SPANS,
    RecordColumns,
    Span,
    TaggedRecord,
    find_columns,
    read_records,
)
from kerasllm.data.tag_schemes import OUTSIDE
from kerasllm.data.words import Joins
from kerasllm.errors import DataError

_RECORDS = (".jsonl", ".ndjson", ".json", ".parquet")
_TABLES = (".csv", ".xlsx", ".xls")
_BAD_ROWS_KEPT = 1000
_BAD_ROWS_SHOWN = 5


class Sentence(NamedTuple):
    """A text whose words have tags.

    Attributes:
        text: The text; of words without one they are joined by spaces.
        words: Where each word begins and ends in it, in characters.
        tags: The tag of each word.
        file: The number of its file.
        line: The line or the row that it begins in.
    """

    text: str
    words: list[tuple[int, int]]
    tags: list[str]
    file: int
    line: int


class TaggedSource:
    """Files of tagged words, read in memory that does not grow with them.

    Known are CoNLL columns and word/tag sentences (a text file of any suffix); and jsonl, json and
    parquet with lists of words and tags, or with texts and spans of characters. Text files may be
    compressed, and in another encoding than UTF-8.

    A row is bad if it cannot be read, if words and tags are not as many, or if spans overlap, or
    begin or end within a word.

    Args:
        spec: As for `find_files`.
        split: The part that `starter:NAME`, and a folder, mean. Defaults to `"train"`.
        text: The key of the words or texts of records. Defaults to `None`: found by common names.
        label: The key of the tags or spans. Defaults to `None`: found by common names.
        tag_column: The number of the column of the tags in CoNLL files; see `find_layout`.
            Defaults to `None`: the last one.
        label_names: The names of numbers that are tags. Defaults to `None`.
        on_bad_row: `"error"` or `"skip"`, as for `Source`. Defaults to `"error"`.
        encoding: The encoding of the files' text. Defaults to `None`: UTF-8.
        joins: How texts with spans are cut into words. Defaults to `None`: at each character that
            is no letter.

    Attributes:
        files: The names of the files, as messages show them.
        on_bad_row: As given.
        has_words: Whether the files have words, and not texts with spans.
        remarks: What a user should know of how the files were found, a list.
        bad_rows: After reading, the first 1,000 bad rows: `(file, line, why)`.
        bad_row_count: After reading, the number of all bad rows.
        bad_row_reasons: After reading, the number of bad rows by the kind of fault.
        notes: After reading, what was met that is not a fault.

    Raises:
        DataError: A file is missing, or holds no tagged words.

    Example:

    ```python
    for sentence in TaggedSource("train.conll").sentences():
        print([sentence.text[start:end] for start, end in sentence.words], sentence.tags)
    ```
    """

    def __init__(
        self,
        spec: Spec,
        *,
        split: str = "train",
        text: str | None = None,
        label: str | None = None,
        tag_column: int | None = None,
        label_names: Mapping[str, str] | None = None,
        on_bad_row: str = "error",
        encoding: str | None = None,
        joins: Joins | None = None,
    ):
        if on_bad_row not in ("error", "skip"):
            raise ValueError(f"on_bad_row must be 'error' or 'skip'. Received: {on_bad_row!r}")
        found = find_files(
            read_as(spec, split, encoding=encoding, preferred="tagged"), split, preferred="tagged"
        )
        self._files = list(found)
        self._joins = joins or Joins()
        self._readers = [
            self._reader(file, text, label, tag_column, label_names) for file in self._files
        ]
        self.files = tuple(file.name for file in self._files)
        self.on_bad_row = on_bad_row
        self.has_words = not any(
            isinstance(one, RecordColumns) and one.spans for one in self._readers
        )
        self.remarks = list(found.remarks)
        self._begin()

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the files' bytes in order, and how they are read."""
        read = ["kerasllm tagged source 1", self._joins.keys.tolist()]
        total = hashlib.sha256(json.dumps(read).encode())
        for file, reader in zip(self._files, self._readers, strict=True):
            names = sorted(reader.names.items()) if isinstance(reader, RecordColumns) else None
            packed = file.compression or "plain"
            total.update(f"{reader} {names} {file.encoding} {packed} {file.sha256()}\n".encode())
        return total.hexdigest()

    @property
    def noted(self) -> dict[str, Any]:
        """What a store keeps of how the rows were read, as JSON values."""
        return {
            "skipped_reasons": dict(self.bad_row_reasons),
            "notes": self.notes.lines(),
        }

    def description(self) -> str:
        """Says in words how the files are read."""
        return "; ".join(dict.fromkeys(map(str, self._readers)))

    def sentences(self, file: int | None = None) -> Iterator[Sentence]:
        """Reads all sentences, in the order of the files.

        Args:
            file: The number of the only file that is read. Defaults to `None`: all are.

        Raises:
            DataError: A file has bad rows and `on_bad_row` is `"error"`, a file cannot be read to
                its end, or no row is left.
        """
        self._begin()
        empty = True
        for index in range(len(self._files)) if file is None else [file]:
            for sentence in self._of_file(index):
                empty = False
                yield sentence
        if empty and file is None:
            raise DataError(
                f"No sentence can be used: all {self.bad_row_count:,} are bad"
                if self.bad_row_count
                else "The files contain no sentences",
                where=places(self.bad_rows, self.bad_row_count) or ", ".join(self.files[:3]),
                fix=f"check the files; they were read as: {self.description()}",
            )

    def _begin(self) -> None:
        self.bad_rows: list[tuple[str, int, str]] = []
        self.bad_row_count = 0
        self._good_rows = 0
        self.bad_row_reasons: Counter[str] = Counter()
        self.notes = Notes()

    def _reader(
        self, file: DataFile, text, label, tag_column, label_names
    ) -> Layout | RecordColumns:
        if file.members or file.suffix in _TABLES:
            raise DataError(
                "Tagged words are not read from "
                + ("folders of classes" if file.members else f"{file.suffix} files"),
                where=file.name,
                fix="give CoNLL columns (a word and its tag a line), word/tag sentences, or jsonl "
                "or parquet with tokens and tags, or with text and entities",
            )
        if file.suffix in _RECORDS:
            return find_columns(file, text, label, label_names)
        return find_layout(file, tag_column)

    def _of_file(self, index: int) -> Iterator[Sentence]:
        file, reader = self._files[index], self._readers[index]
        refuse, before = self.on_bad_row == "error", self.bad_row_count
        if isinstance(reader, Layout):
            rows: Iterator[Any] = read_sentences(file, reader, self.notes)
        else:
            rows = read_records(file, reader)
        for row in rows:
            sentence, problem = None, row.problem
            if problem is None:
                sentence, problem = self._sentence(row, index)
            if problem is not None:
                self.bad_row_count += 1
                self.bad_row_reasons[reason_of(problem)] += 1
                if len(self.bad_rows) < _BAD_ROWS_KEPT:
                    self.bad_rows.append((file.name, row.line, problem))
                continue
            self._good_rows += 1
            if not (refuse and self.bad_row_count):
                yield sentence
        if refuse and self.bad_row_count > before:
            are = "1 row is" if self.bad_row_count == 1 else f"{self.bad_row_count:,} rows are"
            reasons = self.bad_row_reasons if self.bad_row_count > _BAD_ROWS_SHOWN else ()
            raise DataError(
                f"{are} bad in {file.name}"
                + (f": {counted_reasons(reasons)}" if len(reasons) > 1 else ""),
                where=places(self.bad_rows, self.bad_row_count),
                fix=what_to_do(self.bad_row_count, self._good_rows),
            )

    def _sentence(self, row: Any, index: int) -> tuple[Sentence | None, str | None]:
        if isinstance(row, TaggedRecord) and row.words is None:
            if problem := _unicode_problem(row.text):
                return None, problem
            words, tags, problem = tag_words(row.text, row.spans, self._joins)
            if problem is None and not words:
                problem = Fault("the text has no words", EMPTY_TEXT)
            return Sentence(row.text, words, tags, index, row.line), problem
        text = " ".join(row.words)
        if problem := _unicode_problem(text):
            return None, problem
        words, place = [], 0
        for word in row.words:
            words.append((place, place + len(word)))
            place += len(word) + 1
        return Sentence(text, words, list(row.tags), index, row.line), None


def tag_words(
    text: str, spans: Sequence[Span], joins: Joins
) -> tuple[list[tuple[int, int]], list[str], str | None]:
    """Cuts a text into words and gives them the tags of its spans.

    Args:
        text: The text.
        spans: Spans of characters, in order, none of which overlap.
        joins: How it is cut; a word also ends where a span does.

    Returns:
        Where words begin and end, their tags in IOB2, and why the spans do not fit, or `None`.
    """
    cuts = [place for span in spans for place in span[:2]]
    words = joins.words(text, cuts)
    tags = [OUTSIDE] * len(words)
    begins = {start: number for number, (start, _) in enumerate(words)}
    ends = {end: number for number, (_, end) in enumerate(words)}
    for start, end, label in spans:
        if start not in begins or end not in ends:
            place, which = (start, "begins") if start not in begins else (end, "ends")
            around = text[max(place - 12, 0) : place] + "|" + text[place : place + 12]
            what = f"the span {start}-{end} ({label}) {which} within a word: {around!r}"
            return words, tags, Fault(what, SPANS)
        for number in range(begins[start], ends[end] + 1):
            tags[number] = f"{'B' if words[number][0] == start else 'I'}-{label}"
    return words, tags, None


def _unicode_problem(text: str) -> str | None:
    return None if text.isascii() else surrogate_problem("text", text)
