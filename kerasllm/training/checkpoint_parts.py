"""Arrays of a checkpoint in parts, as several processes write them: joined when they are read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

_PART = re.compile(r"(.+)@([0-9]+:[0-9]+(?:,[0-9]+:[0-9]+)*)")


def part_name(name: str, index: Iterable[slice], shape: tuple[int, ...]) -> str:
    """Returns the name of a part of an array; that of the array where the part is all of it.

    Args:
        name: The array's name.
        index: The part's place, a slice for each dimension.
        shape: The shape of the whole array.

    Example:

    >>> part_name("kernel", (slice(0, 2), slice(None)), (4, 8))
    'kernel@0:2,0:8'
    """
    ends = [each.indices(size)[:2] for each, size in zip(index, shape, strict=True)]
    if all(end == (0, size) for end, size in zip(ends, shape, strict=True)):
        return name
    return f"{name}@" + ",".join(f"{start}:{stop}" for start, stop in ends)


def joined(files: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns whole arrays of the arrays of several files, some of them in parts.

    Args:
        files: The arrays of each file, by the names that `part_name` gave.

    Raises:
        ValueError: If a part is missing, or two do not fit together.
    """
    whole: dict[str, np.ndarray] = {}
    parts: dict[str, list[tuple[tuple[slice, ...], np.ndarray]]] = {}
    for arrays in files:
        for name, array in arrays.items():
            found = _PART.fullmatch(name)
            if found is None:
                whole[name] = array
                continue
            ends = [tuple(map(int, each.split(":"))) for each in found[2].split(",")]
            place = tuple(slice(*each) for each in ends)
            if tuple(stop - start for start, stop in ends) != array.shape:
                raise ValueError(f"{name} has the shape {array.shape}")
            parts.setdefault(found[1], []).append((place, array))
    for name, found in parts.items():
        shape = tuple(max(each.stop for each in ends) for ends in zip(*(p for p, _ in found)))
        if sum(array.size for _, array in found) != math.prod(shape):
            raise ValueError(f"a part of {name} is missing")
        array = whole[name] = np.empty(shape, found[0][1].dtype)
        for place, part in found:
            array[place] = part
    return whole
