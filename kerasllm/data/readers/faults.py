"""Why a row cannot be used: a message for the user, and a short name to count by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

BROKEN_BYTES = "broken bytes"
DUPLICATE_KEY = "duplicate key"
EMPTY_LABEL = "empty label"
EMPTY_TEXT = "empty text"
FIELDS = "wrong number of fields"
HEADER = "column names"
LABEL = "label of another kind"
MISSING_KEY = "missing key"
NOT_AN_OBJECT = "not an object"
NOT_JSON = "not JSON"
NUL = "NUL byte"
OTHER = "other"
QUOTES = "unbalanced quotes"
TEXT_TYPE = "text that is not a string"


_LONGEST = 1000


class Fault(str):
    """What is wrong with a row: a message that also knows the kind of fault.

    Args:
        message: What is wrong, for the user.
        reason: The kind: one of the names above, which rows that are left out are counted by.

    Example:

    >>> fault = Fault("1 field, where the header names 2", FIELDS)
    >>> fault, fault.reason
    ('1 field, where the header names 2', 'wrong number of fields')
    """

    reason: str

    def __new__(cls, message: str, reason: str) -> Fault:
        fault = super().__new__(cls, message)
        fault.reason = reason
        return fault


def shortened(problem: str) -> str:
    """Returns what is wrong with a row as it is kept: it may hold a key of a megabyte.

    Args:
        problem: A fault, or another message.
    """
    if len(problem) <= _LONGEST:
        return problem
    return Fault(f"{problem[:_LONGEST]}...", reason_of(problem))


def reason_of(problem: str) -> str:
    """Returns what a bad row is counted by."""
    return getattr(problem, "reason", OTHER)


class Notes:
    """What was met in files that is not a fault of a row, counted while they are read.

    Attributes:
        counts: How often each thing was met, by its name in words.
        places: Where each was met first, as `file:line`.
        revised: Whether rows were read in another way than earlier versions did.
    """

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.places: dict[str, str] = {}
        self.revised = False

    def add(self, what: str, place: str, *, revised: bool = False) -> None:
        """Counts one more.

        Args:
            what: What was met, in words.
            place: Where, as `file:line`.
            revised: Whether earlier versions read such rows in another way. Defaults to `False`.
        """
        self.counts[what] += 1
        self.places.setdefault(what, place)
        self.revised = self.revised or revised

    def include(self, other: Notes) -> None:
        """Adds what was met in other files."""
        self.counts += other.counts
        self.places = {**other.places, **self.places}
        self.revised = self.revised or other.revised

    def lines(self) -> list[str]:
        """Returns a sentence for each."""
        return [
            f"{what}: {count:,}, the first at {self.places[what]}"
            for what, count in self.counts.items()
        ]


def counted_reasons(reasons: Mapping[str, int]) -> str:
    """Returns the reasons with their counts in words, the most frequent first.

    Example:

    >>> counted_reasons({"empty text": 2, "not JSON": 1200})
    '1,200 not JSON, 2 empty text'
    """
    found = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in found)
