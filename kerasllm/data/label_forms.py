"""The spellings of a label: different representations of the same label in files."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

BOOLEANS = {"true": True, "false": False}
"""How booleans are written, in lower case."""

ONE_HOT = {"0": False, "1": True, **BOOLEANS}
"""What a column of 0 and 1 holds, in lower case."""

_NUMBER = re.compile(r"\s*+[-+]?([0-9]++\.?[0-9]*+|\.[0-9]++)([eE][-+]?[0-9]++)?\s*+")
# "007" may be another code than "7".
_CODE = re.compile(r"\s*[-+]?0[0-9]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]"
)
# No float32 needs more; what has more was one before it became a float64.
_DIGITS_OF_FLOAT32 = 12


def is_number(text: str) -> bool:
    """Whether a text is a number as programs write it: `3`, `-0.5`, `1e-3`."""
    return _NUMBER.fullmatch(text) is not None


def visible(label: str) -> str:
    """A label without what nobody sees: one form of composed characters, plain spaces.

    Zero-width characters go, and space of any kind between words is one space.

    Example:
        >>> visible("not\\xa0spam\\u200b")
        'not spam'
    """
    if label.isascii() and label.isprintable() and "  " not in label:
        return label
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", label)).split())


def canonical(label: str) -> str:
    """A label in the form that all file formats share, where they write one value in two ways.

    Booleans are `"true"` and `"false"`, and what was a float32 has the digits of one: a value that
    jsonl holds as `0.10000000149011612` is `"0.1"` in csv.

    Args:
        label: What `label_text` returned.
    """
    if label.lower() in BOOLEANS:
        return label.lower()
    if len(label) > _DIGITS_OF_FLOAT32 and "." in label and is_number(label):
        import numpy as np

        value = float(label)
        with np.errstate(over="ignore"):
            short = np.float32(value)
        return str(short) if float(short) == value else label
    return label


def forms_of(label: str, *, booleans: bool = False) -> list[tuple]:
    """What a label is, however it is written: what is seen of it, and its number.

    Args:
        label: The label.
        booleans: Whether 1 is true, and 0 false. Defaults to `False`.
    """
    forms: list[tuple] = [("text", visible(label)), ("text", canonical(label))]
    if booleans and label.lower() in ONE_HOT:
        forms.append(("boolean", ONE_HOT[label.lower()]))
    if is_number(label) and not _CODE.match(label):
        forms.append(("number", float(label)))
    return forms


def written_otherwise(found: set[str]) -> dict[str, str]:
    """Labels that another file format writes in another way, and how they are written then.

    `True` of csv is `true` in parquet and jsonl, and 1 where all labels are true, false, 0 and 1; a
    float32 has too many digits in jsonl.

    Args:
        found: All labels.
    """
    lower = {label.lower() for label in found}
    booleans = lower <= set(ONE_HOT) and bool(lower & set(BOOLEANS))
    forms = {label: canonical(label) for label in found}
    if booleans:
        forms = {label: "true" if ONE_HOT[label.lower()] else "false" for label in found}
    times = Counter(forms.values())
    if len(times) == len(found):
        return {}
    return {
        label: form
        for label, form in forms.items()
        if form != label and (booleans or times[form] > 1)
    }


def sort_key(label: str) -> tuple:
    """Sorts whole numbers by value and before all other labels."""
    try:
        return (0, int(label), label)
    except ValueError:
        return (1, 0, label)
