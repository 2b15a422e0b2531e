"""A source: files of text, with or without labels, read as rows."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kerasllm.data.readers.columns import check_column, choose_column
from kerasllm.data.readers.files import BLOCK, DataFile, find_files
from kerasllm.data.readers.formats import Row, format_of, json_kind
from kerasllm.errors import DataError

# A batch also ends at this many characters, so that long documents do not fill the memory.
_BATCH_CHARACTERS = 1 << 24

_BAD_ROWS_KEPT = 1000
_BAD_ROWS_SHOWN = 5

_WHOLE_FLOAT = re.compile(r"(-?[0-9]{1,15})\.0+")


@dataclasses.dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of one file.

    Args:
        texts: The texts, as they stand in the file.
        labels: The labels as strings (see `label_text`), or `None` if the source has none.
        file: The number of the file in `Source.files`.
        lines: Where each row starts: its line, counted from 1, or its row number in a Parquet
            file. int64, shape `[len(texts)]`.
    """

    texts: list[str]
    labels: list[str] | None
    file: int
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


class Source:
    """Files of text that are read as rows, in memory that does not grow with the files.

    Formats, by suffix: `.csv`, `.tsv`, `.jsonl` (`.ndjson`), `.parquet`, and `.txt` for texts
    without labels (a text a line); each but Parquet also with `.gz`. Text must be UTF-8. All files
    are looked at when the source is made; rows are read by `batches`.

    A row is bad if it cannot be read (broken UTF-8, a missing field, malformed JSON), or if its
    text or its label is empty.

    Args:
        spec: A path, a glob, an address (`s3://`, `gs://`, `hdfs://`, `file://`), `starter:NAME`
            for bundled data, or a sequence of these.
        split: `"train"`, `"validation"` or `"test"`: the part that `starter:NAME` means. Defaults
            to `"train"`.
        text: The column of the texts. Defaults to `None`: the first common name that is there.
        label: The column of the labels. Defaults to `None`: the first common name that is there.
        labelled: Whether the rows have labels. Defaults to `True`.
        on_bad_row: `"error"` refuses a file that has bad rows, after reading all of it, and names
            the first ones; `"skip"` leaves them out. Defaults to `"error"`.

    Attributes:
        files: The names of the files, as messages show them.
        text_column: The column of the texts; `None` if all files are `.txt`.
        label_column: The column of the labels, or `None`.
        on_bad_row: As given.
        label_names: What the labels of a bundled data set mean, or `None`.
        bad_rows: After reading, the first 1,000 bad rows: `(file, line, why)`.
        bad_row_count: After reading, the number of all bad rows.

    Raises:
        DataError: A file is missing, empty, in no known format, or lacks a column.

    Example:
        >>> source = Source("starter:movie_reviews", split="test")
        >>> batch = next(source.batches())
        >>> batch.texts[1], batch.labels[1], source.files[batch.file], int(batch.lines[1])
        ('Effective but too tepid biopic', '0', 'starter:movie_reviews/test', 3)
    """

    def __init__(
        self,
        spec: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        split: str = "train",
        text: str | None = None,
        label: str | None = None,
        labelled: bool = True,
        on_bad_row: str = "error",
    ):
        if on_bad_row not in ("error", "skip"):
            raise ValueError(f"on_bad_row must be 'error' or 'skip'. Received: {on_bad_row!r}")
        self._files = find_files(spec, split)
        self._formats = [format_of(file) for file in self._files]
        self._labelled = labelled
        self.on_bad_row = on_bad_row
        self.files = tuple(file.name for file in self._files)
        self.text_column, self.label_column = self._choose_columns(text, label)
        self.label_names = self._common_label_names()
        self.bad_rows: list[tuple[str, int, str]] = []
        self.bad_row_count = 0
        for index in range(len(self._files)):
            self._refuse_if_no_rows(index)

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the files' bytes in order, their formats and the columns.

        The files are read each time it is asked for. Names and dates of files do not count.
        """
        total = hashlib.sha256(
            json.dumps(["kerasllm source 1", self.text_column, self.label_column]).encode()
        )
        for file, form in zip(self._files, self._formats):
            content = hashlib.sha256()
            with file.open() as stream:
                while block := stream.read(BLOCK):
                    content.update(block)
            packed = "gz" if file.compressed else "plain"
            total.update(f"{form.name} {packed} {content.hexdigest()}\n".encode())
        return total.hexdigest()

    def batches(self, rows: int = 8192) -> Iterator[RowBatch]:
        """Reads all rows, from the first file's first to the last file's last.

        Args:
            rows: The most rows in a batch; a batch holds rows of one file, and fewer of them where
                texts are long. Defaults to `8192`.

        Raises:
            DataError: A file has bad rows and `on_bad_row` is `"error"`, a file cannot be read to
                its end, or no row is left.
        """
        self.bad_rows = []
        self.bad_row_count = 0
        empty = True
        for index in range(len(self._files)):
            for batch in self._file_batches(index, rows):
                empty = False
                yield batch
        if empty:
            raise DataError(
                f"No row can be used: all {self.bad_row_count:,} are bad",
                where=places(self.bad_rows, self.bad_row_count),
                fix="check the files, and that the columns are the right ones: "
                f"text '{self.text_column}', label '{self.label_column}'",
            )

    def texts_of(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """Reads the texts of some rows again.

        Args:
            indices: Numbers of rows, counted from 0 in the order of `batches`, bad rows left out.

        Returns:
            Their texts, in the order of `indices`.

        Raises:
            IndexError: A number that no row has.
        """
        wanted = np.unique(np.asarray(indices, dtype=np.int64))
        texts, done = {}, 0
        for batch in self.batches():
            low, high = np.searchsorted(wanted, [done, done + len(batch)])
            texts.update((int(row), batch.texts[row - done]) for row in wanted[low:high])
            done += len(batch)
            if high == len(wanted):
                break
        if len(texts) < len(wanted):
            raise IndexError(f"The source has {done} rows. Received: indices={indices}")
        return [texts[int(row)] for row in indices]

    def _choose_columns(self, text: str | None, label: str | None) -> tuple[str | None, str | None]:
        """Finds the columns in the first file that has any; the others must have them too."""
        chosen = False
        for file, form in zip(self._files, self._formats):
            if form.columns is None:
                if self._labelled:
                    raise DataError(
                        f"A {file.suffix} file holds texts without labels",
                        where=file.name,
                        fix="give a csv, tsv, jsonl or parquet file with a text and a label column",
                    )
                continue
            columns = form.columns(file)
            if not columns:
                raise _empty_file(file)
            if chosen:
                check_column("text", text, columns, file)
                if self._labelled:
                    check_column("label", label, columns, file)
                continue
            # A label column that is named is not a candidate for the text.
            text = choose_column("text", text, columns, file, label if self._labelled else None)
            if self._labelled:
                label = choose_column("label", label, columns, file, text)
            chosen = True
        return text if chosen else None, label if chosen and self._labelled else None

    def _common_label_names(self) -> dict[str, str] | None:
        names = self._files[0].label_names
        if names is None or any(file.label_names != names for file in self._files):
            return None
        return dict(names)

    def _refuse_if_no_rows(self, index: int) -> None:
        """Looks for a first row, good or bad."""
        rows = self._rows(index)
        if next(rows, None) is None:
            if self._formats[index].columns is None:
                raise _empty_file(self._files[index])
            raise DataError(
                "The file has a header, but no rows",
                where=self._files[index].name,
                fix="add rows below the header",
            )

    def _rows(self, index: int) -> Iterator[Row]:
        return self._formats[index].rows(self._files[index], self.text_column, self.label_column)

    def _file_batches(self, index: int, rows: int) -> Iterator[RowBatch]:
        file = self.files[index]
        refuse = self.on_bad_row == "error"
        texts, labels, lines = [], [], []
        characters = 0

        def batch() -> RowBatch:
            starts = np.array(lines, dtype=np.int64)
            return RowBatch(texts, labels if self._labelled else None, index, starts)

        for line, text, label, problem in self._rows(index):
            problem = problem or _text_problem(text)
            if self._labelled and not problem:
                label, problem = _checked_label(label)
            if problem:
                self.bad_row_count += 1
                if len(self.bad_rows) < _BAD_ROWS_KEPT:
                    self.bad_rows.append((file, line, problem))
            if problem or (refuse and self.bad_row_count):
                continue
            texts.append(text)
            lines.append(line)
            if self._labelled:
                labels.append(label)
            characters += len(text)
            if len(texts) == rows or characters >= _BATCH_CHARACTERS:
                yield batch()
                texts, labels, lines = [], [], []
                characters = 0
        if refuse and self.bad_row_count:
            rows_are = "1 row is" if self.bad_row_count == 1 else f"{self.bad_row_count:,} rows are"
            raise DataError(
                f"{rows_are} bad in {file}",
                where=places(self.bad_rows, self.bad_row_count),
                fix="correct the file"
                + (
                    ", or let finetune leave bad rows out: --set data.on_bad_row=skip"
                    * self._labelled
                ),
            )
        if texts:
            yield batch()


def label_text(value: Any) -> str:
    """A label as a string.

    Space around it goes; a whole number is written without a fraction (`"1"` for `"1.0"` and 1.0,
    which is what an integer column with a gap becomes in pandas); booleans are `"true"` and
    `"false"`.

    Args:
        value: A string, a number, a boolean, or `None`.

    Returns:
        The label; empty if there is none: `None`, NaN, nothing but space.

    Raises:
        TypeError: The value is something else.

    Example:
        >>> label_text(" spam "), label_text(3), label_text("1.0"), label_text(True)
        ('spam', '3', '1', 'true')
    """
    if type(value) is str:
        return _label_of_string(value)
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (int, float)):
        return str(value)
    raise TypeError(f"A label must be a string, a number or a boolean. Received: {value!r}")


@functools.lru_cache(maxsize=4096)
def _label_of_string(value: str) -> str:
    label = value.strip()
    whole = _WHOLE_FLOAT.fullmatch(label)
    return str(int(whole[1])) if whole else label


def _checked_label(value: Any) -> tuple[str, str | None]:
    """The label, and what is wrong with it."""
    try:
        label = label_text(value)
    except TypeError:
        return "", f"the label is {json_kind(value)}, where a string or a number is expected"
    if not label:
        return "", "the label is empty"
    return label, None if label.isascii() else surrogate_problem("label", label)


def _text_problem(value: Any) -> str | None:
    """What is wrong with a text."""
    if type(value) is str:
        if not value or value.isspace():
            return "the text is empty"
        return None if value.isascii() else surrogate_problem("text", value)
    if value is None:
        return "the text is empty"
    return f"the text is {json_kind(value)}, where a string is expected"


def surrogate_problem(role: str, value: str) -> str | None:
    r"""Says what is wrong with a text that no UTF-8 file can hold, or returns `None`.

    JSON can write half a character (`"\ud83d"`).

    Args:
        role: What the text is, for the message.
        value: The text.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"the {role} holds \\u{ord(value[error.start]):x}, which is half a character"
    return None


def places(bad_rows: Sequence[tuple[str, int, str]], count: int) -> str:
    """The first bad rows, one a line, as an error names them.

    Args:
        bad_rows: The first bad rows: file, line, why.
        count: The number of all of them.
    """
    shown = [f"{file}:{line}: {why}" for file, line, why in bad_rows[:_BAD_ROWS_SHOWN]]
    if count > len(shown):
        shown.append(f"and {count - len(shown):,} more")
    return "\n         ".join(shown)


def _empty_file(file: DataFile) -> DataError:
    return DataError("The file is empty", where=file.name, fix="give a file with rows")
