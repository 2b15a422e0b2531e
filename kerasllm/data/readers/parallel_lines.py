"""Parallel text files: line n of the one is the source, line n of the other the target."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import Notes, counted_reasons, reason_of, shortened
from kerasllm.data.readers.row_checks import BAD_ROWS_SHOWN, places, text_problem, what_to_do
from kerasllm.data.readers.sources import RowBatch
from kerasllm.data.readers.text_lines import TextLines
from kerasllm.errors import DataError
from kerasllm.plurals import counted

# A batch also ends at this many characters, so that long lines do not fill the memory.
_BATCH_CHARACTERS = 1 << 24
_BAD_ROWS_KEPT = 1000


class ParallelLines:
    """Text files in twos, read in step: what a `Source` is for tables.

    A line is bad if it is empty, or cannot be read, on either side. Files of a pair with different
    numbers of lines are refused: nobody can tell where they went out of step.

    Args:
        pairs: The files, each source with its target.
        on_bad_row: `"error"` or `"skip"`, as for `Source`. Defaults to `"error"`.
        remarks: What a user should know of how the files were found. Defaults to none.

    Attributes:
        files: The names of the files of the sources, as places in them are told.
        on_bad_row: As given.
        remarks: As given, a list.
        bad_rows: After reading, the first 1,000 bad rows: `(file, line, why)`.
        bad_row_count: After reading, the number of all bad rows.
        bad_row_reasons: After reading, the number of bad rows by the kind of fault.
        notes: After reading, what was met that is not a fault; nothing.

    Example:

    ```python
    lines = ParallelLines([(DataFile("train.en", "train.en"), DataFile("train.de", "train.de"))])
    for batch in lines.batches():
        print(batch.texts[0], "->", batch.pairs[0])
    ```
    """

    def __init__(
        self,
        pairs: Sequence[tuple[DataFile, DataFile]],
        *,
        on_bad_row: str = "error",
        remarks: Sequence[str] = (),
    ):
        if on_bad_row not in ("error", "skip"):
            raise ValueError(f"on_bad_row must be 'error' or 'skip'. Received: {on_bad_row!r}")
        self._pairs = list(pairs)
        self.files = tuple(source.name for source, _ in self._pairs)
        self.on_bad_row = on_bad_row
        self.remarks = list(remarks)
        self._begin()

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the files' bytes in order, and how they are read."""
        total = hashlib.sha256(json.dumps(["kerasllm parallel lines 1"]).encode())
        for file in itertools.chain.from_iterable(self._pairs):
            how = f"{file.encoding} {file.compression or 'plain'}"
            total.update(f"{how} {file.sha256()}\n".encode())
        return total.hexdigest()

    @property
    def noted(self) -> dict[str, Any]:
        """What a store keeps of how the rows were read, as JSON values."""
        return {"skipped_reasons": dict(self.bad_row_reasons), "notes": self.notes.lines()}

    def description(self) -> str:
        """Says in words how the files are read."""
        targets = ", ".join(target.name for _, target in self._pairs[:3])
        return f"one source per line, its target in the same line of {targets}"

    def batches(self, rows: int = 8192, file: int | None = None) -> Iterator[RowBatch]:
        """Reads all lines in order; the sources are `texts`, the targets `pairs` of a batch.

        Args:
            rows: The maximum number of rows in a batch. Defaults to `8192`.
            file: The number of the only pair of files that is read. Defaults to `None`: all are.

        Raises:
            DataError: Two files have different numbers of lines, bad rows are not skipped, a file
                cannot be read to its end, or no row is left.
        """
        self._begin()
        empty = True
        for index in range(len(self._pairs)) if file is None else [file]:
            for batch in self._of_pair(index, rows):
                empty = False
                yield batch
        if empty and file is None:
            raise DataError(
                f"No row can be used: all {self.bad_row_count:,} are bad"
                if self.bad_row_count
                else "The files contain no rows",
                where=places(self.bad_rows, self.bad_row_count) or ", ".join(self.files[:3]),
                fix=f"check the files; they were read as: {self.description()}",
            )

    def _begin(self) -> None:
        self.bad_rows: list[tuple[str, int, str]] = []
        self.bad_row_count = 0
        self._good_rows = 0
        self.bad_row_reasons: Counter[str] = Counter()
        self.notes = Notes()

    def _of_pair(self, index: int, rows: int) -> Iterator[RowBatch]:
        refuse, before = self.on_bad_row == "error", self.bad_row_count
        texts, pairs, lines = [], [], []
        characters = 0

        def batch() -> RowBatch:
            return RowBatch(texts, None, index, np.array(lines, np.int64), pairs)

        for line, source, target, problem in self._in_step(index):
            if problem is not None:
                name, why = problem
                self.bad_row_count += 1
                self.bad_row_reasons[reason_of(why)] += 1
                if len(self.bad_rows) < _BAD_ROWS_KEPT:
                    self.bad_rows.append((name, line, shortened(why)))
                continue
            self._good_rows += 1
            if refuse and self.bad_row_count:
                continue
            texts.append(source)
            pairs.append(target)
            lines.append(line)
            characters += len(source) + len(target)
            if len(texts) == rows or characters >= _BATCH_CHARACTERS:
                yield batch()
                texts, pairs, lines, characters = [], [], [], 0
        if refuse and self.bad_row_count > before:
            one = self.bad_row_count == 1
            are = "1 line is" if one else f"{self.bad_row_count:,} lines are"
            reasons = self.bad_row_reasons if self.bad_row_count > BAD_ROWS_SHOWN else ()
            raise DataError(
                f"{are} bad" + (f": {counted_reasons(reasons)}" if len(reasons) > 1 else ""),
                where=places(self.bad_rows, self.bad_row_count),
                fix=what_to_do(
                    self.bad_row_count,
                    self._good_rows,
                    skip="skip bad lines together with their counterparts: "
                    "--set data.on_bad_row=skip (evaluate: --on-bad-row skip)",
                ),
            )
        if texts:
            yield batch()

    def _in_step(self, index: int) -> Iterator[tuple[int, str, str, tuple[str, str] | None]]:
        """Yields number, source, target, and what is wrong with either, with its file."""
        sides = [TextLines(file) for file in self._pairs[index]]
        roles = ("source", "target")
        both = itertools.zip_longest(*sides)
        for number, texts in enumerate(both, start=1):
            if None in texts:
                raise self._unequal(index, number, texts, both)
            problem = None
            stripped = []
            for side, role, text in zip(sides, roles, texts, strict=True):
                text = text.removesuffix("\n").removesuffix("\r")
                stripped.append(text)
                why = side.take_problem()[1] if side.problems else text_problem(role, text)
                if why is not None and problem is None:
                    problem = side.file.name, why
            first, second = stripped
            yield number, first, second, problem

    def _unequal(self, index: int, number: int, texts: tuple, rest: Iterator) -> DataError:
        longer, blank = number - 1, True
        for one, other in itertools.chain([texts], rest):
            longer += 1
            blank = blank and not (other if one is None else one).strip()
        counts = [number - 1 if text is None else longer for text in texts]
        source, target = self._pairs[index]
        fix = "give two files where line n of the second is the target of line n of the first"
        if blank:
            ends = self._pairs[index][texts[0] is None].name
            more = counted(longer - number + 1, "line")
            fix = f"delete the last {more} of {ends}, which are empty"
        return DataError(
            f"The files do not belong together line by line: {source.name} has "
            f"{counted(counts[0], 'line')}, {target.name} has {counted(counts[1], 'line')}",
            where=f"{source.name}, {target.name}",
            fix=fix,
        )
