"""The result of encoding many texts: flat arrays with one entry per token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Encoding:
    """The tokens of many texts, or of many pairs of texts, one row after the other.

    Attributes:
        ids: The token ids, int32 `[tokens]`.
        offsets: Where each row starts in the other arrays, int64 `[rows + 1]`.
        spans: Where the characters of each token start and end in the original text, in code
            points, int32 `[tokens, 2]`; `(0, 0)` for the special tokens around a text. In a pair,
            each token counts in its own text. `None` if spans were not asked for.
        segments: Which text of its pair a token belongs to, as the model counts, uint8 `[tokens]`;
            `None` if the rows are single texts.
    """

    ids: np.ndarray
    offsets: np.ndarray
    spans: np.ndarray | None = None
    segments: np.ndarray | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1
