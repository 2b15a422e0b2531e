"""Pairs of answers to the same prompt, one chosen and one rejected, as rows to train on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from kerasllm.data.rows import ArraySpec
from kerasllm.data.sequences import Sequences, scoring_inputs, whole_rows
from kerasllm.data.stored_tokens import TokenStore

SIDES = 2


class Pairs:
    """Pairs of a token store whose rows 2i and 2i + 1 are chosen and rejected of pair i.

    A pair is one row of a batch, however that is cut: its two answers are never apart.

    Args:
        store: The tokens; see `kerasllm.data.chat.conversations.open_preferences`.
        numbers: Which pairs. Defaults to `None`: all.

    Attributes:
        store: As given.
        numbers: int64 `[pairs]`.
        sides: The answers with their prompts, a row each: chosen and rejected of the first pair,
            of the second...
        reference: float32 `[pairs, 2]`, the log-probabilities of the answers, chosen and rejected,
            as the model gives them before it trains; to be set before it does.
    """

    def __init__(self, store: TokenStore, numbers: np.ndarray | None = None):
        self.store = store
        self.numbers = np.arange(len(store) // SIDES) if numbers is None else np.asarray(numbers)
        rows = SIDES * self.numbers[:, None] + np.arange(SIDES)
        self.sides: Sequences = whole_rows(store, rows.ravel())
        self.reference: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def store_rows(self) -> np.ndarray:
        """int `[2 * pairs]`, the rows of the store that the answers are."""
        return self.sides.store_rows

    @cached_property
    def lengths(self) -> np.ndarray:
        """int32 `[pairs]`, tokens of the longer answer of each, with its prompt."""
        return self.sides.lengths.reshape(-1, SIDES).max(axis=1)

    def places(self, pair: int) -> list[tuple[str, int]]:
        """Returns the file and the line of a pair, by its number here."""
        return self.sides.places(SIDES * pair)

    def take(self, rows: np.ndarray) -> Pairs:
        """Returns some of the pairs, with their reference if there is one."""
        taken = Pairs(self.store, self.numbers[rows])
        if self.reference is not None:
            taken.reference = self.reference[rows]
        return taken

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
        """Returns `(x, y, sample_weight)`; see `rows.Rows`. It draws nothing at random.

        Args:
            rows: int64, which pairs.
            length: What both answers are padded to.
            inputs: Of `token_ids`, `targets` and `counted`; see `sequences.scoring_inputs`.
            pad_id: The id to pad with.
            step: Not used. Defaults to `0`.
            seed: Not used. Defaults to `0`.

        Returns:
            The inputs, int32 `[pairs, 2, length]`; the reference's log-probabilities, float32
            `[pairs, 2]`; and float32 `[pairs]` of ones.
        """
        both = (SIDES * rows[:, None] + np.arange(SIDES)).ravel()
        x = scoring_inputs(self.sides, both, length, inputs, pad_id)
        shape = (len(rows), SIDES, length)
        x = {name: x[name].reshape(shape) for name in inputs}
        reference = self.reference
        # A step that is only tried has no reference yet.
        y = np.zeros((len(rows), SIDES), np.float32) if reference is None else reference[rows]
        return x, y, np.ones(len(rows), np.float32)

    def signature(self, rows: int, length: int | None, inputs: Sequence[str]) -> tuple:
        """Returns the specs of what `batch` returns."""
        whole = ArraySpec((rows, SIDES, length), np.int32)
        reference = ArraySpec((rows, SIDES), np.float32)
        return dict.fromkeys(inputs, whole), reference, ArraySpec((rows,), np.float32)
