"""Labelled rows of a token store: the unit that is split, planned, trained and evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kerasllm.data.batch_plan import index_dtype
from kerasllm.data.rows import ArraySpec, model_inputs
from kerasllm.data.stored_tokens import TokenStore


@dataclass(frozen=True, eq=False)
class Examples:
    """Some rows of a token store, with the class and the weight of each.

    There may be hundreds of millions: each takes as few bytes of memory as its numbers need.

    Attributes:
        store: The tokens of all rows.
        rows: int32 `[examples]` (int64 of a store of more than 2^31 rows), which rows of the store
            these are.
        labels: What each is labelled with: int `[examples]`, classes; or float `[examples]`,
            scores (float64 as they were read, float32 when standardized); or, with `label_count`,
            uint8 `[examples, bytes]`, sets of labels, a bit each, the first label in the highest
            bit.
        weights: float32 `[examples]`, their weights in the training loss. Defaults to `None`: all
            weigh 1.
        second_segment: The segment id of the second text, in rows that hold pairs of texts: 1 for
            BERT, 0 for RoBERTa. Defaults to `1`.
        label_count: The number of labels, where each example has a set of them. Defaults to `None`.
    """

    store: TokenStore
    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    second_segment: int = 1
    label_count: int | None = None

    @property
    def skipped(self) -> int:
        """How many bad rows of the files were left out."""
        return self.store.skipped

    @classmethod
    def of(cls, store: TokenStore, labels: np.ndarray, **attributes) -> Examples:
        """Returns all rows of a store, each with weight 1."""
        rows = np.arange(len(store), dtype=index_dtype(len(store)))
        return cls(store, rows, labels, **attributes)

    def targets(self, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Returns what a model learns of some examples.

        Returns:
            int32 `[examples]`, classes; float32 `[examples, 1]`, scores; or float32 `[examples,
            labels]`, 1 for each label that an example has.
        """
        found = self.labels[indices]
        if self.label_count is not None:
            return np.unpackbits(found, axis=1, count=self.label_count).astype(np.float32)
        if np.issubdtype(found.dtype, np.floating):
            return found.astype(np.float32)[:, None]
        return found.astype(np.int32)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def store_rows(self) -> np.ndarray:
        """int `[examples]`, the rows of the store that these are."""
        return self.rows

    @cached_property
    def lengths(self) -> np.ndarray:
        """int `[examples]`, tokens of each example, special tokens included."""
        lengths = self.store.lengths[self.rows]
        # Signed, so that they can be negated.
        return lengths.astype(np.min_scalar_type(-1 - int(lengths.max(initial=0))))

    def places(self, example: int) -> list[tuple[str, int]]:
        """Returns the file and the line of an example, by its number here."""
        return [self.store.where(int(self.rows[example]))]

    def gather(self, indices: np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns the padded token ids of some examples, int32 `[indices, length]`."""
        return self.store.gather(self.rows[indices], length, pad_id)

    def segment_starts(self, indices: np.ndarray) -> np.ndarray | None:
        """Returns where the second text of some examples begins; see `TokenStore`."""
        return self.store.segment_starts(self.rows[indices])

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
        """Returns `(x, y, sample_weight)` of some examples; see `rows.Rows`.

        Returns:
            The inputs of `model_inputs`, int32 `[indices, length]`; the targets, see `targets`;
            and their weights, float32 `[indices]`.
        """
        x = model_inputs(self, indices, length, inputs, pad_id)
        y = self.targets(indices)
        if self.weights is None:
            return x, y, np.ones(len(y), np.float32)
        return x, y, self.weights[indices]

    def signature(self, rows: int, length: int | None, inputs: Sequence[str]) -> tuple:
        """Returns the specs of what `batch` returns."""
        return (
            dict.fromkeys(inputs, ArraySpec((rows, length), np.int32)),
            self._target_spec(rows),
            ArraySpec((rows,), np.float32),
        )

    def _target_spec(self, rows: int) -> ArraySpec:
        if self.label_count is not None:
            return ArraySpec((rows, self.label_count), np.float32)
        if np.issubdtype(self.labels.dtype, np.floating):
            return ArraySpec((rows, 1), np.float32)
        return ArraySpec((rows,), np.int32)

    def take(self, indices: np.ndarray) -> Examples:
        """Returns some of the examples."""
        weights = None if self.weights is None else self.weights[indices]
        rows, labels = self.rows[indices], self.labels[indices]
        return replace(self, rows=rows, labels=labels, weights=weights)

    def weighted(self, class_weights: np.ndarray) -> Examples:
        """Returns the examples with the weight of their class, float32 `[classes]`."""
        return replace(self, weights=class_weights.astype(np.float32)[self.labels])
