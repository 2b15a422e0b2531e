"""The cells of a label column: a single label, a list of labels, or a score."""

from __future__ import annotations

import ast
import contextlib
import csv
import functools
import io
import itertools
import json
import math
import re
import tokenize
from collections.abc import Sequence
from typing import Any

from kerasllm.data.label_forms import ONE_HOT, is_number, visible
from kerasllm.data.readers.json_files import json_kind

MISSING = ("nan", "n/a", "na", "null", "none", "#n/a", "<na>", "nil", "-", "?", "\\n")
"""What stands for a missing number, in lower case; among words each may be a class."""

QUOTED_LIST = re.compile(r"[\[({]\s*['\"]")
"""The start of a list of strings as Python or JSON writes it."""

_LONGEST = 40
_LARGEST_SCORE = 1e38
# Characters: as a syntax tree, a list takes a hundred times of them.
_LONGEST_LIST = 1 << 20
_WHOLE_FLOAT = re.compile(r"(-?[0-9]{1,15})\.0+")
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_NUMPY_STRINGS = re.compile(rf"(?:{_STRING.pattern})(?:\s+(?:{_STRING.pattern}))+")
_NUMPY_NUMBERS = re.compile(r"-?[0-9]++\.?[0-9]*+(?:\s++-?[0-9]++\.?[0-9]*+)++")
_NUMPY_ITEM = re.compile(rf"{_STRING.pattern}|[^\s]+")


def label_text(value: Any) -> str:
    """A label as a string, the same for every file format.

    Space around it goes; a whole number is written without a fraction (`"1"` for `"1.0"` and 1.0,
    which is what an integer column with a gap becomes in pandas); booleans are `"true"` and
    `"false"`.

    Args:
        value: A string, a number, a boolean, or `None`.

    Returns:
        The label; empty if there is none: `None`, NaN, nothing but space.

    Raises:
        TypeError: The value is something else.

    Example:
        >>> label_text(" spam "), label_text(3), label_text("1.0"), label_text(True)
        ('spam', '3', '1', 'true')
    """
    if type(value) is str:
        return _label_of_string(value)
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (int, float)):
        return str(value)
    raise TypeError(f"A label must be a string, a number or a boolean. Received: {shown(value)}")


@functools.lru_cache(maxsize=4096)
def _label_of_string(value: str) -> str:
    label = value.strip()
    whole = _WHOLE_FLOAT.fullmatch(label)
    return str(int(whole[1])) if whole else label


def shown(value: Any) -> str:
    """A value as a message shows it, cut where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"{json_kind(value)}, nested deeply"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def parse_label(value: Any, booleans: bool, numbers: bool) -> str:
    """Returns the label of a cell that holds one; `booleans` and `numbers` as for `Problem`.

    Raises:
        ValueError: If there is none, or it is a list or an object.
    """
    try:
        label = label_text(value)
    except TypeError:
        raise ValueError(
            f"the label is {json_kind(value)}, where a string or a number is expected"
        ) from None
    if not label:
        raise ValueError("the label is empty")
    _refuse_object(label)
    if not label.isascii() and not visible(label):
        raise ValueError(f"the label is empty: {label!a} has no visible characters")
    if numbers and label.lower() in MISSING:
        raise ValueError(
            f"the label is missing: {shown(label)} among numbers (a class needs another name)"
        )
    if booleans and label.lower() in ONE_HOT:
        return "true" if ONE_HOT[label.lower()] else "false"
    return label


def choices_of(value: Any) -> Any:
    """Returns the labels of a cell as Label Studio exports them; any other value as it is.

    Example:

    >>> choices_of('{"choices": ["joy", "fear"]}')
    ['joy', 'fear']
    """
    found = value
    if isinstance(value, str) and value.startswith('{"choices"'):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(value)
    if isinstance(found, dict) and found.keys() == {"choices"} and type(found["choices"]) is list:
        return found["choices"]
    return value


def _refuse_object(cell: str) -> None:
    """Stops at an object that is written as text, which is not a label."""
    if cell.startswith("{") and cell.endswith("}") and ":" in cell:
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(cell)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, dict):
                raise ValueError(
                    f"the label is an object, {shown(cell)}, where a string or a number is expected"
                )


def parse_one_hot(values: Sequence[Any], names: Sequence[str]) -> tuple[str, ...]:
    """Reads a row that has a column of 0 and 1, or of true and false, for each label.

    Args:
        values: The values of the columns.
        names: The names of the columns.

    Returns:
        The names of the columns that hold 1.

    Raises:
        ValueError: A value is neither; the message says which.

    Example:

    >>> parse_one_hot(["1", "0", True], ["toxic", "insult", "threat"])
    ('toxic', 'threat')
    """
    found = []
    for value, name in zip(values, names, strict=True):
        try:
            holds = ONE_HOT[label_text(value).lower()]
        except (TypeError, KeyError):
            received = "empty" if value is None or value == "" else shown(value)
            raise ValueError(
                f"the label column '{name}' is {received}, where 0, 1, true or false is expected"
            ) from None
        if holds:
            found.append(name)
    return tuple(found)


def parse_labels(value: Any, separator: str | None) -> tuple[str, ...]:
    """Returns the labels of a cell that holds several, each once; of `[]` none.

    Raises:
        ValueError: If the cell or one of them is empty, or it is a list that cannot be read.
    """
    value = choices_of(value)
    if isinstance(value, str):
        parts = _split(value, separator)
    elif value is None or value != value:
        parts = None
    else:
        parts = value if isinstance(value, list) else [value]
    if parts is None:
        raise ValueError("the label is empty (for a row with none of the labels write [])")
    try:
        labels = tuple(dict.fromkeys(map(label_text, parts)))
    except TypeError:
        wrong = next(part for part in parts if isinstance(part, (list, dict, tuple)))
        raise ValueError(
            f"the label is {json_kind(wrong)}{' in a list' * isinstance(value, list)}, "
            "where a string or a number is expected"
        ) from None
    if not all(labels):
        raise ValueError("one of the labels is empty")
    return labels


def _split(cell: str, separator: str | None) -> list | None:
    """The labels of a cell; `None` if it is empty."""
    cell = cell.strip()
    if not cell:
        return None
    parts = listed(cell, separator)
    if parts is not None:
        return parts
    split = separator is not None and separator in cell
    bracketed = cell[0] + cell[-1] in ("[]", "{}")
    if QUOTED_LIST.match(cell) or (bracketed and not split):
        raise ValueError(f"the label {shown(cell)} is not a valid list")
    return parts_of(cell, separator) if split else [unquoted(cell)]


def parts_of(cell: str, separator: str) -> list[str]:
    """The names of a cell, without space and quotes around them."""
    cell = cell.strip()
    if cell.endswith(separator):
        # `joy|fear|` and `|joy|fear|`: no label is missing.
        cell = cell.removesuffix(separator).removeprefix(separator)
    parts = cell.split(separator)
    if '"' in cell and len(separator) == 1:
        # A separator within quotes is part of the label.
        with contextlib.suppress(csv.Error, TypeError, ValueError):
            parts = next(csv.reader([cell], delimiter=separator, skipinitialspace=True))
    return [unquoted(part.strip()) for part in parts]


def unquoted(name: str) -> str:
    """Returns a name without the quotes around it."""
    quoted = len(name) > 2 and name[0] == name[-1] and name[0] in "'\""
    return name[1:-1] if quoted and name[0] not in name[1:-1] else name


def listed(cell: str, separator: str | None = None) -> list | None:
    """The values of a list as JSON, Python or NumPy writes it; `None` if it is none.

    Args:
        cell: The cell.
        separator: What may stand between names without quotes, as a comma may.
    """
    if cell == "set()":
        return []
    if not cell or cell[0] + cell[-1] not in ("[]", "()", "{}") or len(cell) > _LONGEST_LIST:
        return None
    try:
        value = json.loads(cell)
        return value if isinstance(value, list) else None
    except (ValueError, RecursionError):
        pass
    inner = cell[1:-1].strip()
    if cell[0] == "[" and (_NUMPY_STRINGS.fullmatch(inner) or _NUMPY_NUMBERS.fullmatch(inner)):
        # NumPy writes no commas, and Python would join the strings.
        read = ast.literal_eval if inner[0] in "'\"" else float
        return list(map(read, _NUMPY_ITEM.findall(inner)))
    return _python_list(cell) if QUOTED_LIST.match(cell) else _plain_list(cell, inner, separator)


def _python_list(cell: str) -> list | None:
    try:
        node = ast.parse(cell, mode="eval").body
        if not isinstance(node, (ast.List, ast.Tuple, ast.Set)) or _joins_strings(cell):
            return None
        return [ast.literal_eval(item) for item in node.elts]
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        return None


def _joins_strings(source: str) -> bool:
    """Whether strings stand side by side, which are one to Python: a comma has been forgotten."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    kinds = [token.type for token in tokens if token.type not in (tokenize.NL, tokenize.COMMENT)]
    return any(one == other == tokenize.STRING for one, other in itertools.pairwise(kinds))


def _plain_list(cell: str, inner: str, separator: str | None) -> list | None:
    """The names of a list without quotes: `[joy, fear]`."""
    if cell[0] == "(":
        # `(a)` and `(or, not)` are labels; `()` and `(3, 17)` are tuples.
        names = inner.removesuffix(",").split(",")
        return _python_list(cell) if not inner or all(map(is_number, names)) else None
    if not inner or any(sign in inner for sign in "[](){}'\":"):
        return None
    if separator is None or separator not in inner:
        separator = ","
    names = [name.strip() for name in inner.removesuffix(separator).split(separator)]
    # Words without a comma may be one label or several.
    return names if len(names) > 1 or " " not in names[0] else None


def parse_score(value: Any) -> float:
    """Returns the score of a cell.

    Raises:
        ValueError: If it is empty, or no finite number that float32 holds.
    """
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise ValueError("the label is empty")
    number = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    elif isinstance(value, str) and is_number(value):
        number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"the label is {shown(value)}, where a finite number is expected")
    # A model predicts in float32.
    if abs(number) > _LARGEST_SCORE:
        raise ValueError(
            f"the label is {shown(value)}, where a number from -{_LARGEST_SCORE:g} to "
            f"{_LARGEST_SCORE:g} is expected"
        )
    return number
