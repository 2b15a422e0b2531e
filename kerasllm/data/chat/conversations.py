"""Conversations from files, as tokens with a loss mask."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data.chat.conversation_files import (
    PLAIN_TEXT,
    ConversationFiles,
    Counts,
    Encoded,
)
from kerasllm.data.chat.formats import Shape, UnclearShape, find_shape
from kerasllm.data.chat.messages import BadRow
from kerasllm.data.chat.special_tokens import SpecialTokens
from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.data.chat.tokens import encode_conversation
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.files import Spec
from kerasllm.data.readers.records import first_rows
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.token_store import SKIPPED_KEPT, open_or_write
from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.errors import DataError

# Raise it when the same file and settings would give other tokens than before.
_VERSION = 1


def holds_conversations(
    spec: Spec,
    split: str = "train",
    *,
    fix: str | None = None,
) -> bool:
    """Tells by the columns of the first rows whether files hold conversations, or else texts.

    With a column `text`, names that are common elsewhere (`question`, `answer`) mean nothing.

    Args:
        spec: As for `open_conversations`, and text files.
        split: The part that `starter:NAME` means. Defaults to `"train"`.
        fix: What to do where it is not clear which column is which. Defaults to `None`: to name
            them in the recipe.

    Raises:
        DataError: If they hold preferences, or several columns could be the prompt or the response.
    """
    first = spec if isinstance(spec, (str, os.PathLike, DataFile)) else spec[0]
    where = str(getattr(first, "name", first))
    try:
        kind = kind_of_rows(spec, split)
    except UnclearShape as error:
        raise DataError(
            f"The rows look like conversations, but {error}",
            where=where,
            fix=fix or f"{error.fix}; {PLAIN_TEXT}",
        ) from None
    if kind == "pair":
        raise DataError(
            "The rows are preferences: a chosen and a rejected answer",
            where=where,
            fix="train on them with a recipe whose task is preference: --recipe gpt_dpo",
        )
    return kind == "conversation"


def kind_of_rows(spec: Spec, split: str = "train") -> str:
    """Tells by the columns of the first rows what each is: `text`, `conversation` or `pair`.

    Args:
        spec: As for `holds_conversations`.
        split: The same. Defaults to `"train"`.

    Raises:
        UnclearShape: If several columns could be the prompt, or the response.
    """
    shapes = [_shape_of(keys) for keys in dict.fromkeys(first_rows(spec, split))]
    found = [shape for shape in shapes if isinstance(shape, Shape)]
    if any(shape.name == "preference" for shape in found):
        return "pair"
    unclear = [shape for shape in shapes if isinstance(shape, UnclearShape)]
    if unclear and not found:
        raise unclear[0]
    return "conversation" if any(shape.certain for shape in found) else "text"


def _shape_of(keys: Sequence[str]) -> Shape | UnclearShape | None:
    try:
        return find_shape(keys)
    except UnclearShape as error:
        # A column that is called text is the text, regardless of other columns.
        return None if "text" in map(str.lower, keys) else error


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
    prompt: str | None = None,
    response: str | None = None,
    special_tokens: str = "once",
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the tokens of conversations, from the store if they were read before.

    Shapes: `messages` (`[{"role", "content"}, ...]`), `prompt_completion` (`prompt` and
    `completion`, `question` and `answer`, ...), `alpaca` (`instruction`, `input`, `output`) and
    `sharegpt` (`conversations`, `[{"from", "value"}, ...]`); see `kerasllm.data.chat.formats`.
    Files: jsonl, json (a list), csv, tsv and parquet.

    Args:
        spec: A path, a glob, an address, `starter:chat`, or a sequence of these.
        tokenizer: The tokenizer.
        template: Makes a text of each conversation.
        max_length: The maximum number of tokens in a row.
        folder: Where stores are kept.
        split: `"train"`, `"validation"` or `"test"`: the part that `starter:NAME` means. Defaults
            to `"train"`.
        format: The shape of the rows, or `"auto"` or `"conversations"`, which tell it row by row by
            the columns. Defaults to `"auto"`.
        too_long: What becomes of a conversation of more tokens: `"cut"` cuts its end off,
            `"drop"` leaves it out, `"split"` makes several of it, each of whole turns and with
            the system's message (a turn that is too long by itself is cut). Where nothing to
            train on would be left, the conversation is dropped. Defaults to `"cut"`.
        train_on_prompt: Whether all tokens are trained on, and not only the assistant messages.
            Defaults to `False`.
        system: What the system says where a conversation has no such message. Defaults to `None`.
        on_bad_row: `"error"` refuses files that have bad rows and names the first ones, `"skip"`
            leaves them out. Defaults to `"error"`.
        prompt: The column of what the user says. Defaults to `None`: found by common names.
        response: The column of the assistant messages. Defaults to `None`: found by common names.
        special_tokens: What special tokens that are written in messages become: `"once"`,
            `"text"` or `"keep"`; see `kerasllm.data.chat.special_tokens.SpecialTokens`. Defaults to
            `"once"`.
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
    _check_choice("on_bad_row", on_bad_row, ("error", "skip"))
    reader = ConversationFiles(
        spec,
        split,
        format,
        system,
        on_bad_row,
        prompt=prompt,
        response=response,
        template_source=template.source,
    )
    special = SpecialTokens(template, tokenizer, special_tokens)

    def rows_of(messages: list[dict], counts: Counts) -> list[Encoded]:
        row = special.written(messages, reader.notes)
        encode = None
        if row is None:
            messages, literal = special.prepare(messages, reader.notes)
            encode = functools.partial(
                *(encode_conversation, template, tokenizer),
                train_on_prompt=train_on_prompt,
                literal=literal,
            )
            row = encode(messages)
        elif train_on_prompt:
            row = row[0], np.ones_like(row[1])
        if not row[1].any():
            raise BadRow("the chat template marks no assistant messages")
        if len(row[0]) <= max_length:
            return [row]
        if too_long == "drop":
            counts.dropped += 1
            return []
        rows = [row]
        if too_long == "split" and encode:
            rows = _split(messages, encode, max_length)
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
    # Stores of other versions keep their names.
    settings += [special_tokens] * (special_tokens != "once")
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
    special_tokens: str = "once",
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
        max_length: The maximum number of tokens in a row.
        folder: Where stores are kept.
        split: As for `open_conversations`. Defaults to `"train"`.
        too_long: `"cut"` or `"drop"`. A pair is always dropped as a whole. Defaults to `"cut"`.
        system: As for `open_conversations`. Defaults to `None`.
        on_bad_row: As for `open_conversations`. Defaults to `"error"`.
        special_tokens: As for `open_conversations`. Defaults to `"once"`.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: As for `open_conversations`.
    """
    _check_choice("too_long", too_long, ("cut", "drop"))
    _check_choice("on_bad_row", on_bad_row, ("error", "skip"))
    reader = ConversationFiles(
        *(spec, split, "auto", system, on_bad_row),
        preferences=True,
        template_source=template.source,
    )
    special = SpecialTokens(template, tokenizer, special_tokens)

    def rows_of(pair: Any, counts: Counts) -> list[Encoded]:
        rows = []
        for side in (pair.chosen, pair.rejected):
            row = special.written(side, reader.notes)
            if row is None:
                side, literal = special.prepare(side, reader.notes)
                row = encode_conversation(
                    template, tokenizer, side, first=pair.prompt, literal=literal
                )
            rows.append(row)
        if not all(row[1].any() for row in rows):
            raise BadRow("the chat template marks no assistant messages")
        if max(len(row[0]) for row in rows) <= max_length:
            return rows
        short = [_cut(row, max_length) for row in rows]
        if too_long == "drop" or not all(row[1].any() for row in short):
            counts.dropped += 1
            return []
        counts.cut += 1
        return short

    settings = [max_length, too_long, *[special_tokens] * (special_tokens != "once")]
    return _open(reader, rows_of, tokenizer, template, settings, folder, notify)


def _open(
    reader: ConversationFiles,
    rows_of: Callable[[Any, Counts], list[Encoded]],
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
            dataclasses.asdict(reader.counts) | {"revised": reader.is_revised},
        ],
        is_revised=lambda store: store.remarks[0].get("revised"),
    )
    store.file_remarks = reader.file_remarks
    return store


def _split(
    messages: list[dict], encode: Callable[[list[dict]], Encoded], max_length: int
) -> list[Encoded]:
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


def _cut(row: Encoded, max_length: int) -> Encoded:
    return row[0][:max_length], row[1][:max_length]


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}. Received: {name}={value!r}")
