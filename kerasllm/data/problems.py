"""The problem of a label column: one label, several labels, or a score."""

from __future__ import annotations

import dataclasses
from typing import Any

from kerasllm.data.label_cells import parse_label, parse_labels, parse_score

KINDS = ("single_label", "multi_label", "regression")
"""What `data.problem` may be, beside `auto`."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is predicted, and how a label is read.

    Args:
        kind: `"single_label"`, `"multi_label"` or `"regression"`.
        separator: What stands between the labels of a cell. Defaults to `None`: the labels are
            lists, or each cell is one label.
        why: The reason in words, for reports. Defaults to `""`.
        hint: What a user may want to know of the labels. Defaults to `""`.
        booleans: Whether `True`, `TRUE` and `true` are one label. Defaults to `False`.
        numbers: Whether the labels are numbers, among which `nan` or `N/A` is no label but a
            missing one. Defaults to `False`.
        one_hot: Whether the column holds 0 and 1 for one label, which has the name of the column
            (see `parse_one_hot`). Defaults to `False`.

    Example:

    >>> Problem("multi_label", "|").parse("joy | fear")
    ('joy', 'fear')
    >>> Problem("regression").parse("3.80")
    3.8
    """

    kind: str
    separator: str | None = None
    why: str = dataclasses.field(default="", compare=False)
    hint: str = dataclasses.field(default="", compare=False)
    booleans: bool = False
    numbers: bool = dataclasses.field(default=False, compare=False)
    one_hot: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}. Received: {self.kind!r}")
        if self.separator == "":
            raise ValueError("The separator must have a character. Received: separator=''")

    def parse(self, value: Any) -> str | tuple[str, ...] | float:
        """Reads a label as a file holds it.

        Returns:
            The label; the labels without duplicates, in their order; or the score.

        Raises:
            ValueError: The value does not fit; the message says why.
        """
        if self.kind == "single_label":
            return parse_label(value, self.booleans, self.numbers)
        if self.kind == "multi_label":
            return parse_labels(value, self.separator)
        return parse_score(value)
