"""Conversations from files, as tokens that know which of them are trained on."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kerasllm.data.chat.shapes import BadRow, known_shapes, read_row, shape_of
from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.data.chat.tokens import encode_conversation
from kerasllm.data.readers.files import DataFile, find_files
from kerasllm.data.readers.records import first_keys, records
from kerasllm.data.readers.sources import places
from kerasllm.data.token_store import SKIPPED_KEPT, TokenStore, open_or_write, row_batch
from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.errors import DataError
from kerasllm.plurals import counted

# Raise it when the same file and settings would give other tokens than before.
_VERSION = 1

# Rows whose keys together tell the shape: a key may be missing in some.
_ROWS_FOR_SHAPE = 100
_ROWS_PER_BATCH = 1024
_BAD_ROWS_KEPT = 1000

_Encoded = tuple[np.ndarray, np.ndarray]


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
    """

    read: int = 0
    cut: int = 0
    dropped: int = 0
    split: int = 0
    pieces: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, store: TokenStore) -> Counts:
        """Returns what a store of conversations remembers, also when it is used again."""
        return cls(**store.remarks[0])

    def __str__(self) -> str:
        said = [counted(self.read, "conversation")]
        said += [f"{self.cut:,} cut"] * (self.cut > 0)
        said += [f"{self.dropped:,} dropped as too long"] * (self.dropped > 0)
        said += [f"{self.split:,} split into {self.pieces:,}"] * (self.split > 0)
        said += [f"{counted(self.skipped, 'bad row')} skipped"] * (self.skipped > 0)
        return ", ".join(said)


def holds_conversations(
    spec: str | os.PathLike | Sequence[str | os.PathLike], split: str = "train"
) -> bool:
    """Tells by the keys of the first rows whether files hold conversations, or else texts.

    Args:
        spec: As for `open_conversations`, and text files.
        split: The part that `starter:NAME` means. Defaults to `"train"`.

    Raises:
        DataError: If they hold preferences.
    """
    shape = shape_of(first_keys(spec, split))
    if shape == "preference":
        raise DataError(
            "The rows are preferences: each has an answer that was chosen and one that was rejected",
            where="data.train",
            fix="train on them with a recipe whose task is preference, such as gpt_dpo",
        )
    return shape is not None


def open_conversations(
    spec: str | os.PathLike | Sequence[str | os.PathLike],
    tokenizer: TokenizerJson,
    template: ChatTemplate,
    *,
    max_length: int,
    folder: str | os.PathLike,
    split: str = "train",
    format: str = "auto",
    too_long: str = "cut",
    train_on_prompt: bool = False,
    system: str | None = None,
    on_bad_row: str = "error",
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the tokens of conversations, from the store if they were read before.

    Shapes: `messages` (`[{"role", "content"}, ...]`), `prompt_completion` (`prompt`,
    `completion`), `alpaca` (`instruction`, `input`, `output`) and `sharegpt` (`conversations`,
    `[{"from", "value"}, ...]`). Files: jsonl, json (a list) and parquet.

    Args:
        spec: A path, a glob, an address, `starter:chat`, or a sequence of these.
        tokenizer: The tokenizer.
        template: Makes a text of each conversation.
        max_length: The most tokens in a row.
        folder: Where stores are kept.
        split: `"train"`, `"validation"` or `"test"`: the part that `starter:NAME` means. Defaults
            to `"train"`.
        format: The shape of the rows, or `"auto"`, which tells it by their keys. Defaults to
            `"auto"`.
        too_long: What becomes of a conversation of more tokens: `"cut"` cuts its end off,
            `"drop"` leaves it out, `"split"` makes several of it, each of whole turns and with
            the system's message (a turn that is too long by itself is cut). Where nothing to
            train on would be left, the conversation is dropped. Defaults to `"cut"`.
        train_on_prompt: Whether all tokens are trained on, and not only what the assistant says.
            Defaults to `False`.
        system: What the system says where a conversation has no such message. Defaults to `None`.
        on_bad_row: `"error"` refuses files that have bad rows and names the first ones, `"skip"`
            leaves them out. Defaults to `"error"`.
        notify: Called with what is being done. Defaults to `None`.

    Returns:
        The rows, with `has_trained`; `Counts.of(store)` tells what was cut, dropped and split.

    Raises:
        DataError: A file is missing or holds no conversations, rows are bad, or none is left.

    Example:

    ```python
    template = built_in("chatml", tokenizer)
    store = open_conversations("starter:chat", tokenizer, template, max_length=512, folder="tokens")
    print(Counts.of(store))  # 834 conversations
    ```
    """
    _check_choice("too_long", too_long, ("cut", "drop", "split"))
    reader = _Reader(spec, split, format, system, on_bad_row, preferences=False)
    encode = functools.partial(encode_conversation, template, tokenizer)

    def rows_of(messages: list[dict], counts: Counts) -> list[_Encoded]:
        row = encode(messages, train_on_prompt)
        if not row[1].any():
            raise BadRow("the chat template marks nothing that the assistant says")
        if len(row[0]) <= max_length:
            return [row]
        if too_long == "drop":
            counts.dropped += 1
            return []
        rows = [row]
        if too_long == "split":
            rows = _split(messages, functools.partial(encode, train_on_prompt=train_on_prompt),
                          max_length)  # fmt: skip
        short = [_cut(row, max_length) for row in rows]
        kept = [row for row in short if row[1].any()]
        if not kept:
            counts.dropped += 1
        elif len(rows) > 1:
            counts.split += 1
            counts.pieces += len(kept)
        else:
            counts.cut += 1
        return kept

    settings = [max_length, too_long, train_on_prompt]
    return _open(reader, rows_of, tokenizer, template, settings, folder, notify)


def open_preferences(
    spec: str | os.PathLike | Sequence[str | os.PathLike],
    tokenizer: TokenizerJson,
    template: ChatTemplate,
    *,
    max_length: int,
    folder: str | os.PathLike,
    split: str = "train",
    too_long: str = "cut",
    system: str | None = None,
    on_bad_row: str = "error",
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the tokens of preferences: rows 2i and 2i + 1 are chosen and rejected of pair i.

    A row of a file has `chosen` and `rejected`, and `prompt` if they do not begin with it; each is
    a text or a list of messages. What counts as trained on is what follows the prompt that both
    share.

    Args:
        spec: As for `open_conversations`.
        tokenizer: The tokenizer.
        template: Makes a text of each conversation.
        max_length: The most tokens in a row.
        folder: Where stores are kept.
        split: As for `open_conversations`. Defaults to `"train"`.
        too_long: `"cut"` or `"drop"`. A pair is always dropped as a whole. Defaults to `"cut"`.
        system: As for `open_conversations`. Defaults to `None`.
        on_bad_row: As for `open_conversations`. Defaults to `"error"`.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: As for `open_conversations`.
    """
    _check_choice("too_long", too_long, ("cut", "drop"))
    reader = _Reader(spec, split, "preference", system, on_bad_row, preferences=True)

    def rows_of(pair: Any, counts: Counts) -> list[_Encoded]:
        rows = [
            encode_conversation(template, tokenizer, messages, first=pair.prompt)
            for messages in (pair.chosen, pair.rejected)
        ]
        if not all(row[1].any() for row in rows):
            raise BadRow("the chat template marks nothing that the assistant says")
        if max(len(row[0]) for row in rows) <= max_length:
            return rows
        short = [_cut(row, max_length) for row in rows]
        if too_long == "drop" or not all(row[1].any() for row in short):
            counts.dropped += 1
            return []
        counts.cut += 1
        return short

    return _open(reader, rows_of, tokenizer, template, [max_length, too_long], folder, notify)


class _Reader:
    """Files of conversations, and the bad rows in them."""

    def __init__(
        self,
        spec: str | os.PathLike | Sequence[str | os.PathLike],
        split: str,
        format: str,
        system: str | None,
        on_bad_row: str,
        *,
        preferences: bool,
    ):
        _check_choice("on_bad_row", on_bad_row, ("error", "skip"))
        self._files = find_files(spec, split)
        self.files = tuple(file.name for file in self._files)
        self.file_remarks = self._files.remarks
        self._system = system
        self._refuse = on_bad_row == "error"
        self._shapes = [_shape(file, format, preferences) for file in self._files]
        self.settings = [format, system, on_bad_row, preferences]
        self.counts = Counts()
        self.bad_rows: list[tuple[str, int, str]] = []

    @property
    def fingerprint(self) -> list[str]:
        """The names of the files and sha256 of what is in them."""
        return [*self.files, *(file.sha256() for file in self._files)]

    def batches(self, rows_of: Callable[[Any, Counts], list[_Encoded]]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of all files; `rows_of` makes them of what a line of a file holds."""
        self.counts, self.bad_rows = Counts(), []
        kept = 0
        for number in range(len(self._files)):
            for batch in self._file_batches(number, rows_of):
                kept += len(batch)
                yield batch
        if not kept:
            dropped = f", {self.counts.dropped:,} are too long" * (self.counts.dropped > 0)
            raise DataError(
                f"No conversation can be used: {self.counts.skipped:,} rows are bad{dropped}",
                where=places(self.bad_rows, self.counts.skipped) or ", ".join(self.files),
                fix="correct the files, or allow longer rows: --set data.max_length=N",
            )

    def _file_batches(
        self, number: int, rows_of: Callable[[Any, Counts], list[_Encoded]]
    ) -> Iterator[pa.RecordBatch]:
        held: list[_Encoded] = []
        lines: list[int] = []
        name = self.files[number]
        for line, row, problem in records(self._files[number]):
            rows = []
            try:
                if problem:
                    raise BadRow(problem)
                conversation = read_row(row, self._shapes[number], self._system)
                rows = rows_of(conversation, self.counts)
                self.counts.read += 1
            except (BadRow, DataError) as error:
                self.counts.skipped += 1
                if len(self.bad_rows) < _BAD_ROWS_KEPT:
                    self.bad_rows.append((name, line, str(getattr(error, "what", error))))
            if self._refuse and self.counts.skipped:
                continue
            held += rows
            lines += [line] * len(rows)
            if len(held) >= _ROWS_PER_BATCH:
                yield _batch(held, number, lines)
                held, lines = [], []
        if self._refuse and self.counts.skipped:
            count = self.counts.skipped
            raise DataError(
                f"{'1 row is' if count == 1 else f'{count:,} rows are'} bad in {name}",
                where=places(self.bad_rows, count),
                fix="correct the file, or leave bad rows out: --set data.on_bad_row=skip",
            )
        if held:
            yield _batch(held, number, lines)


def _open(
    reader: _Reader,
    rows_of: Callable[[Any, Counts], list[_Encoded]],
    tokenizer: TokenizerJson,
    template: ChatTemplate,
    settings: list,
    folder: str | os.PathLike,
    notify: Callable[[str], None] | None,
) -> TokenStore:
    names = ", ".join(Path(name).name for name in reader.files[:3])

    def progress(rows: int) -> None:
        if notify:
            notify(f"tokenizing {names}: {rows:,}")

    made_by = [tokenizer.fingerprint, template.fingerprint, template.stop]
    store = open_or_write(
        ["conversations", _VERSION, reader.fingerprint, reader.settings, made_by, settings],
        lambda: reader.batches(rows_of),
        reader.files,
        folder=folder,
        progress=progress,
        remarks=lambda: [
            reader.counts.skipped,
            reader.bad_rows[:SKIPPED_KEPT],
            dataclasses.asdict(reader.counts),
        ],
    )
    store.file_remarks = reader.file_remarks
    return store


def _shape(file: DataFile, format: str, preferences: bool) -> str:
    """Tells the shape of a file's rows by the keys of the first ones."""
    first = list(itertools.islice(records(file), _ROWS_FOR_SHAPE))
    if not first:
        raise DataError("The file is empty", where=file.name, fix="give a file with rows")
    keys = dict.fromkeys(key for _, row, _ in first for key in row or ())
    found = shape_of(keys) if format in ("auto", "preference") else format
    if found is None and not keys:
        line, _, problem = first[0]
        raise DataError(
            f"There is no row in the file's first lines: {problem or 'an object without keys'}",
            where=f"{file.name}:{line}",
            fix='write one object a line: {"messages": [...]}',
        )
    if found is None:
        raise DataError(
            f"The rows are in no known shape; their keys are {', '.join(map(repr, keys))}",
            where=file.name,
            fix=f"known shapes and their keys: {known_shapes()}",
        )
    if (found == "preference") != preferences:
        raise DataError(
            f"The rows are in the shape '{found}'",
            where=file.name,
            fix="preference tuning needs chosen and rejected in each row"
            if preferences
            else "rows with chosen and rejected are for preference tuning (DPO)",
        )
    return found


def _split(
    messages: list[dict], encode: Callable[[list[dict]], _Encoded], max_length: int
) -> list[_Encoded]:
    """Makes conversations of whole exchanges, as many in each as fit."""
    system = messages[:1] if messages[0]["role"] == "system" else []
    turns = messages[len(system) :]
    exchanges = [turns[i : i + 2] for i in range(0, len(turns), 2)]
    rows = []
    together, best = [], None
    for exchange in exchanges:
        row = encode([*system, *together, *exchange])
        if best is not None and len(row[0]) > max_length:
            rows.append(best)
            together, row = [], encode([*system, *exchange])
        together, best = [*together, *exchange], row
    return [*rows, best]


def _cut(row: _Encoded, max_length: int) -> _Encoded:
    return row[0][:max_length], row[1][:max_length]


def _batch(rows: list[_Encoded], file: int, lines: list[int]) -> pa.RecordBatch:
    offsets = np.cumsum([0, *(len(ids) for ids, _ in rows)])
    ids, trained = (np.concatenate(parts) for parts in zip(*rows))
    return row_batch(ids, offsets, file, np.array(lines, np.int64), trained=trained)


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}. Received: {name}={value!r}")
