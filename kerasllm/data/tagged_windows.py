"""Tagged words in a token store: windows of sentences, as batches are made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerasllm.data import shards
from kerasllm.data.readers.tagged_source import Sentence, TaggedSource
from kerasllm.data.rows import ArraySpec, model_inputs
from kerasllm.data.tag_schemes import TaggedWords
from kerasllm.data.token_store import SKIPPED_KEPT, TokenStore, open_or_write, row_batch
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.data.word_windows import NO_TOKEN, cut_texts
from kerasllm.errors import DataError

TAGS, TEXT, FIRST = "tags", "text", "first"
WORD_TOKENS, WORD_SIZES = "word_tokens", "word_sizes"
WORD_STARTS, WORD_ENDS = "word_starts", "word_ends"
# Raise it when a store would hold something else of the same files.
_VERSION = 1
_SENTENCES_AT_ONCE, _CHARACTERS_AT_ONCE = 4096, 1 << 22


def open_windows(
    source: TaggedSource,
    tokenizer: Tokenizer,
    max_length: int,
    stride: int,
    folder: Path,
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the windows of tagged sentences, from an earlier store if there is one.

    A row is a window, with the words that belong to it: their tags as the files have them, their
    tokens, and where they stand in the text, which is kept with the first window of a sentence.

    Args:
        source: The sentences.
        tokenizer: Turns their texts into tokens.
        max_length: The maximum number of tokens of a window, special tokens included.
        stride: How many tokens a window moves on.
        folder: Where stores are kept.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: If a file is broken, or a row is refused.
    """
    name = ", ".join(Path(file).name for file in source.files[:3])

    def progress(rows: int) -> None:
        if notify:
            notify(f"tokenizing {name}: {rows:,} sentences")

    def batches() -> Iterator[pa.RecordBatch]:
        for some in _together(source.sentences(shards.mine())):
            yield _batch(some, tokenizer, max_length, stride)

    read = ["tagged words", _VERSION, source.fingerprint, source.files, source.on_bad_row]
    return open_or_write(
        [read, tokenizer.fingerprint, max_length, stride],
        batches,
        source.files,
        folder=folder,
        progress=progress,
        remarks=lambda: [source.bad_row_count, source.bad_rows[:SKIPPED_KEPT], source.noted],
    )


def _together(sentences: Iterator[Sentence]) -> Iterator[list[Sentence]]:
    """Yields sentences of one file, as many as are tokenized at once."""
    held: list[Sentence] = []
    characters = 0
    for sentence in sentences:
        full = len(held) == _SENTENCES_AT_ONCE or characters >= _CHARACTERS_AT_ONCE
        if held and (full or sentence.file != held[0].file):
            yield held
            held, characters = [], 0
        held.append(sentence)
        characters += len(sentence.text)
    if held:
        yield held


def _batch(
    sentences: Sequence[Sentence], tokenizer: Tokenizer, max_length: int, stride: int
) -> pa.RecordBatch:
    texts, words = [one.text for one in sentences], [one.words for one in sentences]
    found = cut_texts(tokenizer, texts, words, max_length, stride)
    windows, firsts = found.windows, found.windows.firsts
    places = np.array([each for some in words for each in some], np.int32).reshape(-1, 2)
    offsets = pa.array(found.word_offsets.astype(np.int32))

    def of_words(values: pa.Array) -> pa.ListArray:
        return pa.ListArray.from_arrays(offsets, values)

    columns = {
        FIRST: pa.array(firsts.astype(np.int8)),
        TEXT: pa.array(
            [texts[row] if first else "" for row, first in zip(windows.rows, firsts)], pa.string()
        ),
        TAGS: of_words(pa.array([tag for one in sentences for tag in one.tags], pa.string())),
        WORD_TOKENS: of_words(pa.array(found.word_tokens)),
        WORD_SIZES: of_words(pa.array(found.word_sizes)),
        WORD_STARTS: of_words(pa.array(places[:, 0])),
        WORD_ENDS: of_words(pa.array(places[:, 1])),
    }
    lines = np.array([one.line for one in sentences], np.int64)[windows.rows]
    return row_batch(found.ids, found.offsets, sentences[0].file, lines, columns=columns)


@dataclass(frozen=True, eq=False)
class StoredWords:
    """The words of all rows of a store.

    Attributes:
        offsets: int64 `[rows + 1]`, where the words of each row begin and end.
        tokens: int32 `[words]`, the place of each word's first token in its row, or `NO_TOKEN`.
        sizes: int32 `[words]`, how many tokens of its row it has.
        first: bool `[rows]`, whether a row begins a sentence.
        tags: The tags as the files have them, by sentence.
    """

    offsets: np.ndarray
    tokens: np.ndarray
    sizes: np.ndarray
    first: np.ndarray
    tags: TaggedWords

    @classmethod
    def of(cls, store: TokenStore) -> StoredWords:
        """Reads them; they are held in memory."""
        tags = store.column(TAGS)
        counts = np.asarray(pc.list_value_length(tags), np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        first = store.numbers(FIRST) > 0
        flat = pc.dictionary_encode(pc.list_flatten(tags)).combine_chunks()
        if isinstance(flat, pa.ChunkedArray):
            flat = flat.unify_dictionaries().chunk(0)
        names = tuple(flat.dictionary.to_pylist())
        ids = flat.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        sentences = np.append(offsets[:-1][first], offsets[-1])
        found = cls(
            offsets,
            _flat(store, WORD_TOKENS),
            _flat(store, WORD_SIZES),
            first,
            TaggedWords(names, ids, sentences),
        )
        store.let_go()
        return found


def _flat(store: TokenStore, name: str) -> np.ndarray:
    return np.array(pc.list_flatten(store.column(name)).combine_chunks(), np.int32)


@dataclass(frozen=True, eq=False)
class TaggedWindows:
    """Some rows of a store of tagged windows: what is split, planned, trained and evaluated on.

    Attributes:
        store: The windows.
        rows: int64 `[windows]`, which rows of the store these are.
        words: The words of all rows of the store.
        tags: int32 `[words of the store]`, the tag of each in the model's numbers; from
            `tag_count` on they are tags that the model does not know, which have no loss.
        tag_count: The number of the model's tags.
        inside: int32 `[tags]`, the tag of the further subwords of a word by the tag of the word,
            where all subwords count in the loss. Defaults to `None`: only the first one does.
        strange: The tags from `tag_count` on. Defaults to none.
    """

    store: TokenStore
    rows: np.ndarray
    words: StoredWords
    tags: np.ndarray
    tag_count: int
    inside: np.ndarray | None = None
    strange: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def store_rows(self) -> np.ndarray:
        """int64 `[windows]`, the rows of the store that these are."""
        return self.rows

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 `[windows]`, tokens of each, special tokens included."""
        return self.store.lengths[self.rows].astype(np.int64)

    @cached_property
    def word_numbers(self) -> np.ndarray:
        """int64 `[words]`, the words of these rows in order, as the store counts them."""
        return _ranges(self.words.offsets[self.rows], self.words.offsets[self.rows + 1])

    @cached_property
    def sentence_offsets(self) -> np.ndarray:
        """int64 `[sentences + 1]`, where the words of each sentence begin and end among these."""
        counts = self.words.offsets[self.rows + 1] - self.words.offsets[self.rows]
        starts = np.concatenate([[0], np.cumsum(counts)])
        return np.append(starts[:-1][self.words.first[self.rows]], starts[-1])

    @cached_property
    def sentence_rows(self) -> np.ndarray:
        """int64 `[sentences]`, the row of the store that each sentence begins with."""
        return self.rows[self.words.first[self.rows]]

    @cached_property
    def word_places(self) -> np.ndarray:
        """int64 `[words]`, the token of each word among the tokens of these rows, or `NO_TOKEN`."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)])[:-1]
        counts = self.words.offsets[self.rows + 1] - self.words.offsets[self.rows]
        tokens = self.words.tokens[self.word_numbers]
        return np.where(tokens == NO_TOKEN, NO_TOKEN, np.repeat(starts, counts) + tokens)

    def places(self, row: int) -> list[tuple[str, int]]:
        """Returns the file and the line of the sentence of a row."""
        return [self.store.where(int(self.rows[row]))]

    def gather(self, indices: np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns the padded token ids of some rows, int32 `[indices, length]`."""
        return self.store.gather(self.rows[indices], length, pad_id)

    def batch(
        self,
        indices: np.ndarray,
        length: int,
        inputs: Sequence[str],
        pad_id: int,
        *,
        step: int = 0,
        seed: int = 0,
    ) -> tuple:
        """Returns `(x, y, sample_weight)` of some rows; see `rows.Rows`.

        Returns:
            The inputs of `model_inputs`; the tag of each token, int32 `[indices, length]`; and
            whether it counts in the loss, float32 `[indices, length]`: 1 for the first subword of
            a word that belongs to the window.
        """
        x = model_inputs(self, indices, length, inputs, pad_id)
        y = np.zeros((len(indices), length), np.int32)
        weights = np.zeros((len(indices), length), np.float32)
        row, token, tags = self._targets(self.rows[indices])
        y[row, token] = tags
        weights[row, token] = 1.0
        return x, y, weights

    def token_targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns which of the tokens of all rows count in the loss, and their tags.

        Returns:
            int64 `[targets]`, numbers among the tokens of these rows one after the other; and int32
            `[targets]`.
        """
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        row, token, tags = self._targets(self.rows)
        return starts[row] + token, tags

    def _targets(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what counts in the loss: the place of each row, the token in it, and its tag."""
        starts, ends = self.words.offsets[rows], self.words.offsets[rows + 1]
        numbers = _ranges(starts, ends)
        row = np.repeat(np.arange(len(rows)), ends - starts)
        tokens, tags = self.words.tokens[numbers], self.tags[numbers]
        counts = (tokens != NO_TOKEN) & (tags < self.tag_count)
        row, tokens, tags, numbers = (each[counts] for each in (row, tokens, tags, numbers))
        if self.inside is not None:
            more = self.words.sizes[numbers] - 1
            further = np.repeat(tokens + 1, more) + _ranges(np.zeros_like(more), more)
            row = np.concatenate([row, np.repeat(row, more)])
            tokens = np.concatenate([tokens, further])
            tags = np.concatenate([tags, np.repeat(self.inside[tags], more)])
        # Of words that share a token the first one counts.
        _, first = np.unique(row * (1 << 32) + tokens, return_index=True)
        return row[first], tokens[first], tags[first]

    def signature(self, rows: int, length: int | None, inputs: Sequence[str]) -> tuple:
        """Returns the specs of what `batch` returns."""
        ids = ArraySpec((rows, length), np.int32)
        return dict.fromkeys(inputs, ids), ids, ArraySpec((rows, length), np.float32)

    def take(self, indices: np.ndarray) -> TaggedWindows:
        """Returns some of the rows."""
        return replace(self, rows=self.rows[indices])

    def sentences(self, numbers: Sequence[int]) -> list[tuple[str, list[tuple[int, int]]]]:
        """Returns the text of some sentences, and where their words begin and end in it."""
        ends = np.append(np.flatnonzero(self.words.first[self.rows])[1:], len(self.rows))
        texts, starts, stops = (self.store.column(name) for name in (TEXT, WORD_STARTS, WORD_ENDS))
        found = []
        for number in numbers:
            first = int(self.sentence_rows[number])
            last = int(self.rows[ends[number] - 1]) + 1
            words = [
                pair
                for row in range(first, last)
                for pair in zip(starts[row].as_py(), stops[row].as_py(), strict=True)
            ]
            found.append((texts[first].as_py(), words))
        return found


def refuse_empty(store: TokenStore, source: TaggedSource) -> None:
    """Raises a `DataError` if a store has no row."""
    if not len(store):
        raise DataError(
            "The files contain no sentences",
            where=", ".join(source.files),
            fix="give a file with tagged words",
        )


def _ranges(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns the numbers from each start to its end, one range after the other, int64."""
    counts = np.asarray(ends, np.int64) - starts
    before = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
