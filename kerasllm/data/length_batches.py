"""Computes rows in batches of similar length, and returns the results in the original order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def in_length_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yields the numbers of rows that are computed together, the shortest rows first.

    Rows are sorted by length, so that little of a batch is padding. Rows of one length keep their
    order.

    Args:
        lengths: int `[rows]`, tokens of each row.
        batch_size: Rows of a batch; the last one may have fewer.

    Yields:
        int64 `[batch_size]` or fewer. The last row is the longest.

    Example:

    >>> list(in_length_batches(np.array([5, 2, 9]), 2))
    [array([1, 0]), array([2])]
    """
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def map_by_length(
    lengths: np.ndarray,
    batch_size: int,
    compute: Callable[[np.ndarray], np.ndarray],
    *,
    workers: int = 1,
    notify: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Computes something of every row, in batches of similar length.

    Args:
        lengths: int `[rows]`, tokens of each row.
        batch_size: Rows of a batch; the last one may have fewer.
        compute: Takes the numbers of a batch's rows, int64, the longest of them last; returns an
            array with an entry for each, of the same shape and dtype in every batch.
        workers: Threads that compute a batch each. Defaults to `1`: the calling thread alone.
        notify: Called with the number of each batch that is done, in their order. Defaults to
            `None`.

    Returns:
        What `compute` returned, `[rows, ...]`, in the order of `lengths`. An array of shape `[0]`
        if there are no rows.

    Raises:
        ValueError: If `compute` returns another number of entries than it got rows.

    Example:

    >>> texts = ["a longer text", "short", "of any length"]
    >>> lengths = np.array([len(text) for text in texts])
    >>> map_by_length(lengths, 2, lambda rows: np.array([texts[row].upper() for row in rows]))
    array(['A LONGER TEXT', 'SHORT', 'OF ANY LENGTH'], dtype='<U13')
    """
    batches = list(in_length_batches(lengths, batch_size))
    if workers == 1 or len(batches) < 2:
        return _restored(len(lengths), batches, map(compute, batches), notify)
    with ThreadPoolExecutor(workers) as threads:
        return _restored(len(lengths), batches, threads.map(compute, batches), notify)


def _restored(
    count: int,
    batches: list[np.ndarray],
    outputs: Iterator[np.ndarray],
    notify: Callable[[int], None] | None,
) -> np.ndarray:
    """Returns the outputs of batches of rows in the order of the rows, `[count, ...]`."""
    found = np.empty(0)
    for number, (rows, output) in enumerate(zip(batches, outputs, strict=True)):
        output = np.asarray(output)
        if len(output) != len(rows):
            raise ValueError(
                f"An output for each of {len(rows)} rows was expected. Received: {len(output)}"
            )
        if number == 0:
            found = np.empty((count, *output.shape[1:]), output.dtype)
        found[rows] = output
        if notify is not None:
            notify(number)
    return found
