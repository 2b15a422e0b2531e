"""Positions of answers in their context: checked, found, or refused with the nearest match."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from kerasllm.data.readers.faults import Fault

MISPLACED = "answers that are not in their context"
"""The kind of fault that such answers have."""

UTF_16 = "answers with positions in UTF-16 units, which were converted"
SEVERAL = "answers without a position that occur several times in their context; the first is used"

# Characters around the told position in which the nearest match is looked for.
_AROUND = 5_000
# What is looked for of a long answer.
_LONGEST = 100
# Characters of a text that a message shows.
_SHOWN = 60


class Place(NamedTuple):
    """Where an answer begins.

    Attributes:
        start: Its first character in the context.
        note: What a user should know of how it was found, or `None`.
    """

    start: int
    note: str | None = None


def place_of(context: str, answer: str, start: int | None) -> Place | Fault:
    """Returns where an answer stands in its context, or why it does not.

    Args:
        context: The text with the answer.
        answer: The answer, not blank.
        start: The character that it begins at, as the file has it; `None` if that is not known.

    Example:

    >>> place_of("Ada lived in London.", "London", 13)
    Place(start=13, note=None)
    >>> place_of("Ada lived in London.", "London", 12)
    "the answer 'London' is not at character 12 of its context; it is at 13"
    """
    if start is None:
        found = context.find(answer)
        if found < 0:
            return Fault(
                f"the answer {_shown(answer)} is not in its context{_nearest(context, answer, 0)}",
                MISPLACED,
            )
        several = context.find(answer, found + 1) >= 0
        return Place(found, SEVERAL if several else None)
    if start >= 0 and context.startswith(answer, start):
        return Place(start)
    if not context.isascii() and start >= 0:
        units = context.encode("utf-16-le", "surrogatepass")[: 2 * start]
        moved = len(units.decode("utf-16-le", "ignore"))
        if context.startswith(answer, moved):
            return Place(moved, UTF_16)
    return Fault(
        f"the answer {_shown(answer)} is not at character {start} of its context"
        f"{_nearest(context, answer, start)}",
        MISPLACED,
    )


def _nearest(context: str, answer: str, start: int) -> str:
    """Returns the end of a message: what is most like the answer, near where it should be."""
    start = min(max(start, 0), len(context))
    before, after = context.rfind(answer, 0, start + len(answer)), context.find(answer, start)
    exact = [place for place in (before, after) if place >= 0]
    if exact:
        return f"; it is at {min(exact, key=lambda place: abs(place - start))}"
    first = max(start - _AROUND, 0)
    around = context[first : start + _AROUND]
    start_of_answer = answer[:_LONGEST].lower()
    matcher = difflib.SequenceMatcher(None, around.lower(), start_of_answer, autojunk=False)
    best = matcher.find_longest_match()
    if best.size < min(3, len(answer)):
        return ", nor anything similar"
    place = max(first + best.a - best.b, 0)
    return f"; the nearest is {_shown(context[place : place + len(answer)])} at {place}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
