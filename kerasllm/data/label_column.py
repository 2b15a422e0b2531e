"""The first labels of a column, and their kind."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kerasllm.data.label_cells import (
    MISSING,
    QUOTED_LIST,
    choices_of,
    label_text,
    listed,
    parts_of,
    shown,
    unquoted,
)
from kerasllm.data.label_forms import BOOLEANS, ONE_HOT, is_number
from kerasllm.data.problems import KINDS, Problem
from kerasllm.errors import DataError

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

_SIGNED = re.compile(r"([$€£¥]?) ?([-+]?[0-9][0-9,]*+\.?[0-9]*+|[-+]?\.[0-9]++) ?([%$€£¥]?)")
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,(0|5|00|25|50|75)")


class UnclearLabels(DataError):
    """Labels that may be classes as well as scores, or one label as well as several."""


class LabelColumn:
    """The first labels of a column, and what they look like."""

    def __init__(
        self, values: Iterable[Any], name: str, where: str | None, places: Sequence[str] = ()
    ):
        self.name, self.where, self.places = name, where, places
        self.lists: list[list] = []
        scalars: list[str] = []
        self.first: dict[str, int] = {}
        for index, value in enumerate(map(choices_of, itertools.islice(values, SAMPLE))):
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
    def of_counts(cls, counts: Mapping[str, int], name: str) -> LabelColumn:
        """Makes a column of labels that were read, and how many rows have each."""
        column = cls((), name, None)
        column.counts, column.rows = collections.Counter(counts), sum(counts.values())
        column._tell_numbers_apart()
        return column

    def _tell_numbers_apart(self) -> None:
        self.numbers = {text: n for text, n in self.counts.items() if is_number(text)}
        self.odd = {text: n for text, n in self.counts.items() if text not in self.numbers}
        self.others = {text: n for text, n in self.odd.items() if text.lower() not in MISSING}

    def detect(self) -> Problem:
        several = any(len(one) > 1 for one in self.lists) and not self._may_be_scores()
        if self.lists and (len(self.lists) >= self.rows or several):
            why = "the labels are lists"
            if self.rows:
                total = len(self.lists) + self.rows
                why = f"{len(self.lists):,} of {total:,} labels are lists; a string is one label"
            return Problem("multi_label", self._separator_beside(self.lists), why)
        if not self.rows:
            return Problem("single_label", why="there are no labels to judge by")
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
        found = {text.lower() for text in self.counts}
        return found <= set(ONE_HOT) and bool(found & set(BOOLEANS))

    @functools.cached_property
    def written(self) -> dict[str, list]:
        """The cells that are lists as JSON, Python or NumPy writes them, and what they hold."""
        found = {text: listed(text) for text in self.counts}
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
                len(parts) != 1 or QUOTED_LIST.match(text) or is_number(str(parts[0]))
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
                    if separator != "," or set(parts_of(text, separator)) <= known:
                        return separator
        return None

    def is_one_hot(self) -> bool:
        holds = all(text.lower() in ONE_HOT for text in self.counts)
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

    def _of_numbers(self) -> LabelColumn:
        """The column without the values that are no numbers."""
        numbers = (itertools.repeat(text, n) for text, n in self.numbers.items())
        return LabelColumn(itertools.chain.from_iterable(numbers), self.name, self.where)

    def _detect_numbers_with_gaps(self) -> Problem:
        """Numbers among which others stand for a missing one."""
        if any(not float(text).is_integer() for text in self.numbers):
            raise self._odd_numbers()
        problem = self._of_numbers()._detect_numbers()
        count = sum(self.odd.values())
        rows = "row has" if count == 1 else "rows have"
        hint = f"{count:,} {rows} no label: {self.placed(self.odd)}"
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
            "mostly numbers, with other values",
            KINDS[0],
            examples=f"{self.placed(self.odd)}: {rows}",
            advice=f"to predict a number, correct the other values, or skip {rows}: "
            "--set data.problem=regression --set data.on_bad_row=skip",
        )

    def placed(self, texts: Iterable[str]) -> str:
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
        advice = f"to train on them as a score, write plain numbers: {plain} for {example}"
        numbers = (
            itertools.repeat(one[2].replace(",", ""), self.counts[text])
            for text, one in found.items()
        )
        column = LabelColumn(itertools.chain.from_iterable(numbers), self.name, self.where)
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
            raise self.unclear("numbers with fractions, but few distinct ones", KINDS[2], KINDS[0])
        spread = numbers[-1] - numbers[0] + 1
        if len(numbers) > _FEW_LABELS and self.rows < 2 * len(numbers):
            raise self.unclear("mostly unique numbers, such as ids", KINDS[2], KINDS[0])
        if (
            len(numbers) > _MANY_NUMBERS
            and spread > 2 * len(numbers)
            and self.rows < _ROWS_OF_A_SPARSE_NUMBER * len(numbers)
        ):
            raise self.unclear("numbers with gaps, such as amounts", KINDS[2], KINDS[0])
        if len(numbers) > _MANY_NUMBERS and self.rows < _ROWS_OF_A_NUMBER * len(numbers):
            raise self.unclear(
                "many whole numbers that occur a few times each, such as a score",
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
        lists = {text: parts_of(text, separator) for text in self.counts if separator in text}
        # `joy|` is the label joy alone.
        single = {text: [name for name in names if name] for text, names in lists.items()}
        alone = {unquoted(text) for text in self.counts if separator not in text}
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
            looks = "texts" if words >= 3 else "mostly unique values, such as ids or names"
            raise self.unclear(looks, *KINDS[:2])
        return Problem(
            "single_label",
            why=self._found("label"),
            hint=self._odd_labels() or self._unsure_lists(),
        )

    def _odd_labels(self) -> str:
        """Names lists, and rare values among numbers."""
        if self.lists:
            return (
                f"{len(self.lists):,} of the labels are lists ({shown(self.lists[0])}), which "
                "cannot be read; if a text may have several labels, set data.problem=multi_label"
            )
        odd = sum(self.odd.values())
        if odd * 10 <= self.rows:
            return f"all labels but {odd:,} are numbers; taken as labels: {self.placed(self.odd)}"
        return ""

    def _unsure_lists(self) -> str:
        holds = [lambda text: text in self.written]
        holds += [functools.partial(lambda one, text: one in text, one) for one in SEPARATORS]
        held = next((found for one in holds if (found := list(filter(one, self.counts)))), None)
        if held is None:
            return ""
        others = f", as are {len(held) - 1:,} like it" if held[2:] else ", as is 1 like it"
        rows = _different(sum(self.counts[text] for text in held), "row", "")
        known = any(
            {unquoted(part.strip()) for part in text.split(one)} & {*self.counts} - {text}
            for text in held
            for one in SEPARATORS
            if one in text
        )
        return (
            f"{'warning: ' * known}{shown(held[0])} is taken as one label{others * bool(held[1:])} "
            f"({rows}); if it is several, set data.problem=multi_label"
        )

    def unclear(
        self, looks: str, *kinds: str, examples: str = "", advice: str = ""
    ) -> UnclearLabels:
        """Returns the error that describes the column and names the kinds it may be of."""
        meanings = {
            "regression": "to predict a number",
            "single_label": "if each value is a class",
            "multi_label": "if a cell lists several labels",
        }
        examples = examples or ", ".join(map(shown, itertools.islice(self.counts, 5)))
        fixes = [f"{meanings[kind]}: --set data.problem={kind}" for kind in kinds]
        return UnclearLabels(
            f"What to predict is not clear: the label column '{self.name}' holds {looks}: "
            f"{self._found('value')} ({examples})",
            where=self.where,
            fix="; ".join([advice] * bool(advice) + fixes)
            + "; or name another column: --set data.label=NAME",
        )


def _different(count: int, what: str, different: str = "different ") -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {different}{what}s"
