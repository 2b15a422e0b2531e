"""The data of a language model: texts in blocks, or conversations, tokenized and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data import loading
from kerasllm.data.chat.conversations import Counts, open_conversations
from kerasllm.data.chat.formats import UnclearShape, find_shape
from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.data.documents import Documents, Sample, open_documents
from kerasllm.data.loading import files_of
from kerasllm.data.pairs import Pairs
from kerasllm.data.readers.records import first_keys
from kerasllm.data.sequences import (
    Sequences,
    full_blocks,
    packed_rows,
    separate_pieces,
    whole_rows,
)
from kerasllm.data.split import split_stratified
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.tokenizers import TokenizerJson, train_byte_level_bpe
from kerasllm.plurals import counted

# Of fewer texts a mean says little; a part is unlike where its mean is this many times another, and
# this many standard errors away.
_FEWEST_TO_COMPARE = 10
_LARGE = 1.5
_SURE = 4
_MOST_UNLIKE = 0.5


@dataclass(eq=False)
class LanguageModelData:
    """The data of a run.

    Attributes:
        tokenizer: The preset's, or one that was trained on the text.
        template: How conversations are written; `None` where the data are plain text and the
            model has no template.
        parts: The rows of each part that there is, by name.
        stores: The tokens, by the name of the part.
        fingerprints: What tells the data of each part from others.
        conversations: Whether the data are conversations.
        packs: Whether several texts share a row, without attention between them.
        columns: Which columns were read and as what, in words; `None` where there are none.
        remarks: What else a user should know of the data.
        held_out: What of plain text is held out for validation, where it has no file of its own.
    """

    tokenizer: TokenizerJson
    template: ChatTemplate | None
    parts: dict[str, Sequences | Pairs]
    stores: dict[str, TokenStore]
    fingerprints: dict[str, str]
    conversations: bool
    packs: bool
    columns: str | None = None
    remarks: Sequence[str] = ()
    held_out: str = "the end"

    @property
    def train(self) -> Sequences | Pairs:
        """What the model trains on."""
        return self.parts["train"]

    @property
    def validation(self) -> Sequences | Pairs | None:
        """What is measured while it trains, or `None`."""
        return self.parts.get("validation")

    @property
    def test(self) -> Sequences | Pairs | None:
        """What is measured at the end, or `None`."""
        return self.parts.get("test")


def load_texts(
    recipe: Any,
    tokenizer: TokenizerJson | None,
    template: ChatTemplate | None,
    packs: bool,
    folder: Path,
    notify: Callable[[str], None],
) -> LanguageModelData:
    """Reads texts, and trains a tokenizer on them where there is none; see `load_conversations`."""
    data, seed = recipe.data, recipe.training.seed
    documents = {
        part: Documents(spec, split=part, text=data.text, on_bad_row=data.on_bad_row)
        for part in ("train", "validation", "test")
        if (spec := files_of(data, part)) is not None
    }
    share = 0.0 if "validation" in documents else data.validation_split
    stretches = {part: found.cut(0.0)[0] for part, found in documents.items()}
    stretches["train"], held_out = documents["train"].cut(share, seed)
    if held_out is not None:
        stretches["validation"] = held_out
    if tokenizer is None:
        notify("training the tokenizer")
        tokenizer = train_byte_level_bpe(stretches["train"].texts(), data.vocabulary_size)
    stores = {
        part: open_documents(
            stretch,
            tokenizer,
            folder=folder,
            special_tokens=data.special_tokens,
            notify=notify,
        )
        for part, stretch in stretches.items()
    }

    def rows(part: str) -> Sequences:
        store = stores[part]
        blocks = full_blocks(store, data.max_length, seed=seed if part == "train" else None)
        blocks = blocks if packs else separate_pieces(blocks)
        return replace(blocks, text_bytes=store.remarks[0])

    parts = {part: rows(part) for part in ("train", "validation", "test") if part in stores}
    return LanguageModelData(
        tokenizer,
        template,
        parts,
        stores,
        {part: store.fingerprint for part, store in stores.items()},
        conversations=False,
        packs=any(part.is_packed for part in parts.values()),
        columns=_column_of_texts(documents["train"].text_column, data),
        remarks=[
            *_like_conversations(documents["train"].text_column, data),
            *unlike_parts({part: store.lengths for part, store in stores.items()}, "text"),
        ],
        held_out="a sample" if isinstance(held_out, Sample) else "the end",
    )


def load_conversations(
    recipe: Any,
    tokenizer: TokenizerJson,
    template: ChatTemplate,
    packs: bool,
    folder: Path,
    notify: Callable[[str], None],
) -> LanguageModelData:
    """Reads conversations and splits them.

    Args:
        recipe: A recipe with the keys of conversations in its section `data`.
        tokenizer: Turns texts into token ids.
        template: Makes a text of each conversation.
        packs: Whether several conversations share a row of the training data.
        folder: Where token stores are kept.
        notify: Called with what is being done.

    Raises:
        DataError: If a file is missing, broken or holds no conversations.
    """
    data = recipe.data
    stores = {
        part: open_conversation_rows(data, spec, tokenizer, template, part, folder, notify)
        for part in ("train", "validation", "test")
        if (spec := files_of(data, part)) is not None
    }
    chosen = {part: np.arange(len(store)) for part, store in stores.items()}
    held_out = stores.get("validation")
    if held_out is None and data.validation_split:
        kept, out = split_stratified(
            np.zeros(len(stores["train"])), data.validation_split, recipe.training.seed
        )
        if len(out):
            chosen["train"], chosen["validation"] = kept, out
            held_out = stores["train"]

    def rows(part: str, store: TokenStore) -> Sequences:
        if packs and part == "train":
            return packed_rows(store, data.max_length, chosen[part])
        return whole_rows(store, chosen[part])

    parts = {"train": rows("train", stores["train"])}
    if held_out is not None:
        parts["validation"] = rows("validation", held_out)
    if "test" in stores:
        parts["test"] = rows("test", stores["test"])
    return LanguageModelData(
        tokenizer,
        template,
        parts,
        stores,
        {part: store.fingerprint for part, store in stores.items()},
        conversations=True,
        packs=parts["train"].is_packed,
        columns=columns_of(stores["train"]),
        remarks=[
            *unlike_parts(
                {
                    part: (held_out if part == "validation" else stores[part]).lengths[chosen[part]]
                    for part in parts
                },
                "conversation",
            ),
            *unlike_kinds({part: Counts.of(store).kinds for part, store in stores.items()}),
        ],
    )


def open_conversation_rows(
    data: Any,
    spec: str | Sequence[str],
    tokenizer: TokenizerJson,
    template: ChatTemplate,
    part: str,
    folder: Path,
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the conversations of some files as a recipe wants them: see `open_conversations`."""
    return open_conversations(
        spec,
        tokenizer,
        template,
        split=part,
        format=data.format,
        max_length=data.max_length,
        too_long=data.too_long,
        train_on_prompt=data.train_on_prompt,
        system=data.system,
        on_bad_row=data.on_bad_row,
        prompt=data.prompt,
        response=data.response,
        special_tokens=data.special_tokens,
        folder=folder,
        notify=notify,
    )


def unlike_parts(lengths: Mapping[str, np.ndarray], noun: str) -> list[str]:
    """Says which parts of the data differ much from the training data in their mean length.

    Args:
        lengths: The tokens of each text, by the name of the part.
        noun: What a text is called.
    """
    found, train = [], lengths["train"]
    for part, measured in lengths.items():
        if part == "train" or min(len(train), len(measured)) < _FEWEST_TO_COMPARE:
            continue
        means = train.mean(), measured.mean()
        error = np.sqrt(train.var() / len(train) + measured.var() / len(measured))
        # Neither by chance, nor too small to matter.
        if max(means) > _LARGE * min(means) and abs(means[0] - means[1]) > _SURE * error:
            found.append(
                f"{part} differs from train: its {noun}s have {means[1]:,.0f} tokens on average, "
                f"those of train {means[0]:,.0f}"
            )
    return found


def unlike_kinds(kinds: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """Says which parts of the data have rows of other kinds than the training data.

    Args:
        kinds: By the name of the part, what each value of a column counts: see `Counts`.
    """
    found = []
    for part, columns in kinds.items():
        for column in sorted(columns.keys() & kinds["train"].keys()) if part != "train" else ():
            ours, theirs = kinds["train"][column], columns[column]
            sizes = sum(ours.values()), sum(theirs.values())
            if min(sizes) < _FEWEST_TO_COMPARE:
                continue
            gaps = {
                value: theirs.get(value, 0) / sizes[1] - ours.get(value, 0) / sizes[0]
                for value in {**ours, **theirs}
            }
            value = max(gaps, key=lambda each: abs(gaps[each]))
            # Of all rows this part would have to change its kind.
            if sum(map(abs, gaps.values())) / 2 > _MOST_UNLIKE:
                found.append(
                    f"{part} differs from train: {column!r} is {value!r} in "
                    f"{theirs.get(value, 0) / sizes[1]:.0%} of its rows, in "
                    f"{ours.get(value, 0) / sizes[0]:.0%} of train's"
                )
    return found


def _column_of_texts(column: str | None, data: Any) -> str | None:
    if column is None:
        return None
    others = [repr(key) for key in first_keys(files_of(data, "train"), "train") if key != column]
    why = "as named" if data.text is not None else "by its name"
    unread = f"; not read: {', '.join(others)}" if others else ""
    return f"{column!r} ({why}), as plain text{unread}"


def _like_conversations(column: str | None, data: Any) -> list[str]:
    """Says that plain text is read of rows that look like conversations, where nobody asked."""
    if column is None or data.text is not None:
        return []
    try:
        shape = find_shape(first_keys(files_of(data, "train"), "train"))
    except UnclearShape as error:
        shape = error
    if shape is None:
        return []
    what = f": {shape}" if isinstance(shape, UnclearShape) else f" ({shape})"
    return [
        (
            f"the rows look like conversations{what}, but only {column!r} is read, as plain text; "
            "to tune a pretrained model on the conversations: --recipe gpt_sft_lora"
        )
    ]


def columns_of(store: TokenStore) -> str | None:
    """Says in words which columns of conversations were read, and as what; `None` if unknown."""
    counts = Counts.of(store)
    if not counts.shapes:
        return None
    several = len(counts.shapes) > 1
    read = [
        f"{columns} ({counted(count, 'row')})" if several else columns
        for columns, count in counts.shapes.items()
    ]
    unread = f"; not read: {', '.join(counts.unread)}" if counts.unread else ""
    return "; ".join(read) + unread


def remarks(store: TokenStore, kind: str | None) -> list[str]:
    """Returns what a user should know of a store's rows; `kind` is what one is, if any was cut."""
    found = loading.remarks(store)
    if kind:
        counts = Counts.of(store)
        found += counts.remarks
        pieces = counted(counts.pieces, "piece")
        for count, what in (
            (counts.cut, "truncated to data.max_length"),
            (counts.dropped, "longer than data.max_length, and left out"),
            (counts.split, f"longer than data.max_length, and split into {pieces}"),
        ):
            if count:
                found.append(f"{counted(count, kind)} {'was' if count == 1 else 'were'} {what}")
    return found
