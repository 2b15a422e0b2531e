"""The findings of a report: a kind, its severity, and the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

WRONG, HARMFUL, NOTABLE = 0, 1, 2
"""How grave: what is measured or learned is wrong; it costs quality; it is worth knowing."""

GRAVITIES = ("wrong", "harmful", "notable")
"""The same in words, by number."""

# Of a finding that brings no examples; and of one that does.
_FIRST_ROWS, _MOST_EXAMPLES = 3, 10


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """Something that was found in the data.

    Args:
        kind: Its name, such as `"duplicates"`.
        gravity: `WRONG`, `HARMFUL` or `NOTABLE`.
        title: What it is, in a sentence.
        advice: What to do about it.
        rows: Numbers of the rows that it is about, counted over all parts.
        examples: Some of them, each with the rows that belong together. Defaults to the first
            rows.
        notes: What is said of an example, by its first row. Defaults to nothing.
        places: Places of rows that could not be read, instead of `rows`: `file:line: why`.
        count: How many rows. Defaults to `None`: as many as `rows`.
        private: Whether the texts of its rows are not shown. Defaults to `False`.
        facts: Numbers and names for programs. Defaults to none.
    """

    kind: str
    gravity: int
    title: str
    advice: str
    rows: np.ndarray | Sequence[int] = ()
    examples: Sequence[Sequence[int]] | None = None
    notes: Mapping[int, str] = dataclasses.field(default_factory=dict)
    places: Sequence[str] = ()
    count: int | None = None
    private: bool = False
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def number(self) -> int:
        """How many rows it is about."""
        return len(self.rows) if self.count is None else self.count

    @property
    def shown(self) -> list[tuple[int, ...]]:
        """The rows of its examples."""
        given = self.examples
        if given is None:
            given = [(int(row),) for row in self.rows[:_FIRST_ROWS]]
        return [tuple(map(int, rows)) for rows in given[:_MOST_EXAMPLES]]


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Returns findings in the order in which to look at them: the gravest, then the most rows."""
    return sorted(findings, key=lambda finding: (finding.gravity, -finding.number))
