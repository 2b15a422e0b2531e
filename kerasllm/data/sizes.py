"""Sizes that batches are padded to, so that few different ones are computed."""

from __future__ import annotations


def size_holding(count: int, least: int = 1, steps: int = 2) -> int:
    """Returns the smallest of the sizes used that holds some rows, tokens or slots.

    Args:
        count: How many it must hold, at least 1.
        least: The smallest size, a power of 2; the others are multiples of it. Defaults to `1`.
        steps: How many sizes there are from each power of 2 to the next, itself a power of 2.
            Defaults to `2`: 8, 12, 16, 24...

    Example:

    >>> [size_holding(count, least=8, steps=4) for count in (1, 9, 30, 33, 70, 100)]
    [8, 16, 32, 40, 80, 112]
    """
    if count <= least:
        return least
    power = 1 << ((count - 1).bit_length() - 1)
    step = max(least, power // steps)
    return -(-count // step) * step
