"""Documents as sequences for training and evaluating a masked language model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from kerasllm.data.batch_plan import index_dtype
from kerasllm.data.documents import Sample, Stretch, batched_documents
from kerasllm.data.masking import Masking, mask_rows
from kerasllm.data.rows import ArraySpec, row_generator
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.token_store import open_or_write, row_batch
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.data.tokenizers.vocabulary import Vocabulary
from kerasllm.errors import DataError

POSITIONS = "mask_positions"
"""The input that says which tokens are predicted."""

TOKENS, SENTENCE = "tokens", "sentence"
"""What is predicted: masked tokens, and how the second text of a row follows the first."""

NEXT, ORDER = "next", "order"
"""Whether the second text is the next one (BERT), and whether the two are in order (ALBERT)."""

# The masks on which a model is measured: they depend on the tokens of a row alone.
_FIXED_STEP = (1 << 64) - 1
_UNCUT = 2**31 - 1
_VERSION = 1
# Of a row: whether its texts are swapped or unrelated, where they meet, and what comes in.
_SENTENCE_DRAWS = 4


def open_tokens(
    stretch: Stretch | Sample,
    tokenizer: Tokenizer,
    folder: Path,
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the tokens of documents, each with an end token, from an earlier store if possible.

    Args:
        stretch: The text.
        tokenizer: Turns it into tokens.
        folder: Where stores are kept.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: If a file is broken, or there is no text.
    """
    documents = stretch.documents
    begun = tokenizer.start_token_id is not None

    def batches() -> Iterator[pa.RecordBatch]:
        for together in batched_documents(stretch):
            ids, offsets = tokenizer.encode([each.text for each in together], _UNCUT)
            if begun:
                # Rows get a start token when they are cut.
                ids = np.delete(ids, offsets[:-1])
                offsets = offsets - np.arange(len(offsets))
            lines = np.array([each.line for each in together], np.int64)
            yield row_batch(ids, offsets, together[0].file, lines)

    def remarks() -> list:
        count, rows, noted = stretch.left_out or documents.left_out
        return [count, rows, {"revised": False, **noted}]

    def progress(rows: int) -> None:
        if notify:
            names = ", ".join(Path(name).name for name in documents.files[:3])
            notify(f"tokenizing {names}: {rows:,}")

    store = open_or_write(
        ["masked documents", _VERSION, stretch.identity, tokenizer.fingerprint],
        batches,
        documents.files,
        folder=folder,
        progress=progress,
        remarks=remarks,
    )
    # A document of no token has its end alone.
    if not len(store) or int(store.lengths.max()) < 2:
        raise DataError("The files contain no text", where=", ".join(documents.files))
    store.file_remarks = documents.remarks if stretch.left_out is None else ()
    return store


@dataclass(frozen=True, eq=False)
class MaskedRows:
    """Rows of tokens, some of them hidden: others in every epoch, and fixed ones to measure on.

    Attributes:
        store: The documents, each with an end token; see `open_tokens`.
        pieces: `[pieces]` with three fields: the `row` of a piece in the store, its `first` token
            there, and its `count` of tokens.
        first_pieces: int `[rows + 1]`, the first piece of each row.
        tokenizer: What the tokens were made with.
        vocabulary: What its tokens are.
        masking: How tokens are hidden in training. Defaults to `Masking()`, by which all are
            measured.
        sentence_task: `"next"`, `"order"` or `None`. Defaults to `None`.
    """

    store: TokenStore
    pieces: np.ndarray
    first_pieces: np.ndarray
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    masking: Masking = field(default_factory=Masking)
    sentence_task: str | None = None

    def __len__(self) -> int:
        return len(self.first_pieces) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """int32 `[rows]`, the maximum number of tokens of each row, special ones included."""
        if not len(self):
            return np.empty(0, np.int32)
        counts = np.add.reduceat(self.pieces["count"], self.first_pieces[:-1], dtype=np.int32)
        return counts + np.int32(special_tokens_of(self.tokenizer, self.sentence_task))

    @property
    def store_rows(self) -> np.ndarray:
        """int `[documents]`, the rows of the store that pieces are of, each once."""
        return np.unique(self.pieces["row"])

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is predicted of a row."""
        return (TOKENS, SENTENCE) if self.sentence_task else (TOKENS,)

    def take(self, rows: np.ndarray) -> MaskedRows:
        """Returns some of the rows."""
        pieces, firsts = self._pieces_of(rows)
        return replace(self, pieces=self.pieces[pieces], first_pieces=firsts)

    def places(self, row: int) -> list[tuple[str, int]]:
        """Returns the file and the line of each document in a row."""
        first, last = self.first_pieces[row : row + 2]
        return [self.store.where(int(number)) for number in self.pieces["row"][first:last]]

    def batch(
        self,
        rows: np.ndarray,
        length: int,
        inputs: Sequence[str],
        pad_id: int,
        *,
        step: int = 0,
        seed: int = 0,
    ) -> tuple:
        """Returns `(x, y, sample_weight)` of some rows; see `rows.Rows`.

        Returns:
            The inputs, int32 `[rows, length]`, and `mask_positions`, int32 `[rows, predictions]`;
            the masked tokens, int32 `[rows, predictions]`; and 1 where there is one, else 0,
            float32. With a `sentence_task` targets and weights are dicts: `tokens`, and `sentence`,
            `[rows]`.
        """
        generators = [row_generator(seed, step, int(row)) for row in rows]
        x, y, weights = self._batch(rows, length, inputs, pad_id, generators, self.masking)
        if self.sentence_task is None:
            return x, y[TOKENS], weights[TOKENS]
        return x, y, weights

    def fixed_batch(
        self, rows: np.ndarray, length: int, inputs: Sequence[str], pad_id: int
    ) -> tuple:
        """Returns `(x, y, sample_weight)` with masks that depend on the tokens of a row alone.

        They are single tokens, 15% of them, regardless of the masking in training: so that what is
        measured of different trainings can be compared.

        Returns:
            As `batch`; targets and weights are dicts.
        """
        generators = []
        for row in rows:
            digest = hashlib.blake2b(self._tokens(np.array([row]))[0].tobytes(), digest_size=8)
            number = int.from_bytes(digest.digest(), "little")
            generators.append(row_generator(0, _FIXED_STEP, number))
        return self._batch(rows, length, inputs, pad_id, generators, Masking())

    def signature(self, rows: int, length: int | None, inputs: Sequence[str]) -> tuple:
        """Returns the specs of what `batch` returns."""
        ids = ArraySpec((rows, length), np.int32)
        most = None if length is None else self.masking.most(length)
        targets = ArraySpec((rows, most), np.int32)
        weights = ArraySpec((rows, most), np.float32)
        x = {name: targets if name == POSITIONS else ids for name in inputs}
        if self.sentence_task is None:
            return x, targets, weights
        label = {TOKENS: targets, SENTENCE: ArraySpec((rows,), np.int32)}
        return x, label, {TOKENS: weights, SENTENCE: ArraySpec((rows,), np.float32)}

    def _batch(self, rows, length, inputs, pad_id, generators, masking) -> tuple:
        rows = np.asarray(rows)
        ids = np.full((len(rows), length), pad_id, np.int32)
        segments = np.zeros((len(rows), length), np.int32)
        if self.sentence_task is None:
            lengths = self._fill(ids, rows)
            label = counted = None
        else:
            lengths, label, counted = self._fill_pairs(ids, segments, rows, generators)
        found = mask_rows(ids, lengths, generators, self.vocabulary, masking)
        arrays = {
            "token_ids": found.ids,
            "padding_mask": (np.arange(length) < lengths[:, None]).astype(np.int32),
            "segment_ids": segments,
            POSITIONS: found.positions,
        }
        x = {name: arrays[name] for name in inputs if name in arrays}
        y, weights = {TOKENS: found.targets}, {TOKENS: found.counted.astype(np.float32)}
        if label is not None:
            y[SENTENCE], weights[SENTENCE] = label, counted
        return x, y, weights

    def _fill(self, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Writes rows of one text between special tokens; returns their lengths."""
        tokens, counts = self._tokens(rows)
        lengths = self.lengths[rows].astype(np.int64)
        first = int(self.tokenizer.start_token_id is not None)
        places = np.arange(ids.shape[1])
        ids[(places >= first) & (places < (counts + first)[:, None])] = tokens
        if first:
            ids[:, 0] = self.tokenizer.start_token_id
        ids[np.arange(len(rows)), lengths - 1] = self.tokenizer.end_token_id
        return lengths

    def _fill_pairs(self, ids, segments, rows, generators) -> tuple:
        """Writes rows of two texts; returns their lengths, labels, and which of these count."""
        tokens, counts = self._tokens(rows)
        ends = np.cumsum(counts)
        lengths = np.zeros(len(rows), np.int64)
        labels, counted = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.float32)
        start, end = [self.tokenizer.start_token_id], [self.tokenizer.end_token_id]
        between = list(self.tokenizer.pair_separator_ids)
        for number, generator in enumerate(generators):
            text = tokens[ends[number] - counts[number] : ends[number]]
            drawn = generator.random(_SENTENCE_DRAWS)
            place = _meeting_point(text, self.vocabulary, drawn[0])
            one, two = text[:place], text[place:]
            if len(one) and len(two):
                labels[number], counted[number] = int(drawn[1] >= 0.5), 1.0
            if labels[number] and self.sentence_task == ORDER:
                one, two = two, one
            elif labels[number]:
                two = self._other_text(int(rows[number]), drawn[2:], len(two))
            row = np.concatenate([start, one, between, two, end])
            ids[number, : len(row)] = row
            lengths[number] = len(row)
            second = len(one) + 1 + len(between)
            segments[number, second : len(row)] = self.tokenizer.second_segment
        return lengths, labels, counted

    def _other_text(self, row: int, drawn: np.ndarray, most: int) -> np.ndarray:
        """Returns a text of another document, or of one alone from elsewhere in it."""
        first, last = row, row + 1
        if self._documents is not None:
            own = self._documents[self.first_pieces[row]]
            first, last = np.searchsorted(self._documents, [own, own + 1])
        outside = len(self) - int(last - first)
        if self._documents is not None and outside:
            chosen = int(drawn[0] * outside)
            chosen += int(last - first) * (chosen >= first)
        else:
            # Not itself, nor what follows it.
            chosen = (row + 2 + int(drawn[0] * max(len(self) - 3, 1))) % len(self)
        text = self._tokens(np.array([chosen]))[0]
        ends = np.flatnonzero(self.vocabulary.ends_sentence[text]) + 1
        begins = np.concatenate([[0], ends[ends < len(text)]])
        return text[begins[int(drawn[1] * len(begins))] :][:most]

    @cached_property
    def _documents(self) -> np.ndarray | None:
        """The document of each piece, ascending; `None` where rows were put in another order."""
        documents = self.pieces["row"].astype(np.int64)
        return documents if (np.diff(documents) >= 0).all() else None

    def _tokens(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tokens of rows one after the other, int32, and how many each has."""
        chosen, firsts = self._pieces_of(rows)
        row, first, count = (self.pieces[chosen][name].astype(np.int64) for name in _FIELDS)
        tokens = self.store.slices(row, first, count)
        return tokens, np.add.reduceat(count, firsts[:-1]) if len(rows) else count

    def _pieces_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(rows)
        counts = self.first_pieces[rows + 1] - self.first_pieces[rows]
        firsts = np.concatenate([[0], np.cumsum(counts)])
        offset = np.repeat(self.first_pieces[rows] - firsts[:-1], counts)
        return np.arange(firsts[-1]) + offset, firsts


_FIELDS = ("row", "first", "count")


def cut_rows(
    store: TokenStore,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    max_length: int,
    *,
    joined: bool = False,
    masking: Masking | None = None,
    sentence_task: str | None = None,
) -> MaskedRows:
    """Cuts documents into rows, without losing a token.

    Args:
        store: The documents; see `open_tokens`.
        tokenizer: What their tokens were made with.
        vocabulary: What its tokens are.
        max_length: The maximum number of tokens of a row, special tokens included.
        joined: Whether a row is filled with further documents, an end token between them; else each
            row is of one, and those of a document are about equally long. Defaults to `False`.
        masking: How tokens are hidden in training. Defaults to `None`: as `Masking()`.
        sentence_task: `"next"`, `"order"` or `None`. Defaults to `None`.
    """
    room = max_length - special_tokens_of(tokenizer, sentence_task)
    lengths = store.lengths.astype(np.int64) - 1
    documents = np.flatnonzero(lengths > 0)
    counts = lengths[documents]
    number = index_dtype(max(len(lengths), int(counts.max(initial=0))))
    fields = [(name, number) for name in _FIELDS]
    if joined:
        # All but the last one with their end token.
        counts = counts + 1
        counts[-1:] -= 1
        ends = np.cumsum(counts)
        blocks = np.arange(0, int(ends[-1]), room)
        cuts = np.union1d(ends - counts, blocks)
        text = np.searchsorted(ends - counts, cuts, side="right") - 1
        pieces = np.zeros(len(cuts), fields)
        pieces["row"], pieces["first"] = documents[text], cuts - (ends - counts)[text]
        pieces["count"] = np.diff(cuts, append=ends[-1])
        firsts = np.append(np.searchsorted(cuts, blocks), len(cuts))
    else:
        parts = -(-counts // room)
        text = np.repeat(np.arange(len(documents)), parts)
        number = np.arange(len(text)) - np.repeat(np.cumsum(parts) - parts, parts)
        starts = number * counts[text] // parts[text]
        pieces = np.zeros(len(text), fields)
        pieces["row"], pieces["first"] = documents[text], starts
        pieces["count"] = (number + 1) * counts[text] // parts[text] - starts
        firsts = np.arange(len(text) + 1)
    return MaskedRows(
        store,
        pieces,
        firsts.astype(index_dtype(len(pieces))),
        tokenizer,
        vocabulary,
        masking or Masking(),
        sentence_task,
    )


def special_tokens_of(tokenizer: Tokenizer, sentence_task: str | None) -> int:
    """Returns how many special tokens a row has."""
    if sentence_task:
        return tokenizer.pair_special_tokens
    return 1 + (tokenizer.start_token_id is not None)


def scoring_inputs(
    rows: MaskedRows, numbers: np.ndarray, length: int, inputs: Sequence[str], pad_id: int
) -> Mapping[str, np.ndarray]:
    """Returns what a model is measured by on some rows: its inputs with fixed masks, and targets.

    Beside the inputs these are `targets` and `counted`, int32 `[rows, predictions]`; and with a
    sentence task `label` and `labelled`, int32 `[rows]`.
    """
    x, y, weights = rows.fixed_batch(numbers, length, inputs, pad_id)
    found = {**x, "targets": y[TOKENS], "counted": weights[TOKENS].astype(np.int32)}
    if SENTENCE in y:
        found |= {"label": y[SENTENCE], "labelled": weights[SENTENCE].astype(np.int32)}
    return found


def _meeting_point(text: np.ndarray, vocabulary: Vocabulary, drawn: float) -> int:
    """Returns where the first text of a row ends: after a sentence, or a word of one sentence."""
    ends = np.flatnonzero(vocabulary.ends_sentence[text[:-1]]) + 1
    if not len(ends):
        ends = np.flatnonzero(~vocabulary.continues[text[1:]]) + 1
    return int(ends[int(drawn * len(ends))]) if len(ends) else len(text)
