"""Sources and targets as token ids: kept in a token store, batched for an encoder-decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from kerasllm.data import shards
from kerasllm.data.batch_plan import Width
from kerasllm.data.readers.parallel_lines import ParallelLines
from kerasllm.data.readers.sources import RowBatch, Source
from kerasllm.data.rows import ArraySpec
from kerasllm.data.token_store import SKIPPED_KEPT, TokenStore, open_or_write, row_batch
from kerasllm.errors import DataError

ENCODER_IDS, ENCODER_MASK = "encoder_token_ids", "encoder_padding_mask"
DECODER_IDS, DECODER_MASK = "decoder_token_ids", "decoder_padding_mask"
INPUTS = (ENCODER_IDS, ENCODER_MASK, DECODER_IDS, DECODER_MASK)
"""The inputs of an encoder-decoder in training."""

TARGETS, COUNTED = "targets", "counted"
SCORING_INPUTS = (TARGETS, COUNTED)
"""What `predict` takes besides, to score targets: their ids, and 1 for those that count."""

# Columns of a store beside the tokens of the sources.
TARGET, SOURCE_TEXT, TARGET_TEXT = "target", "source_text", "target_text"
SOURCE_CUT, TARGET_CUT = "source_cut", "target_cut"
# Raise it when a store would hold something else of the same files.
_VERSION = 1


class TextSide(Protocol):
    """How an encoder-decoder reads texts."""

    start_token_id: int
    end_token_id: int
    pad_token_id: int

    @property
    def fingerprint(self) -> str:
        """What tells the ids that come out from others."""

    def encode_source(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Returns the ids of sources, as the encoder reads them."""

    def encode_target(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Returns the ids of targets, as the decoder writes them: ending in the end token."""


def open_rows(
    source: Source | ParallelLines,
    text_side: TextSide,
    *,
    prefix: str = "",
    max_length: int,
    max_target_length: int,
    folder: Path,
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns sources and targets as token ids, from an earlier store if there is one.

    Args:
        source: The texts.
        text_side: Makes token ids of them.
        prefix: What is put before each source. Defaults to nothing.
        max_length: The maximum number of tokens of a source, special tokens included; the rest is
            cut.
        max_target_length: The maximum number of tokens of a target, the end token included.
        folder: Where stores are kept.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: If a file is broken, or a row is refused.
    """
    name = ", ".join(Path(file).name for file in source.files[:3])

    def progress(rows: int) -> None:
        if notify:
            notify(f"tokenizing {name}: {rows:,} rows")

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in source.batches(file=shards.mine()):
            yield _batch(batch, text_side, prefix, max_length, max_target_length)

    read = ["sources and targets", _VERSION, source.fingerprint, source.files, source.on_bad_row]
    store = open_or_write(
        [read, text_side.fingerprint, prefix, max_length, max_target_length],
        batches,
        source.files,
        folder=folder,
        progress=progress,
        remarks=lambda: [source.bad_row_count, source.bad_rows[:SKIPPED_KEPT], source.noted],
    )
    if not len(store):
        raise DataError(
            "The files contain no rows", where=", ".join(source.files), fix="give a file with rows"
        )
    return store


def _batch(
    batch: RowBatch, text_side: TextSide, prefix: str, max_length: int, max_target_length: int
) -> pa.RecordBatch:
    sources = [prefix + text for text in batch.texts] if prefix else batch.texts
    ids, offsets, cut = cut_to(text_side.encode_source(sources), max_length)
    target_ids, target_offsets, target_cut = cut_to(
        text_side.encode_target(batch.pairs), max_target_length
    )
    columns = {
        TARGET: pa.ListArray.from_arrays(
            pa.array(target_offsets.astype(np.int32)), pa.array(target_ids)
        ),
        SOURCE_TEXT: pa.array(batch.texts, pa.string()),
        TARGET_TEXT: pa.array(batch.pairs, pa.string()),
        SOURCE_CUT: pa.array(cut),
        TARGET_CUT: pa.array(target_cut),
    }
    return row_batch(ids, offsets, batch.file, batch.lines, columns=columns)


def cut_to(
    rows: Sequence[Sequence[int]], longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts rows of ids that are too long; the last id, which ends a row, stays the last.

    Args:
        rows: The ids of each row.
        longest: The maximum number of ids of a row.

    Returns:
        The ids of all rows, int32; where each begins and ends, int64 `[rows + 1]`; and which were
        cut, int8 `[rows]`, 1 or 0.
    """
    lengths = np.array([len(row) for row in rows], np.int64)
    cut = lengths > longest
    kept = [
        [*row[: longest - 1], row[-1]] if long else row for row, long in zip(rows, cut, strict=True)
    ]
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, longest))])
    ids = np.empty(offsets[-1], np.int32)
    for row, start, end in zip(kept, offsets, offsets[1:], strict=False):
        ids[start:end] = row
    return ids, offsets, cut.astype(np.int8)


@dataclass(frozen=True, eq=False)
class Seq2SeqRows:
    """Some rows of a store of sources and targets: what is split, planned, trained and measured.

    Attributes:
        store: The tokens.
        rows: int64 `[rows]`, which rows of the store these are.
        start_token_id: What the decoder reads before the first token of a target.
        written: Whether an evaluation writes the targets and compares them with the references,
            beside the loss, which needs no writing. Defaults to `True`.
        metric: The metric to go by then, `"bleu"` or `"rouge_l"`. Defaults to `"bleu"`.
        tokenize: How BLEU makes words of texts. Defaults to `"13a"`.
    """

    store: TokenStore
    rows: np.ndarray
    start_token_id: int
    written: bool = True
    metric: str = "bleu"
    tokenize: str = "13a"

    @classmethod
    def of(cls, store: TokenStore, text_side: TextSide, **measured: Any) -> Seq2SeqRows:
        """Returns all rows of a store; `measured` are the other attributes."""
        return cls(store, np.arange(len(store)), text_side.start_token_id, **measured)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def store_rows(self) -> np.ndarray:
        """int64 `[rows]`, the rows of the store that these are."""
        return self.rows

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 `[rows, 2]`, tokens of each source and of each target, special ones included."""
        source, target = self.store.lengths, self.store.column_lengths(TARGET)
        return np.stack([source[self.rows], target[self.rows]], axis=1).astype(np.int64)

    @property
    def skipped(self) -> int:
        """How many bad rows of the files were left out."""
        return self.store.skipped

    @property
    def cut(self) -> tuple[int, int]:
        """How many sources, and how many targets, were too long and were cut."""
        sources, targets = (
            int((self.store.numbers(name, self.rows) > 0).sum())
            for name in (SOURCE_CUT, TARGET_CUT)
        )
        return sources, targets

    def texts(self, rows: np.ndarray | None = None) -> tuple[list[str], list[str]]:
        """Returns the sources, without a prefix, and the targets of some rows, or of all."""
        chosen = pa.array(self.rows if rows is None else self.rows[rows])
        return tuple(
            self.store.column(name).take(chosen).to_pylist() for name in (SOURCE_TEXT, TARGET_TEXT)
        )

    def source_ids(self) -> list[np.ndarray]:
        """Returns the token ids of each source, int32."""
        lengths = self.store.lengths[self.rows]
        ids = self.store.slices(self.rows, np.zeros(len(self), np.int64), lengths)
        return np.split(ids, np.cumsum(lengths)[:-1]) if len(self) else []

    def places(self, row: int) -> list[tuple[str, int]]:
        """Returns the file and the line of a row."""
        return [self.store.where(int(self.rows[row]))]

    def batch(
        self,
        rows: np.ndarray,
        length: Width,
        inputs: Sequence[str],
        pad_id: int,
        *,
        step: int = 0,
        seed: int = 0,
    ) -> tuple:
        """Returns `(x, y, sample_weight)`; see `rows.Rows`. It draws nothing at random.

        The decoder reads the start token and all of a target but its last token, and `y` is the
        target: at each place the token that comes next.

        Returns:
            `x`: those of `INPUTS`, int32, of the encoder `[rows, source]`, of the decoder
            `[rows, target]`; `y`, int32 `[rows, target]`; and float32 `[rows, target]`, 1 for the
            tokens of a target and 0 for padding.
        """
        source_length, target_length = length
        own = self.rows[rows]
        lengths = self.lengths[rows]
        targets = self.store.gather_column(TARGET, own, target_length, pad_id)
        counted = np.arange(target_length) < lengths[:, 1:]
        read = np.full_like(targets, pad_id)
        read[:, 0] = self.start_token_id
        read[:, 1:][counted[:, 1:]] = targets[:, :-1][counted[:, 1:]]
        x = {
            ENCODER_IDS: self.store.gather(own, source_length, pad_id),
            ENCODER_MASK: (np.arange(source_length) < lengths[:, :1]).astype(np.int32),
            DECODER_IDS: read,
            DECODER_MASK: counted.astype(np.int32),
        }
        return {name: x[name] for name in inputs}, targets, counted.astype(np.float32)

    def signature(
        self, rows: int | None, length: Width | tuple | None, inputs: Sequence[str]
    ) -> tuple:
        """Returns the specs of what `batch` returns."""
        source, target = length if isinstance(length, tuple) else (length, length)
        of_encoder = (ENCODER_IDS, ENCODER_MASK)
        specs = {
            name: ArraySpec((rows, source if name in of_encoder else target), np.int32)
            for name in inputs
        }
        return specs, ArraySpec((rows, target), np.int32), ArraySpec((rows, target), np.float32)

    def take(self, indices: np.ndarray) -> Seq2SeqRows:
        """Returns some of the rows."""
        return replace(self, rows=self.rows[indices])


def scoring_inputs(
    rows: Seq2SeqRows, chosen: np.ndarray, length: Width, inputs: Sequence[str], pad_id: int
) -> dict[str, np.ndarray]:
    """Returns the inputs of a batch with `targets` and `counted`, each int32 `[rows, target]`."""
    x, targets, weights = rows.batch(chosen, length, INPUTS, pad_id)
    return {**x, TARGETS: targets, COUNTED: weights.astype(np.int32)}


def scoring_signature() -> dict[str, ArraySpec]:
    """Returns the specs of `scoring_inputs`, of any number of rows."""
    return {name: ArraySpec((None, None), np.int32) for name in (*INPUTS, *SCORING_INPUTS)}
