"""The numbers of a row of metrics.jsonl, by the names that TensorBoard and trackers show."""

from __future__ import annotations

from collections.abc import Mapping

NOT_SCALARS = frozenset({"step", "epoch", "validation"})
"""The keys of a row that are no curve of their own."""


def scalars_of(row: Mapping) -> dict[str, float]:
    """Returns the numbers of a row, as `train/loss` and `validation/loss`.

    Args:
        row: A row of metrics.jsonl.

    Example:

    >>> scalars_of({"step": 10, "epoch": 0.5, "loss": 0.61})
    {'train/loss': 0.61}
    """
    found = {f"train/{name}": value for name, value in row.items() if name not in NOT_SCALARS}
    return found | {f"validation/{name}": x for name, x in row.get("validation", {}).items()}
