"""A source: files of text, with or without labels, read as rows."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kerasllm.data.detection import detect_problem
from kerasllm.data.label_cells import label_text
from kerasllm.data.label_column import SAMPLE
from kerasllm.data.problems import Problem
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import (
    EMPTY_TEXT,
    FIELDS,
    Notes,
    counted_reasons,
    reason_of,
    shortened,
)
from kerasllm.data.readers.files import FoundFiles, find_files, read_as
from kerasllm.data.readers.folders import left_out
from kerasllm.data.readers.formats import Columns, Format, Row, format_of
from kerasllm.data.readers.layout import Wanted, empty_file, find_layout
from kerasllm.data.readers.repaired import repaired
from kerasllm.data.readers.row_checks import (
    BAD_ROWS_SHOWN,
    places,
    text_problem,
    what_to_do,
)
from kerasllm.data.readers.source_labels import LabelReader, class_labels
from kerasllm.errors import DataError

# A batch also ends at this many characters, so that long documents do not fill the memory.
_BATCH_CHARACTERS = 1 << 24

_BAD_ROWS_KEPT = 1000


@dataclasses.dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of one file.

    Args:
        texts: The texts, as they stand in the file.
        labels: The labels as strings (see `label_text`), or `None` if the source has none, or
            several for a text, or scores.
        file: The number of the file in `Source.files`.
        lines: Where each row starts: its line, counted from 1, or its row number in a Parquet
            file. int64, shape `[len(texts)]`.
        pairs: The second texts, or `None` if each row has one text. Defaults to `None`.
        targets: What is predicted, by the kind of `Source.problem`: labels (the same list), tuples
            of labels, or floats. Defaults to `None`: the source has no labels.
    """

    texts: list[str]
    labels: list[str] | None
    file: int
    lines: np.ndarray
    pairs: list[str] | None = None
    targets: list | None = None

    def __len__(self) -> int:
        return len(self.texts)


class Source:
    """Files of texts, or of pairs of texts, that are read in memory that does not grow with them.

    Formats, by suffix: `.csv`, `.tsv`, `.jsonl` (`.ndjson`), `.json` (a list of objects),
    `.parquet`, and `.txt` for texts without labels (one per line); each but Parquet also with
    `.gz`, `.zst`, `.bz2`, `.xz` or in a `.zip`. Text is UTF-8 unless `encoding` names another. What
    separates the fields of a table, and how its quotes are written, is detected (see
    `detect_dialect`). A `.tsv` that was written with quotes is read with them (see
    `detect_quoting`); in any other, as in the tables of GLUE, a `"` is a character and a row is a
    line. All files are checked when the source is made; rows are read by `batches`.

    Columns of a csv or tsv file without a header are named by their numbers, counted from 0 (`"3"`
    or `"column_3"`); where none is named, they are guessed if the first rows leave no doubt. This
    also holds for texts without labels. A name that the header has always wins.

    A row is bad if it cannot be read (broken UTF-8, a missing field, malformed JSON), if a text or
    its label is empty, or if its label does not fit the problem.

    Args:
        spec: What `find_files` takes: a path, a folder, a glob, an address, `starter:NAME`, or a
            sequence of these.
        split: `"train"`, `"validation"` or `"test"`: the part that `starter:NAME` means. Defaults
            to `"train"`.
        text: The column of the texts. Defaults to `None`: the first common name that is there.
        text_pair: The column of the second texts; `"auto"` finds two text columns by common names
            where no text column is named. Defaults to `None`: each row has one text.
        label: The column of the labels, or a list of columns that hold 0 or 1, one for each label.
            Defaults to `None`: the first common name that is there.
        labelled: Whether the rows have labels. Defaults to `True`.
        problem: `"auto"` detects from the first 10,000 rows whether there is one label, several
            labels or a score to predict; `"single_label"`, `"multi_label"` or `"regression"` sets
            it; the `problem` of another source makes this one read its labels in the same way.
            Defaults to `"auto"`.
        label_separator: What stands between the labels of a cell. Defaults to `None`: detected.
        ignore_labels: Labels that mean that there is none: such rows are left out, and counted in
            `unlabelled`. Of several labels, they are left out of a row's. Defaults to `()`.
        on_bad_row: `"error"` refuses a file that has bad rows, after reading all of it, and names
            the first ones; `"skip"` leaves them out. Defaults to `"error"`.
        encoding: The encoding of the files' text. Defaults to `None`: UTF-8; a file that is not is
            refused, and the encoding that it looks like named.
        delimiter: Field delimiter of csv and tsv files. Defaults to `None`: detected.
        skip_empty: Whether rows with an empty text are left out, regardless of what
            `on_bad_row` is. Defaults to `False`: they are bad.
        roles: What the texts of a row are called in messages. Defaults to
            `("text", "second text")`.

    Attributes:
        files: The names of the files, as messages show them.
        text_column: The column of the texts; `None` if all files are `.txt`.
        pair_column: The column of the second texts, or `None`.
        label_column: The column of the labels; `None` if there is none, or more than one.
        label_columns: The columns of the labels: one, a column for each label, or none.
        headerless: Whether a file has no header, so that its columns are `column_0`...
        columns_found: How the columns were found, in words.
        unread_texts: Columns that hold texts too, where the columns were found by their names.
        other_labels: Columns that may be labels too, where the label was found by its name.
        problem: What is predicted, or `None` if there are no labels.
        on_bad_row: As given.
        label_names: What the labels of a bundled data set mean, or those of a Parquet file that
            names its classes (`datasets.ClassLabel`); or `None`.
        remarks: What a user should know of how the files are read, a list.
        bad_rows: After reading, the first 1,000 bad rows: `(file, line, why)`.
        bad_row_count: After reading, the number of all bad rows.
        bad_row_labels: After reading, how many bad rows have each label, where it can be read.
        unlabelled: After reading, how many rows were left out for a label that means none.
        bad_row_reasons: After reading, the number of bad rows by the kind of fault.
        notes: After reading, what was met that is not a fault, such as rows of several lines.

    Raises:
        DataError: A file is missing, in no known format, or lacks a column; all are empty; or what
            to predict is not clear from the labels.

    Example:
        >>> source = Source("starter:movie_reviews", split="test")
        >>> batch = next(source.batches())
        >>> batch.texts[1], batch.labels[1], source.files[batch.file], int(batch.lines[1])
        ('Effective but too tepid biopic', '0', 'starter:movie_reviews/test', 3)
    """

    def __init__(
        self,
        spec: str | os.PathLike | DataFile | Sequence[str | os.PathLike | DataFile],
        *,
        split: str = "train",
        text: str | None = None,
        text_pair: str | None = None,
        label: str | Sequence[str] | None = None,
        labelled: bool = True,
        problem: str | Problem = "auto",
        label_separator: str | None = None,
        ignore_labels: Iterable[str] = (),
        on_bad_row: str = "error",
        encoding: str | None = None,
        delimiter: str | None = None,
        skip_empty: bool = False,
        roles: Sequence[str] = ("text", "second text"),
    ):
        if on_bad_row not in ("error", "skip"):
            raise ValueError(f"on_bad_row must be 'error' or 'skip'. Received: {on_bad_row!r}")
        named = read_as(spec, split, encoding=encoding, delimiter=delimiter)
        self._files = find_files(named, split)
        self._formats = [format_of(file) for file in self._files]
        self._skip_empty = skip_empty
        self._roles = tuple(roles)
        self._labelled = labelled
        self.on_bad_row = on_bad_row
        labels = (label,) if isinstance(label, str) else tuple(label or ())
        wanted = Wanted(text, text_pair, labels, labelled)
        self._layout = find_layout(self._files, self._formats, wanted)
        empty = self._leave_out_empty()
        self.files = tuple(file.name for file in self._files)
        self.text_column, self.pair_column = (*self._layout.texts, None, None)[:2]
        self.label_columns = self._layout.labels
        self._lists_columns = len(labels) == 1 and not isinstance(label, str)
        self.label_column = self.label_columns[0] if len(self.label_columns) == 1 else None
        self.headerless = any(not columns.header for columns in self._layout.files)
        self.columns_found = self._layout.why
        self.unread_texts = self._layout.unread
        self.other_labels = self._layout.other_labels
        classes = None
        if labelled and self.label_column is not None:
            classes = class_labels(self._files, self._formats, self.label_column)
        self.label_names = classes.by_label if classes else self._common_label_names()
        self._labels = LabelReader(self.label_columns, ignore_labels, classes)
        self.remarks = [*self._files.remarks, *left_out(empty, "empty")]
        self.remarks += [remark for form in self._formats for remark in form.remarks]
        self.bad_rows: list[tuple[str, int, str]] = []
        self.bad_row_count = 0
        self.bad_row_labels: Counter[str] = Counter()
        self.unlabelled: Counter[str] = Counter()
        self.bad_row_reasons: Counter[str] = Counter()
        self.notes = Notes()
        self.problem = self._find_problem(problem, label_separator) if labelled else None
        self._labels.problem = self.problem

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the files' bytes in order, their formats and the columns.

        The files are read on each access. Names and dates of files do not count.
        """
        read: list = ["kerasllm source 1", self.text_column, self.label_column]
        # Sources of one text and one label keep the fingerprints of earlier versions.
        more = {
            "pair": self.pair_column,
            "labels": self.label_columns[1:] and self.label_columns,
            "headerless": self.headerless,
            "ignored": sorted(self._labels.ignored),
        }
        if not self._labels.ignored:
            del more["ignored"]
        if self.problem and self.problem != Problem("single_label"):
            more["problem"] = [self.problem.kind, self.problem.separator, self.problem.booleans]
        if self.problem and self.problem.one_hot:
            more["one hot"] = True
        if any(more.values()):
            read.append(more)
        total = hashlib.sha256(json.dumps(read).encode())
        for file, form in zip(self._files, self._formats):
            packed = file.compression or "plain"
            total.update(f"{form.name} {packed} {file.sha256()}\n".encode())
        return total.hexdigest()

    @property
    def noted(self) -> dict[str, Any]:
        """What a store keeps of how the rows were read, as JSON values.

        `skipped_reasons` holds the number of bad rows by the kind of fault, `notes` sentences, and
        `revised` tells whether the rows are others than earlier versions read.
        """
        return {
            "skipped_reasons": dict(self.bad_row_reasons),
            "notes": self.notes.lines(),
            "revised": self.notes.revised,
        }

    @property
    def readings(self) -> list[tuple[DataFile, Format, Columns]]:
        """Each file, its format, and the columns that are read of it."""
        return list(zip(self._files, self._formats, self._layout.files, strict=True))

    @property
    def local_files(self) -> list[str]:
        """The paths of the files, which are on this machine; those from elsewhere in the cache."""
        return [file.path for file in self._files]

    def batches(self, rows: int = 8192, file: int | None = None) -> Iterator[RowBatch]:
        """Reads all rows, from the first file's first to the last file's last.

        Args:
            rows: The maximum number of rows in a batch; a batch holds rows of one file, and fewer
                of them where texts are long. Defaults to `8192`.
            file: The number of the only file that is read. Defaults to `None`: all are.

        Raises:
            DataError: A file has bad rows and `on_bad_row` is `"error"`, a file cannot be read to
                its end, or no row is left.
        """
        self.bad_rows = []
        self.bad_row_count = 0
        self.bad_row_labels = Counter()
        self.unlabelled = Counter()
        self.bad_row_reasons = Counter()
        self.notes = Notes()
        self._good_rows = 0
        empty = True
        for index in range(len(self._files)) if file is None else [file]:
            for batch in self._file_batches(index, rows):
                empty = False
                yield batch
        if not empty or file is not None:
            return
        if self.unlabelled and not self.bad_row_count:
            raise self._all_unlabelled()
        left_out = "".join(f"; {line}" for line in self.notes.lines())
        raise DataError(
            f"No row can be used: all {self.bad_row_count:,} are bad{left_out}"
            if self.bad_row_count
            else f"The files contain no rows{left_out}",
            where=places(self.bad_rows, self.bad_row_count),
            fix=f"check the files, and that the columns are the right ones: {self.description()}",
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
        return self.pairs_of(indices)[0]

    def pairs_of(self, indices: Sequence[int] | np.ndarray) -> tuple[list[str], list[str] | None]:
        """Reads the texts of some rows again, and their second texts.

        Args:
            indices: As for `texts_of`.

        Returns:
            The texts and the second texts, in the order of `indices`; `None` instead of the
            second texts if each row has one text.

        Raises:
            IndexError: A number that no row has.
        """
        wanted = np.unique(np.asarray(indices, dtype=np.int64))
        texts, pairs, done = {}, {}, 0
        for batch in self.batches():
            low, high = np.searchsorted(wanted, [done, done + len(batch)])
            for row in map(int, wanted[low:high]):
                texts[row] = batch.texts[row - done]
                if batch.pairs is not None:
                    pairs[row] = batch.pairs[row - done]
            done += len(batch)
            if high == len(wanted):
                break
        if len(texts) < len(wanted):
            raise IndexError(f"The source has {done} rows. Received: indices={indices}")
        rows = [int(row) for row in indices]
        second = None if self.pair_column is None else [pairs[row] for row in rows]
        return [texts[row] for row in rows], second

    def description(self) -> str:
        """Says in words which columns are read, and what is predicted.

        Example:

        >>> Source("starter:movie_reviews").description()
        "text 'text', label 'label' (single label)"
        """
        found = [f"{role} '{name}'" for role, name in zip(self._roles, self._layout.texts)]
        found = found or ["one text per line"]
        if self.problem is not None:
            kind = self.problem.kind.replace("_", " ")
            names = ", ".join(f"'{name}'" for name in self.label_columns)
            found.append(f"{'labels' if self.label_columns[1:] else 'label'} {names} ({kind})")
        return ", ".join(found) + ("; no header" if self.headerless else "")

    def _find_problem(self, problem: str | Problem, separator: str | None) -> Problem:
        """Takes the problem as given, or detects it from the first rows of all files."""
        several = len(self.label_columns) > 1
        kind = problem.kind if isinstance(problem, Problem) else problem
        if several and kind not in ("auto", "multi_label"):
            raise DataError(
                f"data.label names {len(self.label_columns)} columns, which means several labels "
                f"per text, but data.problem is {kind}",
                where="data.label",
                fix="name one column, or set data.problem=multi_label",
            )
        if several and separator is not None:
            raise DataError(
                f"data.label names {len(self.label_columns)} columns, one for each label, and "
                f"data.label_separator={separator!r} is for several labels in one column",
                where="data.label_separator",
                fix="leave data.label_separator out, or name one column",
            )
        if isinstance(problem, Problem):
            return problem
        if several:
            return Problem("multi_label", why="each label has a column")
        share = max(1, SAMPLE // len(self._files))
        lines: list[str] = []

        def values() -> Iterator[Any]:
            for index, file in enumerate(self.files):
                for line, row, bad in itertools.islice(self._label_rows(index), share):
                    if not bad and not self._labels.is_unlabelled(row[-1:]):
                        lines.append(f"{file}:{line}")
                        yield row[-1]

        return detect_problem(
            values(),
            problem,
            separator=separator,
            column=self.label_column,
            where=", ".join(self.files[:3]) + (", ..." if self.files[3:] else ""),
            places=lines,
            of_one_label=self._lists_columns,
        )

    def _all_unlabelled(self) -> DataError:
        held = ", ".join(self.unlabelled)
        return DataError(
            f"No row has a label: all {sum(self.unlabelled.values()):,} hold {held}, which means "
            "that there is none",
            where=", ".join(self.files[:3]) + (", ..." if self.files[3:] else ""),
            fix="give data with labels; kerasllm predict reads texts without labels",
        )

    def _common_label_names(self) -> dict[str, str] | None:
        names = self._files[0].label_names
        if names is None or any(file.label_names != names for file in self._files):
            return None
        return dict(names)

    def _leave_out_empty(self) -> list[str]:
        """Leaves out files without a row, good or bad, as Spark writes some; returns their names.

        Raises:
            DataError: No file has a row.
        """
        columns = self._layout.files
        filled = [
            index
            for index in range(len(self._files))
            if columns[index] is not None and next(self._rows(index), None) is not None
        ]
        if not filled:
            if self._formats[0].columns is None or columns[0] is None:
                raise empty_file(self._files[0])
            raise DataError(
                "The file has a header, but no rows",
                where=self._files[0].name,
                fix="add rows below the header",
            )
        kept = [self._files[index] for index in filled]
        empty = [self._files[index].name for index in sorted({*range(len(columns))} - {*filled})]
        self._files = FoundFiles(kept, self._files.remarks)
        self._formats = [self._formats[index] for index in filled]
        self._layout = dataclasses.replace(
            self._layout, files=tuple(columns[index] for index in filled)
        )
        return empty

    def _label_rows(self, index: int) -> Iterator[Row]:
        """Rows whose labels are wanted alone: of columns that are stored apart, no text is read."""
        form, columns = self._formats[index], self._layout.files[index]
        if form.name == "parquet":
            columns = dataclasses.replace(columns, texts=())
        return form.rows(self._files[index], columns)

    def _rows(self, index: int, notes: Notes | None = None) -> Iterator[Row]:
        columns = self._layout.files[index]
        return self._formats[index].rows(self._files[index], columns, notes)

    def _file_batches(self, index: int, rows: int) -> Iterator[RowBatch]:
        file = self.files[index]
        refuse = self.on_bad_row == "error"
        paired = self.pair_column is not None
        width = 1 + paired
        texts, pairs, targets, lines = [], [], [], []
        characters = 0
        # Lines of bad rows whose labels the reader could not give.
        unread: set[int] = set()

        def batch() -> RowBatch:
            kind = self.problem and self.problem.kind
            return RowBatch(
                texts,
                targets if kind == "single_label" else None,
                index,
                np.array(lines, dtype=np.int64),
                pairs if paired else None,
                targets if kind else None,
            )

        for line, values, problem in self._rows(index, self.notes):
            target = None
            if self._labels.ignored and not problem and self._labels.is_unlabelled(values[width:]):
                self.unlabelled[label_text(_first(values[width]))] += 1
                continue
            if not problem:
                problem = text_problem(self._roles[0], values[0])
                if paired:
                    problem = problem or text_problem(self._roles[1], values[1])
                if self.problem and not problem:
                    target, problem = self._labels.target(values[width:])
            if problem:
                if self._skip_empty and reason_of(problem) == EMPTY_TEXT:
                    self.notes.add("empty texts left out", f"{file}:{line}")
                    continue
                self.bad_row_count += 1
                self.bad_row_reasons[reason_of(problem)] += 1
                if len(self.bad_rows) < _BAD_ROWS_KEPT:
                    self.bad_rows.append((file, line, shortened(problem)))
                # In a row of the wrong length, nobody knows which field is the label.
                if not refuse and self.problem and reason_of(problem) != FIELDS:
                    if values:
                        self._count_bad_label(values[width:])
                    else:
                        unread.add(line)
            else:
                self._good_rows += 1
            if problem or (refuse and self.bad_row_count):
                continue
            texts.append(values[0])
            lines.append(line)
            characters += len(values[0])
            if paired:
                pairs.append(values[1])
                characters += len(values[1])
            if self.problem:
                targets.append(target)
            if len(texts) == rows or characters >= _BATCH_CHARACTERS:
                yield batch()
                texts, pairs, targets, lines = [], [], [], []
                characters = 0
        if refuse and self.bad_row_count:
            rows_are = "1 row is" if self.bad_row_count == 1 else f"{self.bad_row_count:,} rows are"
            reasons = self.bad_row_reasons if self.bad_row_count > BAD_ROWS_SHOWN else ()
            raise DataError(
                f"{rows_are} bad in {file}"
                + (f": {counted_reasons(reasons)}" if len(reasons) > 1 else ""),
                where=places(self.bad_rows, self.bad_row_count),
                fix=what_to_do(self.bad_row_count, self._good_rows)
                if self._labelled
                else "correct the file",
            )
        if texts:
            yield batch()
        if unread:
            self._count_unread_labels(index, unread)

    def _count_bad_label(self, values: Sequence[Any]) -> None:
        target, problem = self._labels.target(values)
        if not problem and type(target) is not float:
            self.bad_row_labels.update((target,) if type(target) is str else target)

    def _count_unread_labels(self, index: int, lines: set[int]) -> None:
        """Reads the labels of bad rows with what can be read of them."""
        if self.problem.kind == "regression" or self._files[index].suffix == ".parquet":
            return
        rows = self._formats[index].rows(repaired(self._files[index]), self._layout.files[index])
        width, bad = len(self._layout.texts), sorted(lines)
        end = (sys.maxsize, (), None)
        for (line, values, problem), following in itertools.pairwise(itertools.chain(rows, [end])):
            # What is bad may be in any line of a row.
            first, last = (bisect.bisect_left(bad, each) for each in (line, following[0]))
            if first == last or problem or self._labels.is_unlabelled(values[width:]):
                continue
            if not any("\ufffd" in str(value) for value in values[width:]):
                self._count_bad_label(values[width:])


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value
