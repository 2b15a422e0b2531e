"""The interface of all training data: the protocol `Rows`, in NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kerasllm.data.batch_plan import Width, pad_rows

# Each model that reads pairs of texts was pretrained with one of the two: BERT's tells the second
# text apart, RoBERTa's does not.
_SECOND_SEGMENT = 1
_WORD = 1 << 64


@dataclass(frozen=True)
class ArraySpec:
    """The shape and the dtype of an array of a batch.

    Args:
        shape: A size for each axis; `None` where it differs between batches.
        dtype: Anything that `np.dtype` takes.

    Example:

    >>> ArraySpec((32, None), np.int32)
    ArraySpec(shape=(32, None), dtype=dtype('int32'))
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "dtype", np.dtype(self.dtype))


class Tokens(Protocol):
    """Rows of token ids that a model reads: a token store, some rows of one, or texts in memory.

    Rows that hold pairs of texts have besides a method `segment_starts(rows)` (see
    `TokenStore.segment_starts`) and may have an attribute `second_segment`, the segment id of the
    second text of a pair; it is 1 where there is none.
    """

    @property
    def lengths(self) -> np.ndarray:
        """int `[rows]`, tokens of each row, special tokens included."""

    def gather(self, rows: np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns the padded token ids of some rows, int32 `[rows, length]`."""


class Rows(Protocol):
    """The data of one part (train, validation, test) of a task, as batches are made from it.

    A task provides a class of its own, or uses `Examples`, `Sequences` or `Pairs`. It depends on
    NumPy alone: `kerasllm.data.pipeline` turns what it returns into tensors.

    Example:

    ```python
    class Reversed:
        '''Texts whose target is the same text in reverse.'''

        def __init__(self, tokens, numbers=None):
            self.tokens = tokens
            self.numbers = np.arange(len(tokens)) if numbers is None else numbers
            self.lengths = tokens.lengths[self.numbers]

        def __len__(self):
            return len(self.numbers)

        def batch(self, rows, length, inputs, pad_id, *, step=0, seed=0):
            x = model_inputs(self.tokens, self.numbers[rows], length, inputs, pad_id)
            weights = np.arange(length) < self.lengths[rows][:, None]
            return x, x["token_ids"][:, ::-1], weights.astype(np.float32)

        def signature(self, rows, length, inputs):
            ids = ArraySpec((rows, length), np.int32)
            return dict.fromkeys(inputs, ids), ids, ArraySpec((rows, length), np.float32)

        def take(self, rows):
            return Reversed(self.tokens, self.numbers[rows])

        def places(self, row):
            return [self.tokens.where(int(self.numbers[row]))]
    ```
    """

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each row, int `[rows]`; of source and target, int `[rows, 2]`."""

    def __len__(self) -> int:
        """Returns the number of rows."""

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
        """Returns `(x, y, sample_weight)` of some rows.

        What it draws at random must be a function of `seed`, `step` and the number of the row
        alone, which `row_generator` gives: a resumed training then draws the same, and so does a
        training on any number of devices.

        Args:
            rows: int64, which rows. A row may occur twice: the batch is then a short one, padded
                with rows whose weight becomes 0.
            length: What they are padded to: an int, or `(source, target)` if `lengths` has two
                columns.
            inputs: The names of the model's inputs.
            pad_id: The id to pad with.
            step: The number of the batch in the whole training, counted over all epochs. Defaults
                to `0`.
            seed: The seed of the run. Defaults to `0`.

        Returns:
            `x`, the inputs by name, int32, in most tasks `[rows, length]`; `y`, the targets; and
            the weights in the loss, float32 `[rows, ...]`.
        """

    def signature(self, rows: int, length: Width | tuple | None, inputs: Sequence[str]) -> tuple:
        """Returns what `batch` returns, with an `ArraySpec` for each array.

        Args:
            rows: The number of rows of a batch.
            length: As for `batch`; `None`, or `None` in the pair, where it differs between batches.
            inputs: The names of the model's inputs.
        """

    def take(self, rows: np.ndarray) -> Rows:
        """Returns some of the rows, int `[rows]`, in the order given."""

    def places(self, row: int) -> list[tuple[str, int]]:
        """Returns the file and the line of each record that a row was made from."""


class TokensInMemory:
    """Token ids of texts that no store holds.

    Args:
        ids: int32, the ids of all texts, one after the other.
        offsets: int64 `[texts + 1]`, where each text begins and ends.
        segment_starts: int `[texts]`, for pairs of texts: how many tokens of each row come before
            its second text. Defaults to `None`: single texts.
        second_segment: The segment id of the second text. Defaults to `1`.

    Example:

    >>> tokens = TokensInMemory(np.array([7, 8, 9], np.int32), np.array([0, 2, 3]))
    >>> tokens.gather(np.array([1, 0]), 2, pad_id=0)
    array([[9, 0],
           [7, 8]], dtype=int32)
    """

    def __init__(
        self,
        ids: np.ndarray,
        offsets: np.ndarray,
        segment_starts: np.ndarray | None = None,
        *,
        second_segment: int = _SECOND_SEGMENT,
    ):
        self._ids = ids
        self._offsets = offsets
        self._segment_starts = segment_starts
        self.second_segment = second_segment
        self.lengths = np.diff(offsets).astype(np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def gather(self, rows: np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns the padded ids of some texts, int32 `[rows, length]`."""
        return pad_rows(self._ids, self._offsets[:-1][rows], self.lengths[rows], length, pad_id)

    def segment_starts(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns where the second text of some rows begins, int `[rows]`; `None`: single texts."""
        return None if self._segment_starts is None else self._segment_starts[rows]


def model_inputs(
    tokens: Tokens, rows: np.ndarray, length: int, inputs: Sequence[str], pad_id: int
) -> dict[str, np.ndarray]:
    """Returns the inputs of an encoder for some rows, each int32 `[rows, length]`.

    `padding_mask` is 1 for tokens and 0 for padding; it is int32 and not bool, because it crosses
    replicas as a number. `segment_ids` is 0 for the first text of a pair, `tokens.second_segment`
    for the second, and 0 for padding.

    Args:
        tokens: The rows.
        rows: int64, which of them.
        length: What they are padded to.
        inputs: Of `token_ids`, `padding_mask` and `segment_ids`. `token_ids` is always returned.
        pad_id: The id to pad with.

    Example:

    >>> tokens = TokensInMemory(np.array([7, 8, 9], np.int32), np.array([0, 3]), np.array([2]))
    >>> model_inputs(tokens, np.array([0]), 4, ["segment_ids"], 0)["segment_ids"]
    array([[0, 0, 1, 0]], dtype=int32)
    """
    arrays = {"token_ids": tokens.gather(rows, length, pad_id)}
    positions = np.arange(length)
    if "padding_mask" in inputs:
        arrays["padding_mask"] = (positions < tokens.lengths[rows][:, None]).astype(np.int32)
    if "segment_ids" in inputs:
        arrays["segment_ids"] = np.zeros((len(rows), length), np.int32)
        find = getattr(tokens, "segment_starts", None)
        starts = find(rows) if find else None
        if starts is not None:
            second = positions >= starts[:, None]
            second &= positions < tokens.lengths[rows][:, None]
            number = getattr(tokens, "second_segment", _SECOND_SEGMENT)
            arrays["segment_ids"][second] = number
    return arrays


def row_generator(seed: int, step: int, row: int) -> np.random.Generator:
    """Returns the random numbers of one row at one step of a training.

    They depend on the three numbers alone, and those of different rows or steps do not overlap.
    It takes about 10 microseconds.

    Args:
        seed: The seed of the run, from 0 to 2^64 - 1.
        step: The number of the batch in the whole training, as `Rows.batch` gets it.
        row: The number of the row.

    Reference:
        Philox, a generator that is keyed and counted: J. K. Salmon et al., "Parallel Random
        Numbers: As Easy as 1, 2, 3", 2011.

    Example:

    >>> first, again = (row_generator(seed=0, step=7, row=3).random() for _ in range(2))
    >>> first == again
    True
    """
    # The counter has four words. The lowest two count the numbers drawn.
    counter = np.array([0, 0, int(row), int(step)], np.uint64)
    key = np.array([int(seed) % _WORD, 0], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))
