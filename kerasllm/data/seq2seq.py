"""Sources and targets from files: read, tokenized and split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data.loading import reading_of
from kerasllm.data.readers.parallel_lines import ParallelLines
from kerasllm.data.readers.seq2seq_source import open_source
from kerasllm.data.readers.sources import Source
from kerasllm.data.seq2seq_rows import Seq2SeqRows, TextSide, open_rows
from kerasllm.data.split import split_stratified
from kerasllm.data.token_store import TokenStore
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.environment import store_dir

PARTS = ("train", "validation", "test")


@dataclass(eq=False)
class Seq2SeqData:
    """The data of a run, up to three parts.

    Attributes:
        train: What the model trains on.
        validation: What is measured while it trains, or `None`.
        test: What is measured at the end, or `None`.
        sources: The files that each part was read from, by the part's name.
        stores: The tokens of each file set, by the name of the part.
        text_side: What made token ids of the texts.
        prefix: What was put before each source.
    """

    train: Seq2SeqRows
    validation: Seq2SeqRows | None
    test: Seq2SeqRows | None
    sources: dict[str, Source | ParallelLines]
    stores: dict[str, TokenStore]
    text_side: TextSide
    prefix: str

    @property
    def tokenizer(self) -> Any:
        """What the tokens were made with."""
        return self.text_side.tokenizer

    @property
    def fingerprints(self) -> dict[str, str]:
        """What tells the data of each part from others."""
        return {part: source.fingerprint for part, source in self.sources.items()}

    @property
    def parts(self) -> dict[str, Seq2SeqRows]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


def open_sources(recipe: Any) -> dict[str, Source | ParallelLines]:
    """Opens the files of all parts; all are checked before the first one is read through.

    Args:
        recipe: The `data` part of a recipe.

    Raises:
        DataError: If a file is missing or broken, or lacks a column or its counterpart.
    """
    return {
        part: source_of(recipe, spec, part)
        for part in PARTS
        if (spec := getattr(recipe, part)) is not None
    }


def source_of(
    recipe: Any, spec: Any, split: str, *, options: Any = None, with_target: bool = True
) -> Source | ParallelLines:
    """Returns the files of a part of the data, read as a recipe says.

    Args:
        recipe: The `data` part of a recipe.
        spec: The files.
        split: The part that `starter:NAME` means.
        options: What a command was told besides, such as `text`. Defaults to `None`.
        with_target: Whether the targets are read. Defaults to `True`.

    Raises:
        DataError: If a file is missing or broken.
    """
    return open_source(
        spec,
        split,
        source=getattr(options, "text", None) or recipe.source,
        target=(getattr(options, "text_pair", None) or recipe.target) if with_target else None,
        with_target=with_target,
        on_bad_row=getattr(options, "on_bad_row", None) or recipe.on_bad_row,
        **reading_of(recipe, options),
    )


def load_data(
    recipe: Any,
    sources: dict[str, Source | ParallelLines],
    text_side: TextSide,
    *,
    prefix: str = "",
    seed: int = 0,
    folder: Path | None = None,
    notify: Callable[[str], None] | None = None,
    **measured: Any,
) -> Seq2SeqData:
    """Tokenizes and splits the data of a recipe.

    Args:
        recipe: The `data` part of a recipe.
        sources: What `open_sources` gave.
        text_side: Makes token ids of texts.
        prefix: What is put before each source. Defaults to nothing.
        seed: Seed of the split, where no validation data is named. Defaults to `0`.
        folder: Where token stores are kept. Defaults to `None`: in the cache.
        notify: Called with what is being done. Defaults to `None`.
        **measured: How the rows are measured; see `Seq2SeqRows`.

    Raises:
        DataError: If a file is broken, or a row is refused.
    """
    stores = {}
    for part, source in sources.items():
        if notify:
            notify(f"reading {', '.join(Path(file).name for file in source.files[:3])}")
        stores[part] = open_rows(
            source,
            text_side,
            prefix=prefix,
            max_length=recipe.max_length,
            max_target_length=recipe.max_target_length,
            folder=folder or store_dir(),
            notify=notify,
        )
    parts = {part: Seq2SeqRows.of(store, text_side, **measured) for part, store in stores.items()}
    train, validation = parts["train"], parts.get("validation")
    if validation is None and recipe.validation_split:
        kept, held_out = split_stratified(np.zeros(len(train)), recipe.validation_split, seed)
        if len(kept) and len(held_out):
            train, validation = train.take(kept), train.take(held_out)
    return Seq2SeqData(train, validation, parts.get("test"), sources, stores, text_side, prefix)


def train_tokenizer(
    source: Source | ParallelLines,
    vocabulary_size: int,
    kind: str,
    notify: Callable[[str], None] | None = None,
) -> Tokenizer:
    """Trains a tokenizer on sources and targets together.

    Args:
        source: The training data.
        vocabulary_size: How many tokens it has, or fewer where the texts do not give as many.
        kind: `"bpe"` or `"unigram"`.
        notify: Called with what is being done. Defaults to `None`.
    """
    from kerasllm.data.tokenizers import joint

    if notify:
        notify("training the tokenizer")
    return joint.train_tokenizer(_texts(source), vocabulary_size, kind)


def _texts(source: Source | ParallelLines) -> Iterator[str]:
    for batch in source.batches():
        yield from batch.texts
        yield from batch.pairs
