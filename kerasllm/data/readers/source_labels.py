"""The labels of a source's rows: what is predicted for each, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kerasllm.data.label_cells import label_text, parse_one_hot
from kerasllm.data.problems import Problem
from kerasllm.data.readers.class_labels import UNLABELLED, ClassLabels
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import EMPTY_LABEL, LABEL, Fault
from kerasllm.data.readers.formats import Format
from kerasllm.data.readers.row_checks import surrogate_problem
from kerasllm.errors import DataError


def class_labels(
    files: Sequence[DataFile], formats: Sequence[Format], column: str
) -> ClassLabels | None:
    """Returns the names of the classes, where files have them.

    Args:
        files: The files.
        formats: Their formats.
        column: The column of the labels.

    Raises:
        DataError: Files have other names for the same numbers.
    """
    found = {
        file.name: classes
        for file, form in zip(files, formats, strict=True)
        if form.class_labels and (classes := form.class_labels(file, column))
    }
    if len({classes.names for classes in found.values()}) > 1:
        told = {classes.names: file for file, classes in found.items()}
        raise DataError(
            f"The numbers in the column '{column}' mean different classes in each file",
            where="; ".join(f"{file}: {', '.join(names)}" for names, file in told.items()),
            fix="write the names of the classes into the column instead of their numbers",
        )
    return max(found.values(), key=lambda classes: classes.unlabelled, default=None)


class LabelReader:
    """Reads what is predicted for a row from the values of its label columns.

    Args:
        columns: The label columns: one, or a column for each label.
        ignored: Labels that mean that there is none.
        classes: The names that the files have for their classes, or `None`.

    Attributes:
        ignored: The labels that mean that there is none, those of the files too.
        problem: What is predicted; it is set once it is known.
    """

    def __init__(self, columns: Sequence[str], ignored: Iterable[str], classes: ClassLabels | None):
        self._columns = columns
        self.ignored = {label_text(label) for label in ignored}
        if classes and classes.unlabelled:
            self.ignored.add(UNLABELLED)
        self.problem: Problem | None = None

    def is_unlabelled(self, values: Sequence[Any]) -> bool:
        """Whether a row has nothing but labels that mean none."""
        if not self.ignored or len(values) > 1:
            return False
        held = values[0] if isinstance(values[0], list) else values
        try:
            return bool(held) and all(label_text(value) in self.ignored for value in held)
        except TypeError:
            return False

    def target(self, values: Sequence[Any]) -> tuple[Any, str | None]:
        """Returns what is predicted for a row, and what is wrong with its label."""
        target: Any
        try:
            if len(values) > 1 or self.problem.one_hot:
                target = parse_one_hot(values, self._columns)
            else:
                target = self.problem.parse(values[0])
                if self.ignored and type(target) is tuple:
                    target = tuple(label for label in target if label not in self.ignored)
        except ValueError as error:
            empty = str(error).startswith("the label is empty")
            return None, Fault(str(error), EMPTY_LABEL if empty else LABEL)
        if type(target) is float:
            return target, None
        for label in (target,) if type(target) is str else target:
            if not label.isascii() and (problem := surrogate_problem("label", label)):
                return None, problem
        return target, None
