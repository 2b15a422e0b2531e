"""Files of conversations: the format of each row, bad rows, and what was converted."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kerasllm.data import shards
from kerasllm.data.chat.format_rows import read_row
from kerasllm.data.chat.formats import Shape, UnclearShape, find_shape, known_shapes
from kerasllm.data.chat.messages import BadRow
from kerasllm.data.readers.columns import check_column
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import shortened
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.records import records, starts_of
from kerasllm.data.readers.row_checks import places, what_to_do
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.token_store import row_batch
from kerasllm.errors import DataError
from kerasllm.plurals import counted

CONVERSATIONS = "conversations"
"""The format of rows of any shape that is a conversation."""

_NAME_COLUMNS = "name the columns: --set data.prompt=COLUMN --set data.response=COLUMN"
PLAIN_TEXT = "or read plain text: --set data.format=text --set data.text=COLUMN"
_NEW_LINE = "\n         "

_ROWS_PER_BATCH = 1024
_BAD_ROWS_KEPT = 1000
_BAD_ROWS_SHOWN = 5
_MOST_REASONS, _MOST_REASONS_COUNTED = 5, 1000
# Sets of columns, columns, and fields of messages: no row of an honest file has its own.
_MOST_KNOWN = 1000
_OF_ANOTHER_SHAPE = "row|in a different format from most"

# Columns that tell what kind of conversation a row is.
_KINDS = {"language", "lang", "label", "category", "topic", "domain", "source"}
_MOST_KINDS = 50
_READ = {"role", "content", "weight"}

Encoded = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass
class Counts:
    """What became of the conversations of some files.

    Args:
        read: Conversations (or pairs of them) that were read, bad rows not counted.
        cut: Those that lost their end, to fit.
        dropped: Those that were left out, as nothing to train on would have fitted.
        split: Those that were split between turns.
        pieces: What those became.
        skipped: Bad rows that were left out.
        shapes: The number of rows for each combination of columns and format, most frequent first.
        unread: Columns that were not read, and fields of messages that the template does not read.
        forms: How often something was read in another form than it has.
        skipped_reasons: How many rows are bad for which reason.
        kinds: How many rows have which value in columns such as `language` and `category`.
    """

    read: int = 0
    cut: int = 0
    dropped: int = 0
    split: int = 0
    pieces: int = 0
    skipped: int = 0
    shapes: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)
    unread: list[str] = dataclasses.field(default_factory=list, compare=False)
    forms: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)
    skipped_reasons: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)
    kinds: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, store: TokenStore) -> Counts:
        """Returns what a store of conversations remembers, also when it is used again."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in store.remarks[0].items() if name in known})

    def __str__(self) -> str:
        said = [counted(self.read, "conversation")]
        said += [f"{self.cut:,} cut"] * (self.cut > 0)
        said += [f"{self.dropped:,} dropped as too long"] * (self.dropped > 0)
        said += [f"{self.split:,} split into {self.pieces:,}"] * (self.split > 0)
        said += [f"{counted(self.skipped, 'bad row')} skipped"] * (self.skipped > 0)
        return ", ".join(said)

    @property
    def remarks(self) -> list[str]:
        """What a user should know of the forms in which rows were read."""
        found = []
        for form, count in self.forms.items():
            noun, _, rest = form.partition("|")
            found.append(f"{counted(count, noun)} {rest}")
        return found


class ConversationFiles:
    """Files of conversations, or of preferences.

    Args:
        spec: See `kerasllm.data.chat.conversations.open_conversations`.
        split: The same.
        format: The same.
        system: The same.
        on_bad_row: The same.
        prompt: The same. Defaults to `None`.
        response: The same. Defaults to `None`.
        preferences: Whether each row holds a chosen and a rejected conversation. Defaults to
            `False`.
        template_source: The Jinja source of the chat template: fields of messages that it does not
            name are not read. Defaults to `""`.

    Attributes:
        files: The names of the files.
        file_remarks: What a user should know of how they were found, a list.
        counts: What became of the rows, once they have been read.
        bad_rows: The first bad rows: file, line, why.

    Raises:
        DataError: If a file is missing or holds no such rows.
    """

    def __init__(
        self,
        spec: str | os.PathLike | Sequence[str | os.PathLike],
        split: str,
        format: str,
        system: str | None,
        on_bad_row: str,
        *,
        prompt: str | None = None,
        response: str | None = None,
        preferences: bool = False,
        template_source: str = "",
    ):
        self._files = find_files(spec, split)
        self.files = tuple(file.name for file in self._files)
        self.file_remarks = self._files.remarks
        self._format = "auto" if format == CONVERSATIONS else format
        self._named = {"prompt": prompt, "response": response}
        self._system = system
        self._refuse = on_bad_row == "error"
        self._preferences = preferences
        self._template_source = template_source
        self._unread: dict[str, None] = {}
        self._shapes = [self._shape_of(file) for file in self._files]
        self.settings: list = [self._format, system, on_bad_row, preferences]
        if prompt is not None or response is not None:
            self.settings.append(self._named)
        self._begin()

    @property
    def fingerprint(self) -> list[str]:
        """The names of the files and sha256 of what is in them."""
        return [*self.files, *(file.sha256() for file in self._files)]

    def batches(self, rows_of: Callable[[Any, Counts], list[Encoded]]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of all files; `rows_of` makes them of what a line of a file holds."""
        self._begin()
        kept = 0
        mine = shards.mine()
        for number in range(len(self._files)) if mine is None else [mine]:
            for batch in self._file_batches(number, rows_of):
                kept += len(batch)
                yield batch
        read = Counter({str(shape): count for shape, count in self._read.items()})
        self.counts.shapes = dict(read.most_common())
        columns = {column for shape in self._read for _, column in shape.columns}
        self.counts.unread = [repr(key) for key in self._keys if key not in columns] + [
            f"'{field}' of messages"
            for field in self._fields
            if not re.search(rf"\b{re.escape(field)}\b", self._template_source)
        ]
        self.counts.kinds = {key: dict(values) for key, values in self._kinds.items()}
        self.counts.forms = dict(self.notes)
        self.counts.skipped_reasons = dict(self._reasons.most_common())
        if not kept and mine is None:
            dropped = f"; too long: {self.counts.dropped:,}" * (self.counts.dropped > 0)
            raise DataError(
                f"No conversation can be used. Bad rows: {self.counts.skipped:,}{dropped}",
                where=places(self.bad_rows, self.counts.skipped) or ", ".join(self.files),
                fix="correct the files, or allow longer sequences: --set data.max_length=N",
            )

    @property
    def shapes(self) -> list[str]:
        """The names of the shapes that the first rows of the files have, each once."""
        return list(dict.fromkeys(shape.name for shape in self._shapes))

    def description(self) -> str:
        """Says in words which columns most rows are read from."""
        return "; ".join(dict.fromkeys(map(str, self._shapes)))

    @property
    def unread_columns(self) -> list[str]:
        """The columns of the first rows that are not read."""
        return list(self._unread)

    def rows(self) -> Iterator[tuple[int, int, Any, str | None]]:
        """Yields file number, line, what it holds and what is wrong with it, of each row."""
        for number, (file, shape) in enumerate(zip(self._files, self._shapes, strict=True)):
            for line, row, problem in records(file):
                found = None
                if not problem:
                    try:
                        found = self._conversation(row, shape)
                    except BadRow as error:
                        problem = str(error)
                yield number, line, found, problem

    @property
    def is_revised(self) -> bool:
        """Whether earlier versions would have read the rows in another way, or not at all."""
        return bool(self.notes) or not all(shape.is_old for shape in self._read)

    def _begin(self) -> None:
        self.counts, self.bad_rows = Counts(), []
        self.notes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._read: Counter[Shape] = Counter()
        self._keys: dict[str, None] = {}
        self._fields: dict[str, None] = {}
        self._kinds: dict[str, Counter[str]] = {}
        self._known: dict[tuple[str, ...], Shape | UnclearShape | None] = {}

    def _file_batches(
        self, number: int, rows_of: Callable[[Any, Counts], list[Encoded]]
    ) -> Iterator[pa.RecordBatch]:
        held: list[Encoded] = []
        lines: list[int] = []
        name = self.files[number]
        before = self.counts.skipped
        for line, row, problem in records(self._files[number]):
            rows = []
            try:
                if problem:
                    raise BadRow(problem)
                rows = rows_of(self._conversation(row, self._shapes[number]), self.counts)
                self.counts.read += 1
            except (BadRow, DataError) as error:
                self._note_bad(name, line, str(getattr(error, "what", error)))
            if self._refuse and self.counts.skipped:
                continue
            held += rows
            lines += [line] * len(rows)
            if len(held) >= _ROWS_PER_BATCH:
                yield _batch(held, number, lines)
                held, lines = [], []
        if self._refuse and (count := self.counts.skipped - before):
            # Few are all shown with their reasons.
            several = len(self._reasons) > 1 and count > _BAD_ROWS_SHOWN
            why = f": {reasons_in_words(self._reasons)}" if several else ""
            raise DataError(
                f"{'1 row is' if count == 1 else f'{count:,} rows are'} bad in {name}{why}",
                where=places(self.bad_rows, count),
                fix=what_to_do(self.counts.skipped, self.counts.read),
            )
        if held:
            yield _batch(held, number, lines)

    def _conversation(self, row: dict, main: Shape) -> Any:
        """Reads a row by its own shape, or else by that of most rows."""
        keys = tuple(key for key, value in row.items() if value is not None)
        if keys not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[keys] = self._own_shape(keys)
            if len(self._keys) < _MOST_KNOWN:
                self._keys.update(dict.fromkeys(keys))
        shape = self._known[keys]
        if isinstance(shape, UnclearShape):
            raise BadRow(str(shape))
        shape = shape or main
        if (shape.name == "preference") != self._preferences:
            raise BadRow(f"the row is in the format '{shape.name}'")
        notes: Counter[str] = Counter()
        found = read_row(row, shape, self._system, notes)
        if shape.kind != main.kind:
            notes[_OF_ANOTHER_SHAPE] += 1
        self.notes.update(notes)
        for key in keys:
            if key.lower() in _KINDS and isinstance(value := row[key], str):
                values = self._kinds.setdefault(key, Counter())
                # Of more values no one tells much.
                if value in values or len(values) < _MOST_KINDS:
                    values[value] += 1
        for side in (found.chosen, found.rejected) if self._preferences else (found,):
            for message in side:
                if len(message) > 2 and len(self._fields) < _MOST_KNOWN:
                    self._fields.update(dict.fromkeys(sorted(message.keys() - _READ)))
        self._read[shape] += 1
        return found

    def _own_shape(self, keys: Sequence[str]) -> Shape | UnclearShape | None:
        try:
            return find_shape(keys, self._format, **self._named)
        except UnclearShape as error:
            return error

    def _note_bad(self, name: str, line: int, why: str) -> None:
        self.counts.skipped += 1
        reason = _kind_of(shortened(why))
        if reason in self._reasons or len(self._reasons) < _MOST_REASONS_COUNTED:
            self._reasons[reason] += 1
        else:
            self._reasons["other reasons"] += 1
        if len(self.bad_rows) < _BAD_ROWS_KEPT:
            self.bad_rows.append((name, line, shortened(why)))

    def _shape_of(self, file: DataFile) -> Shape:
        """Tells the shape of most of a file's first rows, by their columns."""
        # A key may be missing in some.
        first, (line, problem) = starts_of(file)
        if not first:
            raise DataError("The file is empty", where=file.name, fix="give a file with rows")
        keys = list(dict.fromkeys(itertools.chain.from_iterable(first)))
        if not keys:
            raise DataError(
                f"There is no row in the file's first lines: {problem or 'an object without keys'}",
                where=f"{file.name}:{line}",
                fix='write one object a line: {"messages": [...]}',
            )
        for role, column in self._named.items():
            if column is not None:
                check_column(role, column, keys, file)
        own = Counter()
        for row in first:
            there = tuple(key for key, value in row.items() if value is not None)
            own[self._own_shape(there)] += 1
        known = [shape for shape, _ in own.most_common() if isinstance(shape, Shape)]
        found = known[0] if known else self._own_shape(keys)
        if not isinstance(found, Shape):
            raise _unknown(file, keys, found, self._preferences)
        read = {column for shape in (found, *known) for _, column in shape.columns}
        self._unread |= dict.fromkeys(key for key in keys if key not in read)
        if (found.name == "preference") != self._preferences:
            raise DataError(
                f"The rows are in the format '{found.name}'",
                where=file.name,
                fix="preference tuning needs chosen and rejected in each row"
                if self._preferences
                else "rows with chosen and rejected are for preference tuning (DPO): "
                "--recipe gpt_dpo",
            )
        return found


def reasons_in_words(reasons: dict[str, int]) -> str:
    """Returns why rows are bad, the most frequent reasons first."""
    found = Counter(reasons).most_common()
    said = [f"{count:,} x {why}" for why, count in found[:_MOST_REASONS]]
    rest = sum(count for _, count in found[_MOST_REASONS:])
    return ", ".join(said + [f"{rest:,} for other reasons"] * (rest > 0))


def _kind_of(why: str) -> str:
    """A reason without what is of one row alone; an apostrophe begins no quotation."""
    why = re.sub(r"\(available keys: .*\)", "", why)
    return re.sub(r"\d+", "N", re.sub(r"\B'[^']*'|\"[^\"]*\"", "...", why)).strip()


def _unknown(
    file: DataFile, keys: Sequence[str], why: UnclearShape | None, preferences: bool
) -> DataError:
    listed = ", ".join(map(repr, keys))
    if preferences:
        return DataError(
            f"The rows are not preferences; their columns are {listed}",
            where=file.name,
            fix="preference tuning needs chosen and rejected in each row, and prompt unless they "
            "start with it",
        )
    if isinstance(why, UnclearShape):
        return DataError(f"In the rows {why}", where=file.name, fix=why.fix)
    return DataError(
        f"The rows are in no known format; their columns are {listed}",
        where=file.name,
        fix=_NEW_LINE.join(
            (_NAME_COLUMNS, PLAIN_TEXT, f"or give rows in one of these formats:{known_shapes()}")
        ),
    )


def _batch(rows: list[Encoded], file: int, lines: list[int]) -> pa.RecordBatch:
    offsets = np.cumsum([0, *(len(ids) for ids, _ in rows)])
    ids, trained = (np.concatenate(parts) for parts in zip(*rows))
    return row_batch(ids, offsets, file, np.array(lines, np.int64), trained=trained)
