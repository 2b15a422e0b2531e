"""Tagged words from files: read, tokenized, split, and what their tags mean."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data.label_names import read_label_names
from kerasllm.data.loading import reading_of
from kerasllm.data.readers.tagged_source import TaggedSource
from kerasllm.data.split import split_label_sets, split_stratified
from kerasllm.data.tag_schemes import Converted, TaggedWords, TagSet, convert
from kerasllm.data.tagged_windows import (
    TEXT,
    WORD_ENDS,
    WORD_STARTS,
    StoredWords,
    TaggedWindows,
    open_windows,
    refuse_empty,
)
from kerasllm.data.token_store import TokenStore
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.data.word_windows import stride_of
from kerasllm.data.words import Joins
from kerasllm.environment import store_dir
from kerasllm.errors import DataError
from kerasllm.plurals import counted

# Sentences from which it is learned what words are made of.
_SENTENCES_LEARNED_FROM = 50_000


@dataclass(eq=False)
class TaggingData:
    """The data of a run: tags, and up to three parts.

    Attributes:
        tags: The tags that the model learns.
        train: What the model trains on.
        validation: What is measured while it trains, or `None`.
        test: What is measured at the end, or `None`.
        sources: The files that each part was read from, by the part's name.
        stores: The windows of each file set, by the name of the part.
        found: The tags of each part as its files have them, and their scheme.
        tokenizer: What the tokens were made with.
        joins: How raw texts are cut into words like those of the training data.
        stride: How many tokens a window moves on.
        strange: Tags of validation and test data that the training data lack, by part.
    """

    tags: TagSet
    train: TaggedWindows
    validation: TaggedWindows | None
    test: TaggedWindows | None
    sources: dict[str, TaggedSource]
    stores: dict[str, TokenStore]
    found: dict[str, Converted]
    tokenizer: Tokenizer
    joins: Joins
    stride: int
    strange: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fingerprints(self) -> dict[str, str]:
        """What tells the data of each part from others."""
        return {part: source.fingerprint for part, source in self.sources.items()}

    @property
    def parts(self) -> dict[str, TaggedWindows]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


def load_data(
    recipe: Any,
    tokenizer: Tokenizer,
    *,
    seed: int = 0,
    folder: Path | None = None,
    notify: Callable[[str], None] | None = None,
) -> TaggingData:
    """Reads, tokenizes and splits the data of a recipe.

    Args:
        recipe: The `data` part of a recipe.
        tokenizer: Turns texts into token ids; it must know where they stand.
        seed: Seed of the split, where no validation data is named. Defaults to `0`.
        folder: Where token stores are kept. Defaults to `None`: in the cache.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: If a file is missing or broken, or its tags do not fit.
    """
    folder = folder or store_dir()
    stride = stride_of(tokenizer, recipe.max_length, recipe.stride)
    # All files are checked before the first one is read through.
    sources = {
        part: source_of(recipe, spec, part)
        for part in ("train", "validation", "test")
        if (spec := getattr(recipe, part)) is not None
    }
    stores, found, words = {}, {}, {}
    for part, source in sources.items():
        if notify:
            notify(f"reading {', '.join(Path(file).name for file in source.files[:3])}")
        stores[part] = open_windows(source, tokenizer, recipe.max_length, stride, folder, notify)
        refuse_empty(stores[part], source)
        words[part] = StoredWords.of(stores[part])
        found[part] = converted(words[part].tags, recipe.scheme, found.get("train"))
    tags = TagSet(found["train"].words.names, found["train"].scheme)
    refuse_one_tag(tags, sources["train"])
    parts, strange = {}, {}
    for part, store in stores.items():
        numbers, unknown = numbered(found[part].words, tags)
        if unknown:
            strange[part] = unknown
        parts[part] = TaggedWindows(
            store,
            np.arange(len(store)),
            words[part],
            numbers,
            len(tags),
            tags.inside() if recipe.label_subwords == "all" else None,
            unknown,
        )
    train, validation = parts["train"], parts.get("validation")
    if validation is None and recipe.validation_split:
        train, validation = _split(train, tags, recipe.validation_split, seed)
    return TaggingData(
        tags,
        train,
        validation,
        parts.get("test"),
        sources,
        stores,
        found,
        tokenizer,
        learned_joins(stores["train"]) if sources["train"].has_words else Joins(),
        stride,
        strange,
    )


def source_of(
    recipe: Any, spec: Any, split: str, *, joins: Joins | None = None, options: Any = None
) -> TaggedSource:
    """Returns the files of a part of the data, read as a recipe says.

    Args:
        recipe: The `data` part of a recipe.
        spec: The files.
        split: The part that `starter:NAME` means.
        joins: How texts with spans are cut into words. Defaults to `None`; see `TaggedSource`.
        options: What a command was told besides, such as `text`. Defaults to `None`.

    Raises:
        DataError: If a file is missing or broken.
    """
    return TaggedSource(
        spec,
        split=split,
        text=getattr(options, "text", None) or recipe.text,
        label=getattr(options, "label", None) or recipe.label,
        tag_column=recipe.tag_column,
        label_names=names_by_number(recipe.label_names),
        on_bad_row=recipe.on_bad_row,
        encoding=reading_of(recipe, options)["encoding"],
        joins=joins,
    )


def names_by_number(names: str | list[str] | Mapping[str, str] | None) -> dict[str, str] | None:
    """Returns what `data.label_names` says, by number as text."""
    if isinstance(names, str):
        names = read_label_names(names)
    if isinstance(names, list):
        return {str(number): name for number, name in enumerate(names)}
    return dict(names) if names is not None else None


def converted(tags: TaggedWords, scheme: str, train: Converted | None = None) -> Converted:
    """Converts the tags of a part of the data to what a model learns.

    Args:
        tags: The tags as the files have them.
        scheme: `data.scheme` of the recipe.
        train: The tags of the training data, whose scheme these have if they are of it. Defaults
            to `None`: these are the training data.
    """
    if train is not None and scheme == "auto":
        scheme = scheme_like(tags, train.scheme)
    return convert(tags, scheme)


def scheme_like(tags: TaggedWords, known: str) -> str:
    """Returns the scheme of data to measure on, where that of the training data is known."""
    if known == "plain":
        return "plain"
    found = convert(tags)
    # Tags without letters are types then, however few words are outside.
    return "io" if found.scheme == "plain" else found.scheme


def numbered(words: TaggedWords, tags: TagSet) -> tuple[np.ndarray, list[str]]:
    """Returns the tags of words in the numbers of a model, and those that it does not know.

    Returns:
        int32 `[words]`, from `len(tags)` on for a tag that the model lacks; and the names of those,
        in the order of their numbers.
    """
    known = {name: number for number, name in enumerate(tags.names)}
    used = np.unique(words.tags)
    strange = [words.names[number] for number in used if words.names[number] not in known]
    known |= {name: len(tags) + number for number, name in enumerate(strange)}
    table = np.array([known.get(name, 0) for name in words.names], np.int32)
    return table[words.tags], strange


def learned_joins(store: TokenStore) -> Joins:
    """Returns how the words of training data are made of pieces of text."""
    texts, starts, ends = (store.column(name) for name in (TEXT, WORD_STARTS, WORD_ENDS))

    def sentences():
        text = ""
        for row in range(len(store)):
            text = texts[row].as_py() or text
            places = zip(starts[row].as_py(), ends[row].as_py(), strict=True)
            yield [text[start:end] for start, end in places]

    joins = Joins.learn(itertools.islice(sentences(), _SENTENCES_LEARNED_FROM))
    store.let_go()
    return joins


def refuse_one_tag(tags: TagSet, source: TaggedSource) -> None:
    """Raises a `DataError` if there is nothing to tell apart."""
    if len(tags) < 2:
        raise DataError(
            f"All words have the tag {tags.names[0]!r}; there is nothing to learn",
            where=", ".join(source.files),
            fix="check that data.tag_column, or data.label, names the right tags; they were read "
            f"as: {source.description()}",
        )


def _split(
    rows: TaggedWindows, tags: TagSet, fraction: float, seed: int
) -> tuple[TaggedWindows, TaggedWindows | None]:
    """Holds sentences out, each type of entity in proportion; all windows of one together."""
    offsets, numbers = rows.sentence_offsets, rows.tags[rows.word_numbers]
    count = len(offsets) - 1
    if tags.plain:
        kept, held_out = split_stratified(np.zeros(count, int), fraction, seed)
    else:
        types = tags.type_numbers[numbers]
        sets = np.zeros((count, len(tags.types)), bool)
        sentence = np.repeat(np.arange(count), np.diff(offsets))
        sets[sentence[types >= 0], types[types >= 0]] = True
        kept, held_out = split_label_sets(np.packbits(sets, axis=1), fraction, seed)
    if not len(held_out):
        return rows, None
    of_row = np.cumsum(rows.words.first) - 1
    return tuple(rows.take(np.flatnonzero(np.isin(of_row, some))) for some in (kept, held_out))


def remarks_on_tags(found: Converted, part: str) -> list[str]:
    """Returns what a user should know of how the tags of a part were read."""
    if not found.repaired:
        return []
    words = counted(found.repaired, "tag is invalid", "tags are invalid")
    return [f"{part}: {words} in {found.scheme}; repaired by conlleval's rule"]
