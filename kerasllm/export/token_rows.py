"""Token ids of texts, or of pairs of texts, and the padded inputs that a model reads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LONGEST_FIRST = "longest_first"
"""How a pair that is too long is cut unless its model says otherwise."""


@dataclass(frozen=True, eq=False)
class TokenRows:
    """The tokens of some rows.

    Args:
        ids: The ids of each row, int32, special tokens included.
        segments: The segment of each token, int32: 0 for the first text of a row.
        pad_id: The id of the padding token.
    """

    ids: list[np.ndarray]
    segments: list[np.ndarray]
    pad_id: int

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        columns: Sequence[Sequence[str]],
        max_length: int,
        truncation: str = LONGEST_FIRST,
    ) -> TokenRows:
        """Tokenizes texts.

        Args:
            tokenizer: A `kerasllm.data.tokenizers.Tokenizer`.
            columns: The texts; or the first texts of all rows, and the second ones.
            max_length: The maximum number of tokens of a row.
            truncation: How a pair that is too long is cut: `"longest_first"`, `"only_second"`.
                Defaults to `"longest_first"`.
        """
        if len(columns) == 2:
            found = tokenizer.encode_pairs(*columns, max_length, truncation=truncation)
            ids, offsets, segments = found.ids, found.offsets, found.segments
        else:
            ids, offsets = tokenizer.encode(columns[0], max_length)
            segments = np.zeros_like(ids)
        ids, segments = (
            [np.asarray(flat[start:end], np.int32) for start, end in itertools.pairwise(offsets)]
            for flat in (ids, segments)
        )
        return cls(ids, segments, tokenizer.pad_token_id)

    @property
    def lengths(self) -> np.ndarray:
        """int64 `[rows]`."""
        return np.array([len(row) for row in self.ids], np.int64)

    def inputs(
        self, rows: Sequence[int] | None = None, length: int | None = None
    ) -> dict[str, np.ndarray]:
        """Returns `token_ids`, `padding_mask` and `segment_ids`, int32 `[rows, length]`.

        Args:
            rows: The numbers of the rows. Defaults to `None`: all.
            length: The length that rows are padded to. Defaults to `None`: that of the longest.
        """
        rows = range(len(self.ids)) if rows is None else rows
        length = length or max((len(self.ids[row]) for row in rows), default=0)
        ids = np.full((len(rows), length), self.pad_id, np.int32)
        mask, segments = np.zeros_like(ids), np.zeros_like(ids)
        for place, row in enumerate(rows):
            count = len(self.ids[row])
            ids[place, :count] = self.ids[row]
            segments[place, :count] = self.segments[row]
            mask[place, :count] = 1
        return {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}
