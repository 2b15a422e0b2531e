"""Sizes that batches are padded to: few, and not much larger than what they hold."""

import pytest

from kerasllm.data.sizes import size_holding


@pytest.mark.parametrize(("least", "steps", "most"), [(1, 2, 22), (16, 2, 14), (8, 4, 33)])
def test_sizes_hold_what_they_are_for_and_are_few(least, steps, most):
    sizes = {count: size_holding(count, least, steps) for count in range(1, 2049)}
    assert all(least <= size and count <= size for count, size in sizes.items())
    assert all(size < count + max(least, count / steps) for count, size in sizes.items())
    assert len(set(sizes.values())) <= most
    # What is padded is not padded again.
    assert all(size_holding(size, least, steps) == size for size in sizes.values())


def test_sizes_are_those_that_are_told():
    assert [size_holding(count) for count in (1, 2, 3, 5, 9, 13, 17)] == [1, 2, 3, 6, 12, 16, 24]
