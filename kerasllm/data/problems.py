"""What a column of labels asks a model to predict: one label, several labels, or a score."""

from __future__ import annotations

import ast
import collections
import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kerasllm.data.readers.json_files import json_kind
from kerasllm.errors import DataError

KINDS = ("single_label", "multi_label", "regression")
"""What `data.problem` may be, beside `auto`."""

SEPARATORS = ("|", ";", ",")
"""What may stand between the labels of a cell, in the order in which they are tried."""

SAMPLE = 10_000
"""The number of labels that a problem is detected from."""

# Other values than numbers that a message names.
_MOST_ODD = 5
# Classes have examples: more labels than this, each with fewer than two rows, are something else.
_FEW_LABELS = 10
# Fewer different numbers than this may be classes, though they have fractions.
_MANY_NUMBERS = 20
# Many whole numbers are classes only if each has this many rows.
_ROWS_OF_A_NUMBER = 10
# Whole numbers that leave gaps are classes only if each has this many rows.
_ROWS_OF_A_SPARSE_NUMBER = 20
# The share of the names within lists that must also be labels elsewhere.
_KNOWN_PARTS = 0.9
_LONGEST_PART = 40
_LARGEST_SCORE = 1e38

_NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")
_WHOLE_FLOAT = re.compile(r"(-?[0-9]{1,15})\.0+")
_SIGNED = re.compile(r"([$€£¥]?) ?([-+]?[0-9][0-9,]*\.?[0-9]*|[-+]?\.[0-9]+) ?([%$€£¥]?)")
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,(0|5|00|25|50|75)")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_NUMPY_STRINGS = re.compile(rf"(?:{_STRING.pattern})(?:\s+(?:{_STRING.pattern}))+")
_NUMPY_NUMBERS = re.compile(r"-?[0-9]+\.?[0-9]*(?:\s+-?[0-9]+\.?[0-9]*)+")
_NUMPY_ITEM = re.compile(rf"{_STRING.pattern}|[^\s]+")
_QUOTED_LIST = re.compile(r"[\[({]\s*['\"]")
_BOOLEANS = {"true": True, "false": False}
# What stands for a missing number, in lower case; among words each may be a class.
_MISSING = ("nan", "n/a", "na", "null", "none", "#n/a", "<na>", "nil", "-", "?")
_NO_CLASSES = ("nan", "n/a", "null", "#n/a", "<na>")
_ONE_HOT = {"0": False, "1": True, **_BOOLEANS}


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
            return _parse_label(value, self.booleans, self.numbers)
        if self.kind == "multi_label":
            return _parse_labels(value, self.separator)
        return _parse_score(value)


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
            holds = _ONE_HOT[label_text(value).lower()]
        except (TypeError, KeyError):
            received = "empty" if value is None or value == "" else shown(value)
            raise ValueError(
                f"the label column '{name}' is {received}, where 0, 1, true or false is expected"
            ) from None
        if holds:
            found.append(name)
    return tuple(found)


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
    raise TypeError(f"A label must be a string, a number or a boolean. Received: {value!r}")


@functools.lru_cache(maxsize=4096)
def _label_of_string(value: str) -> str:
    label = value.strip()
    whole = _WHOLE_FLOAT.fullmatch(label)
    return str(int(whole[1])) if whole else label


# Parsing


def shown(value: Any) -> str:
    """A value as a message shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_PART else text[:_LONGEST_PART] + "..."


def is_number(text: str) -> bool:
    """Whether a text is a number as programs write it: `3`, `-0.5`, `1e-3`."""
    return _NUMBER.fullmatch(text) is not None


def _parse_label(value: Any, booleans: bool, numbers: bool) -> str:
    try:
        label = label_text(value)
    except TypeError:
        raise ValueError(
            f"the label is {json_kind(value)}, where a string or a number is expected"
        ) from None
    if not label:
        raise ValueError("the label is empty")
    if numbers and label.lower() in _MISSING:
        raise ValueError(
            f"the label is missing: {shown(label)} among numbers (a class needs another name)"
        )
    return label.lower() if booleans and label.lower() in _BOOLEANS else label


def _parse_labels(value: Any, separator: str | None) -> tuple[str, ...]:
    if isinstance(value, str):
        parts = _split(value, separator)
    elif value is None or value != value:
        parts = None
    else:
        parts = value if isinstance(value, list) else [value]
    if parts is None:
        raise ValueError("the label is empty (a row that has none of the labels is written [])")
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
    parts = _listed(cell, separator)
    if parts is not None:
        return parts
    split = separator is not None and separator in cell
    bracketed = cell[0] + cell[-1] in ("[]", "{}")
    if _QUOTED_LIST.match(cell) or (bracketed and not split):
        raise ValueError(f"the label {shown(cell)} is not a list that can be read")
    return _parts(cell, separator) if split else [_unquoted(cell)]


def _parts(cell: str, separator: str) -> list[str]:
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
    return [_unquoted(part.strip()) for part in parts]


def _unquoted(name: str) -> str:
    quoted = len(name) > 2 and name[0] == name[-1] and name[0] in "'\""
    return name[1:-1] if quoted and name[0] not in name[1:-1] else name


def _listed(cell: str, separator: str | None = None) -> list | None:
    """The values of a list as JSON, Python or NumPy writes it; `None` if it is none.

    Args:
        cell: The cell.
        separator: What may stand between names without quotes, as a comma may.
    """
    if cell == "set()":
        return []
    if not cell or cell[0] + cell[-1] not in ("[]", "()", "{}"):
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
    return _python_list(cell) if _QUOTED_LIST.match(cell) else _plain_list(cell, inner, separator)


def _python_list(cell: str) -> list | None:
    try:
        node = ast.parse(cell, mode="eval").body
        if not isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return None
        for item in node.elts:
            # `'joy' 'fear'` is one string to Python: a comma has been forgotten.
            source = ast.get_source_segment(cell, item) or ""
            if source[:1] in ("'", '"') and not _STRING.fullmatch(source):
                return None
        return [ast.literal_eval(item) for item in node.elts]
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


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


def _parse_score(value: Any) -> float:
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


# Detection


def detect_problem(
    values: Iterable[Any],
    kind: str = "auto",
    *,
    separator: str | None = None,
    column: str = "label",
    where: str | None = None,
    places: Sequence[str] = (),
    of_one_label: bool = False,
) -> Problem:
    """Finds out what a column of labels asks a model to predict.

    Lists, and cells of names that are also labels by themselves, are several labels; numbers with
    fractions are a score if there are many different ones; what has few different values is one
    label. All else stops with an error that describes the column: nothing is guessed.

    Args:
        values: The labels as the file holds them; the first 10,000 are used.
        kind: `"auto"`, or the kind that the user has set; only what it leaves open is then
            detected. Defaults to `"auto"`.
        separator: What stands between the labels of a cell. Defaults to `None`: detected.
        column: The name of the column, for messages. Defaults to `"label"`.
        where: The file, for messages. Defaults to `None`.
        places: Where each value stands, such as `data.csv:12`, for messages; may grow while the
            values are read. Defaults to `()`: not known.
        of_one_label: Whether the column is one of those that stand for a label each, if it holds
            0 and 1 and there may be several labels. Defaults to `False`.

    Raises:
        DataError: The values fit no kind clearly.

    Example:

    >>> detect_problem(["joy", "fear", "joy|fear"]).separator
    '|'
    >>> detect_problem([0.5, 3.8, 2.25, 5.0]).kind
    'regression'
    """
    if kind not in ("auto", *KINDS):
        raise ValueError(f"kind must be auto, {', '.join(KINDS)}. Received: {kind!r}")
    column_of = _Column(values, column, where, places)
    if kind in ("auto", "multi_label"):
        column_of.refuse_one_hot_lists()
    if separator is not None and kind in ("auto", "multi_label"):
        hint = column_of.other_separator(separator)
        return Problem("multi_label", separator, "data.label_separator is set", hint)
    if kind == "multi_label" and of_one_label and column_of.is_one_hot():
        return Problem(kind, why="each label has a column", one_hot=True)
    if kind == "multi_label":
        return Problem(kind, column_of.any_separator(), "data.problem is set")
    if kind == "regression":
        return Problem(kind, why="data.problem is set")
    if kind == "single_label":
        booleans = column_of.are_booleans()
        numbers = bool(column_of.numbers) and not column_of.others
        return Problem(kind, why="data.problem is set", booleans=booleans, numbers=numbers)
    return column_of.detect()


def check_detected(
    problem: Problem,
    counts: Mapping[str, int],
    *,
    column: str = "label",
    locate: Callable[[Callable[[str], bool] | None], str],
) -> None:
    """Checks a problem that was detected from the first rows against the labels of all rows.

    Args:
        problem: What `detect_problem` returned for `kind="auto"`.
        counts: How many rows have each label, as `problem` reads it.
        column: The name of the column, for messages. Defaults to `"label"`.
        locate: Returns the file and line of the first row whose label a function returns true
            for; where it is given `None`, of the first label that the first rows do not have.

    Raises:
        DataError: All rows together are something else than the first ones; it names the first row
            that does not fit.
    """
    column_of = _Column.of_counts(counts, column)
    if problem.kind == "regression" or not counts:
        return
    if problem.kind == "multi_label":
        if problem.separator is None or not column_of.hardly_recur():
            return
        error, kinds = None, KINDS[1::-1]
        looks = "lists of values that hardly recur, such as texts with commas"
    else:
        try:
            found, error = column_of.detect(), None
        except DataError as unclear:
            found, error = None, unclear
        if found is not None:
            if found.kind == problem.kind:
                return
            kinds = (found.kind, problem.kind)
            looks = found.why if found.kind == "multi_label" else "numbers with fractions"
    error = error or column_of.unclear(looks, *kinds)
    raise DataError(
        error.what,
        where=f"{locate(column_of.misfit())}, the first row unlike the {SAMPLE:,} before it that "
        "the problem was detected from",
        fix=error.fix,
    )


class _Column:
    """The first labels of a column, and what they look like."""

    def __init__(
        self, values: Iterable[Any], name: str, where: str | None, places: Sequence[str] = ()
    ):
        self.name, self.where, self.places = name, where, places
        self.lists: list[list] = []
        scalars: list[str] = []
        self.first: dict[str, int] = {}
        for index, value in enumerate(itertools.islice(values, SAMPLE)):
            if isinstance(value, list):
                self.lists.append(value)
                continue
            try:
                text = label_text(value)
            except TypeError:
                continue
            if text:
                scalars.append(text)
                self.first.setdefault(text, index)
        self.counts = collections.Counter(scalars)
        self.rows = len(scalars)
        self.numbers: dict[str, int] = {}
        self.odd: dict[str, int] = {}
        self.others: dict[str, int] = {}
        self._tell_numbers_apart()

    @classmethod
    def of_counts(cls, counts: Mapping[str, int], name: str) -> _Column:
        """Makes a column of labels that were read, and how many rows have each."""
        column = cls((), name, None)
        column.counts, column.rows = collections.Counter(counts), sum(counts.values())
        column._tell_numbers_apart()
        return column

    def _tell_numbers_apart(self) -> None:
        self.numbers = {text: n for text, n in self.counts.items() if is_number(text)}
        self.odd = {text: n for text, n in self.counts.items() if text not in self.numbers}
        self.others = {text: n for text, n in self.odd.items() if text.lower() not in _MISSING}

    def detect(self) -> Problem:
        several = any(len(one) > 1 for one in self.lists) and not self._may_be_scores()
        if self.lists and (len(self.lists) >= self.rows or several):
            why = "the labels are lists"
            if self.rows:
                total = len(self.lists) + self.rows
                why = f"{len(self.lists):,} of {total:,} labels are lists; a string is one label"
            return Problem("multi_label", self._separator_beside(self.lists), why)
        if not self.rows:
            return Problem("single_label", why="there is no label to judge by")
        if self.are_booleans():
            return Problem("single_label", why="the labels are true and false", booleans=True)
        if not self.odd:
            return self._detect_numbers()
        if self.numbers and not self.others:
            return self._detect_numbers_with_gaps()
        if why := self._why_written():
            return Problem("multi_label", self._separator_beside(self.written.values()), why)
        for separator in SEPARATORS:
            if why := self._why_several(separator):
                return Problem("multi_label", separator, why)
        return self._detect_labels()

    def are_booleans(self) -> bool:
        return bool(self.counts) and all(text.lower() in _BOOLEANS for text in self.counts)

    @functools.cached_property
    def written(self) -> dict[str, list]:
        """The cells that are lists as JSON, Python or NumPy writes them, and what they hold."""
        found = {text: _listed(text) for text in self.counts}
        return {text: parts for text, parts in found.items() if parts is not None}

    def _may_be_scores(self) -> bool:
        return not self.odd and any(not float(text).is_integer() for text in self.numbers)

    def _why_written(self) -> str:
        """Why the cells are lists; empty if they are not."""
        rows = sum(self.counts[text] for text in self.written)
        if not rows:
            return ""
        if rows * 2 >= self.rows:
            # One name in brackets without quotes may also be a label that is written so.
            clear = any(
                len(parts) != 1 or _QUOTED_LIST.match(text) or is_number(str(parts[0]))
                for text, parts in self.written.items()
            )
            return "the cells are written lists" * clear
        parts = {str(part) for parts in self.written.values() for part in parts}
        known = sum(part in self.counts for part in parts)
        if len(parts) < 2 or known < _KNOWN_PARTS * len(parts):
            return ""
        return f"{rows:,} of {self.rows:,} cells are written lists"

    def _separator_beside(self, lists: Iterable[list]) -> str | None:
        """The separator of cells beside lists; a comma only between names that are known."""
        known = {str(part) for parts in lists for part in parts} | set(self.counts)
        for separator in SEPARATORS:
            for text in self.counts:
                if separator in text and text not in self.written:
                    if separator != "," or set(_parts(text, separator)) <= known:
                        return separator
        return None

    def refuse_one_hot_lists(self) -> None:
        """Stops at lists that hold 0 and 1 in the places of labels, which have no names."""
        lists = [*self.lists, *self.written.values()]
        if len(lists) * 2 < self.rows or len({len(one) for one in lists}) != 1:
            return
        different = set()
        for one in lists:
            try:
                different.add(tuple(label_text(part).lower() for part in one))
            except TypeError:
                return
        size = len(lists[0])
        if size < 2 or any(part not in _ONE_HOT for one in different for part in one):
            return
        if len(different) == 1 and len(set(next(iter(different)))) == size:
            # Always the labels 0 and 1.
            return
        raise DataError(
            f"The label column '{self.name}' holds lists of {size} values that are 0 or 1, one "
            f"place for each label ({shown(lists[0])}), and the labels have no names there",
            where=self.where,
            fix="write the names of the labels (['joy', 'fear']), or a column of 0 and 1 for each "
            "label: --set 'data.label=[joy, fear, ...]'",
        )

    def other_separator(self, separator: str) -> str:
        """Names a cell that has another separator where no cell has the one that is set."""
        if any(separator in text for text in self.counts):
            return ""
        for other in SEPARATORS:
            held = next((text for text in self.counts if other in text), None)
            if held is not None and held not in self.written:
                return (
                    f"no label holds data.label_separator={separator!r}, "
                    f"and {self._placed([held])} holds {other!r}"
                )
        return ""

    def is_one_hot(self) -> bool:
        holds = all(text.lower() in _ONE_HOT for text in self.counts)
        return holds and bool(self.counts) and not self.lists

    def any_separator(self) -> str | None:
        """The first separator that any cell holds."""
        texts = [text for text in self.counts if text not in self.written]
        return next((one for one in SEPARATORS if any(one in text for text in texts)), None)

    def hardly_recur(self) -> bool:
        """Whether there are many labels with less than two rows each on average."""
        return len(self.counts) > _FEW_LABELS and self.rows < 2 * len(self.counts)

    def misfit(self) -> Callable[[str], bool] | None:
        """What tells the labels that make the column something else than one label, if known."""
        if all(map(is_number, self.counts)):
            if all(float(text).is_integer() for text in self.counts):
                return None
            return lambda text: not float(text).is_integer()
        for separator in SEPARATORS:
            if self._why_several(separator):
                return lambda text: separator in text
        return None

    def _of_numbers(self) -> _Column:
        """The column without the values that are no numbers."""
        numbers = (itertools.repeat(text, n) for text, n in self.numbers.items())
        return _Column(itertools.chain.from_iterable(numbers), self.name, self.where)

    def _detect_numbers_with_gaps(self) -> Problem:
        """Numbers among which others stand for a missing one."""
        if any(not float(text).is_integer() for text in self.numbers):
            raise self._odd_numbers()
        problem = self._of_numbers()._detect_numbers()
        count = sum(self.odd.values())
        rows = "row has" if count == 1 else "rows have"
        hint = f"{count:,} {rows} no label: {self._placed(self.odd)}"
        hint += f"; {problem.hint}" * bool(problem.hint)
        return dataclasses.replace(problem, hint=hint)

    def _refuse_odd_numbers(self) -> None:
        """Stops where numbers that would be a score have a few other values among them."""
        if 2 * sum(self.numbers.values()) <= self.rows:
            return
        try:
            score = self._of_numbers()._detect_numbers().kind == "regression"
        except DataError:
            score = True
        if score:
            raise self._odd_numbers()

    def _odd_numbers(self) -> DataError:
        count = sum(self.odd.values())
        rows = "1 row" if count == 1 else f"{count:,} rows"
        return self.unclear(
            "numbers, most of them, and other values",
            KINDS[0],
            examples=f"{self._placed(self.odd)}: {rows}",
            advice=f"to predict a number, correct the other values, or leave {rows} out: "
            "--set data.problem=regression --set data.on_bad_row=skip",
        )

    def _placed(self, texts: Iterable[str]) -> str:
        """Values, and where each of them stands first."""
        texts = list(texts)
        found = []
        for text in texts[:_MOST_ODD]:
            place = self.first.get(text, len(self.places))
            where = f" ({self.places[place]})" if place < len(self.places) else ""
            found.append(shown(text) + where)
        left = len(texts) - _MOST_ODD
        more = f" and {_different(left, 'more value', '')}" if left > 0 else ""
        return ", ".join(found) + more

    def _detect_signed(self) -> Problem | None:
        """Numbers with a sign of a unit, such as `37%` and `$5`; `None` if they are none."""
        found = {text: _SIGNED.fullmatch(text) for text in self.counts}
        if not all(found.values()) or not any(one[1] or one[3] for one in found.values()):
            return None
        example = next(text for text, one in found.items() if one[1] or one[3])
        plain = found[example][2].replace(",", "")
        advice = f"to train on them as a score, write the numbers alone: {plain} for {example}"
        numbers = (
            itertools.repeat(one[2].replace(",", ""), self.counts[text])
            for text, one in found.items()
        )
        column = _Column(itertools.chain.from_iterable(numbers), self.name, self.where)
        try:
            problem = column._detect_numbers()
        except DataError:
            problem = None
        if problem is None or problem.kind == "regression":
            raise self.unclear("numbers with a sign", KINDS[0], advice=advice)
        return Problem("single_label", why=self._found("label"), hint=advice)

    def _found(self, what: str) -> str:
        return f"{_different(len(self.counts), what)} in {_different(self.rows, 'row', '')}"

    def _detect_numbers(self) -> Problem:
        numbers = sorted(set(map(float, self.counts)))
        found = self._found("number")
        if not all(number.is_integer() for number in numbers):
            if len(numbers) >= _MANY_NUMBERS or len(numbers) * 2 > self.rows:
                return Problem("regression", why=f"{found}, with fractions")
            raise self.unclear(
                "numbers with fractions, but few different ones", KINDS[2], KINDS[0]
            )
        spread = numbers[-1] - numbers[0] + 1
        if len(numbers) > _FEW_LABELS and self.rows < 2 * len(numbers):
            raise self.unclear("numbers that hardly recur, such as ids", KINDS[2], KINDS[0])
        if (
            len(numbers) > _MANY_NUMBERS
            and spread > 2 * len(numbers)
            and self.rows < _ROWS_OF_A_SPARSE_NUMBER * len(numbers)
        ):
            raise self.unclear("numbers with gaps, such as amounts", KINDS[2], KINDS[0])
        if len(numbers) > _MANY_NUMBERS and self.rows < _ROWS_OF_A_NUMBER * len(numbers):
            raise self.unclear(
                "many whole numbers that recur a few times each, such as a score",
                KINDS[2],
                KINDS[0],
            )
        hint = ""
        if len(numbers) >= 3 and spread <= 2 * len(numbers):
            hint = (
                f"if the numbers {numbers[0]:.0f} to {numbers[-1]:.0f} are a score, "
                "set data.problem=regression"
            )
        return Problem("single_label", why=f"{found}, all whole", hint=hint, numbers=True)

    def _why_several(self, separator: str) -> str:
        """Why the cells hold several labels with a separator between; empty if they do not."""
        lists = {text: _parts(text, separator) for text in self.counts if separator in text}
        # `joy|` is the label joy alone.
        single = {text: [name for name in names if name] for text, names in lists.items()}
        alone = {_unquoted(text) for text in self.counts if separator not in text}
        alone |= {names[0] for names in single.values() if len(names) == 1}
        parts: collections.Counter[str] = collections.Counter()
        cells: collections.Counter[str] = collections.Counter()
        for text, names in lists.items():
            names = [label_text(name) for name in names if name.strip()]
            parts.update(dict.fromkeys(names, 0))
            for name in names:
                parts[name] += self.counts[text]
            cells.update(set(names))
        if len(parts) < 2 or any(len(name) > _LONGEST_PART for name in parts):
            return ""
        if separator == "," and self._decimal_commas(lists):
            return ""
        # A comma is also what sentences and names hold: there, each name must be a label alone.
        known = {name for name in parts if name in alone or (separator != "," and cells[name] > 1)}
        total = sum(parts.values())
        if len(known) < 2 or sum(parts[name] for name in known) < _KNOWN_PARTS * total:
            return ""
        held, names = sum(self.counts[text] for text in lists), len(alone | set(parts))
        if names > _FEW_LABELS and self.rows < 2 * names:
            return ""
        return f"{held:,} of {self.rows:,} cells list labels with '{separator}' between them"

    def _decimal_commas(self, texts: Iterable[str]) -> bool:
        """Whether all cells are halves and quarters with a decimal comma, such as `3,5`."""
        return all(map(_DECIMAL_COMMA.fullmatch, texts))

    def _detect_labels(self) -> Problem:
        different = len(self.counts)
        commas = [text for text in self.counts if "," in text]
        if commas and all(is_number(text.replace(",", ".", 1)) for text in self.counts):
            looks = "numbers with commas, a list of labels or a decimal comma (write a point there)"
            raise self.unclear(looks, *KINDS[1::-1])
        if signed := self._detect_signed():
            return signed
        self._refuse_odd_numbers()
        if self.hardly_recur():
            words = sum(len(text.split()) for text in self.counts) / different
            if 2 * sum(self.numbers.values()) > self.rows:
                raise self._odd_numbers()
            looks = "texts" if words >= 3 else "values that hardly recur, such as ids or names"
            raise self.unclear(looks, *KINDS[:2])
        return Problem(
            "single_label",
            why=self._found("label"),
            hint=self._odd_labels() or self._look_alikes() or self._unsure_lists(),
        )

    def _odd_labels(self) -> str:
        """Names lists, rare values among numbers, and what may stand for a missing label."""
        if self.lists:
            return (
                f"{len(self.lists):,} of the labels are lists ({shown(self.lists[0])}), which "
                "cannot be read; if a text may have several labels, set data.problem=multi_label"
            )
        odd = sum(self.odd.values())
        if odd * 10 <= self.rows:
            return f"all labels but {odd:,} are numbers; taken as labels: {self._placed(self.odd)}"
        missing = [text for text in self.counts if text.lower() in _NO_CLASSES]
        if not missing:
            return ""
        return f"taken as a label, though it may stand for a missing one: {self._placed(missing)}"

    def _look_alikes(self) -> str:
        """Names labels that differ in case or in characters that nobody sees."""
        groups: dict[str, list[str]] = {}
        for text in self.counts:
            groups.setdefault(_INVISIBLE.sub("", text).casefold(), []).append(text)
        alike = next((group for group in groups.values() if len(group) > 1), None)
        if alike is None:
            return ""
        return f"labels that look alike are different: {', '.join(map(ascii, alike))}"

    def _unsure_lists(self) -> str:
        holds = [lambda text: text in self.written]
        holds += [functools.partial(lambda one, text: one in text, one) for one in SEPARATORS]
        held = next((text for one in holds for text in self.counts if one(text)), None)
        if held is None:
            return ""
        return (
            f"{shown(held)} is taken as one label; if it is several, set data.problem=multi_label"
        )

    def unclear(
        self, looks: str, *kinds: str, examples: str = "", advice: str = ""
    ) -> DataError:
        meanings = {
            "regression": "to predict a number",
            "single_label": "if each value is a class",
            "multi_label": "if a cell lists several labels",
        }
        examples = examples or ", ".join(map(shown, itertools.islice(self.counts, 5)))
        fixes = [f"{meanings[kind]}: --set data.problem={kind}" for kind in kinds]
        return DataError(
            f"What to predict is not clear: the label column '{self.name}' holds {looks}: "
            f"{self._found('value')} ({examples})",
            where=self.where,
            fix="; ".join([advice] * bool(advice) + fixes)
            + "; or name another column: --set data.label=NAME",
        )


def _different(count: int, what: str, different: str = "different ") -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {different}{what}s"
