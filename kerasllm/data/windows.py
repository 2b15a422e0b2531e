"""Windows with a stride over sequences that are longer than a model reads at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Windows:
    """Pieces of sequences that overlap, so that every token has context in one of them.

    Each token is owned by one window: the one in whose middle it is nearest. What is predicted for
    it, or counted of it, is taken from there.

    Attributes:
        rows: int64 `[windows]`, the sequence of each window, in order.
        starts: int64 `[windows]`, its first token.
        ends: int64 `[windows]`, the token after its last one.
        own_starts: int64 `[windows]`, the first token that it owns.
        own_ends: int64 `[windows]`, the token after the last one that it owns; that where the next
            window's own ones begin.
    """

    rows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    own_starts: np.ndarray
    own_ends: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def firsts(self) -> np.ndarray:
        """bool `[windows]`, whether a window is the first of its sequence."""
        return np.diff(self.rows, prepend=-1) != 0


def cut_windows(lengths: np.ndarray, room: int | np.ndarray, stride: int | np.ndarray) -> Windows:
    """Cuts sequences into windows; one that fits is a window by itself.

    The last window of a sequence is moved back, so that it is as long as the others.

    Args:
        lengths: int `[sequences]`, the tokens of each, without special ones; one of none has a
            window too.
        room: The maximum number of tokens of a window: of all sequences, or int `[sequences]`, of
            each.
        stride: How many tokens a window moves on; no more than `room`. As `room`.

    Raises:
        ValueError: If `room` or `stride` is below 1, or `stride` above `room`.

    Example:

    >>> windows = cut_windows(np.array([10]), room=6, stride=3)
    >>> windows.starts.tolist(), windows.ends.tolist(), windows.own_ends.tolist()
    ([0, 3, 4], [6, 9, 10], [4, 6, 10])
    """
    lengths = np.asarray(lengths, np.int64)
    room, stride = (
        np.broadcast_to(np.asarray(each, np.int64), lengths.shape) for each in (room, stride)
    )
    if len(lengths) and not (stride.min() >= 1 and (stride <= room).all()):
        raise ValueError(
            "A window must hold a token, and its stride must be between 1 and its length. "
            f"Received: room={room.min()}, stride={stride.min()} to {stride.max()}"
        )
    counts = 1 + np.maximum(-(-(lengths - room) // stride), 0)
    rows = np.repeat(np.arange(len(lengths)), counts)
    firsts = np.cumsum(counts) - counts
    number = np.arange(len(rows)) - firsts[rows]
    last_start = np.maximum(lengths - room, 0)[rows]
    starts = np.minimum(number * stride[rows], last_start)
    ends = np.minimum(starts + room[rows], lengths[rows])
    # Half of an overlap is nearer to the middle of the window before, half to that of the next.
    own_starts, own_ends = starts.copy(), ends.copy()
    later = np.flatnonzero(number > 0)
    own_starts[later] = (starts[later] + ends[later - 1] + 1) // 2
    own_ends[later - 1] = own_starts[later]
    return Windows(rows, starts, ends, own_starts, own_ends)
