"""Class labels: what the files say, the numbers that the model learns, the names that users see."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data.label_cells import label_text
from kerasllm.errors import DataError

FILE_NAME = "labels.json"


class Labels:
    """The classes of a model, by number.

    Args:
        raw: How each class is written in the training data; numbers and booleans as files write
            them, `"1"` and `"true"`.
        names: How each class is shown. Defaults to `None`: as it is written.

    Example:

    >>> labels = Labels.learn(["1", "0", "1"], {"0": "negative", "1": "positive"})
    >>> labels.names
    ('negative', 'positive')
    >>> labels.encode(["1", "negative"])
    array([1, 0], dtype=int32)
    """

    def __init__(self, raw: Sequence[str], names: Sequence[str] | None = None):
        self.raw = tuple(map(_written, raw))
        self.names = tuple(map(_written, names)) if names is not None else self.raw
        # Data to evaluate on may use either way of writing; what the training data says wins.
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._numbers.update({label: number for number, label in enumerate(self.raw)})

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, number: int) -> str:
        return self.names[number]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Labels):
            return (self.raw, self.names) == (other.raw, other.names)
        return isinstance(other, (list, tuple)) and self.names == tuple(other)

    def __hash__(self) -> int:
        return hash((self.raw, self.names))

    def __repr__(self) -> str:
        return f"Labels({list(self.names)!r})"

    @classmethod
    def of(cls, labels: Any) -> Labels:
        """Returns the classes that a user lists, in the order given.

        Args:
            labels: How each class is written in the data: strings, numbers or booleans; or a
                dictionary of these and the names to show.

        Raises:
            DataError: If they have no order, or one of them is there twice or is no label.

        Example:

        >>> Labels.of([1, 2, 3]).raw
        ('1', '2', '3')
        >>> Labels.of({0: "negative", 1: "positive"})
        Labels(['negative', 'positive'])
        """
        if isinstance(labels, cls):
            return labels
        if isinstance(labels, (str, bytes)):
            raise DataError(
                f"`labels` must list all classes. Received: labels={labels!r}",
                fix='write them in brackets, as in labels=["negative", "positive"]',
            )
        if isinstance(labels, (set, frozenset)):
            raise DataError(
                "`labels` is a set, whose order differs from one process to the next",
                fix="give a list, as in labels=sorted(set(...))",
            )
        if hasattr(labels, "columns"):
            raise DataError(
                "`labels` is a table, and not a list of classes",
                fix="give the classes of a column, as in labels=sorted(set(frame[column]))",
            )
        if not isinstance(labels, Iterable):
            raise DataError(
                f"`labels` must list the names of the classes. Received: labels={labels!r}",
                fix="give their number as num_classes, or a list of names",
            )
        raw = tuple(_checked(label) for label in labels)
        names = tuple(map(_checked, labels.values())) if isinstance(labels, Mapping) else raw
        for each in (raw, names):
            if twice := [label for label, count in Counter(each).items() if count > 1]:
                raise DataError(
                    f"`labels` holds {twice[0]!r} {each.count(twice[0])} times",
                    fix="list each class once; of a column of labels, as in "
                    "labels=sorted(set(...))",
                )
        if not raw:
            raise DataError("`labels` is empty", fix="list the names of the classes")
        return cls(raw, names)

    @classmethod
    def learn(
        cls,
        labels: Iterable[str],
        names: Mapping[str, str] | Sequence[str] | None = None,
        *,
        several: bool = False,
        where: str = "",
    ) -> Labels:
        """Finds the classes of the training data: whole numbers by value, others by alphabet.

        Args:
            labels: The labels; how often each stands there does not matter.
            names: The name to show for each label; or the names of the labels 0, 1, 2..., which
                are then all classes, whether the data holds them or not. Defaults to `None`.
            several: Whether a text may have several labels, so that one class is enough to learn.
                Defaults to `False`.
            where: The file, for messages. Defaults to `""`.

        Raises:
            DataError: If there are too few classes, or `names` misses one.
        """
        found = sorted(set(labels), key=_sort_key)
        if not found:
            raise DataError(
                "No row has a label",
                where=where,
                fix="check that data.label names the right column",
            )
        if len(found) < 2 and not several:
            raise DataError(
                f"All rows have the label {found[0]!r}; a classifier needs at least two classes",
                where=where,
                fix="check that data.label names the right column",
            )
        if not names:
            return cls(found)
        if not isinstance(names, Mapping):
            return cls._in_order(found, names, where)
        missing = [label for label in found if label not in names]
        if missing:
            raise DataError(
                f"data.label_names has no name for the label {missing[0]!r}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                where=where,
                fix="add it to data.label_names; names there: " + ", ".join(map(repr, names)),
            )
        return cls(found, [names[label] for label in found])

    @classmethod
    def _in_order(cls, found: Sequence[str], names: Sequence[str], where: str) -> Labels:
        """The classes of a list of names: the data holds their numbers, or the names."""
        numbers = [str(number) for number in range(len(names))]
        if set(found) <= set(names) and not set(found) <= set(numbers):
            return cls(names)
        missing = [label for label in found if label not in numbers]
        if missing:
            raise DataError(
                f"data.label_names lists {len(names)} names, for the labels 0 to {len(names) - 1}; "
                f"the data has the label {missing[0]!r}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                where=where,
                fix="list a name for each label, or write {label: name}",
            )
        return cls(numbers, names)

    def encode(
        self, labels: Sequence[str], where: Callable[[int], str] | None = None
    ) -> np.ndarray:
        """Returns the number of each label, int32 `[labels]`.

        Args:
            labels: Labels as the training data writes them, or as they are shown.
            where: Gives the place of a label by its position, for messages. Defaults to `None`.

        Raises:
            DataError: If a label was not in the training data.
        """
        try:
            return np.array([self._numbers[label] for label in labels], dtype=np.int32)
        except KeyError:
            unknown = [at for at, label in enumerate(labels) if label not in self._numbers]
        raise self._unknown(
            labels[unknown[0]], len(unknown), where(unknown[0]) if where else None
        )

    def encode_sets(
        self, sets: Sequence[Iterable[str]], where: Callable[[int], str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the labels of each row, where it may have several.

        Args:
            sets: The labels of each row, as the training data writes them, or as they are shown.
            where: Gives the place of a row by its position, for messages. Defaults to `None`.

        Returns:
            The numbers of all rows, int32, those of a row ascending and each once; and where each
            row starts and the last ends, int64 `[rows + 1]`.

        Raises:
            DataError: If a label was not in the training data.

        Example:

        >>> Labels(["fear", "joy", "love"]).encode_sets([("love", "joy"), (), ("fear",)])
        (array([1, 2, 0], dtype=int32), array([0, 2, 2, 3]))
        """
        flat: list[int] = []
        offsets = np.zeros(len(sets) + 1, np.int64)
        try:
            for row, labels in enumerate(sets, start=1):
                flat += sorted({self._numbers[label] for label in labels})
                offsets[row] = len(flat)
        except KeyError:
            unknown = [
                (row, label)
                for row, labels in enumerate(sets)
                for label in labels
                if label not in self._numbers
            ]
            row, label = unknown[0]
            raise self._unknown(label, len(unknown), where(row) if where else None) from None
        return np.array(flat, np.int32), offsets

    def _unknown(self, label: str, count: int, where: str | None) -> DataError:
        near = difflib.get_close_matches(label, [*self.raw, *self.names], n=1)
        return DataError(
            f"The label {label!r} is not one that the model was trained on"
            + (f" ({count - 1:,} more are not)" if count > 1 else ""),
            where=where,
            fix=(f"did you mean {near[0]!r}? " if near else "")
            + "labels of the training data: "
            + ", ".join(
                raw if raw == name else f"{raw} ({name})"
                for raw, name in list(zip(self.raw, self.names, strict=True))[:20]
            )
            + (", ..." if len(self.raw) > 20 else ""),
        )

    def save(self, folder: Path) -> None:
        """Writes the labels beside a model."""
        value = {"names": list(self.names), "raw": list(self.raw)}
        text = json.dumps(value, indent=2, ensure_ascii=False)
        (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Labels:
        """Reads the labels that stand beside a model.

        Raises:
            DataError: If the file is missing or broken.
        """
        path = folder / FILE_NAME
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return cls(value["raw"], value["names"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "The label names of this model cannot be read",
                where=str(path),
                fix="the file is written by `kerasllm finetune`; take it from the original run",
            ) from error


def read_label_names(path: str | Path) -> list[str]:
    """Reads the names of the labels 0, 1, 2... from a text file that has a name a line.

    Args:
        path: The file, UTF-8; empty lines at its end do not count.

    Returns:
        The names, in the order of the file.

    Raises:
        DataError: If the file cannot be read, has no name, an empty line between names, or a name
            twice.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, ValueError) else error.strerror
        raise DataError(
            f"The names of the labels cannot be read: {reason}",
            where=str(path),
            fix="data.label_names names a text file with a name a line",
        ) from error
    names = [line.strip() for line in text.rstrip().split("\n")]
    if names == [""]:
        raise DataError("The file has no name", where=str(path), fix="write a name a line")
    seen: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        place = f"{path}:{line}"
        if not name:
            raise DataError(
                "A line between two names is empty, and lines are counted",
                where=place,
                fix="write the name of this label, or remove the line",
            )
        if name in seen:
            raise DataError(
                f"Two labels have the name {name!r}, lines {seen[name]} and {line}",
                where=place,
                fix="give each label a name of its own",
            )
        seen[name] = line
    return names


def _written(label: Any) -> Any:
    """Returns a label that is no string as data files write it."""
    if isinstance(label, str):
        return str(label)
    return label_text(label.item() if isinstance(label, np.generic) else label)


def _checked(label: Any) -> str:
    if hasattr(label, "numpy"):
        label = label.numpy()
    if isinstance(label, np.generic):
        label = label.item()
    try:
        found = label_text(label.decode() if isinstance(label, bytes) else label)
    except TypeError:
        found = ""
    if not found:
        raise DataError(
            f"`labels` holds what is no label: {label!r}",
            fix='give strings, numbers or booleans, as in labels=["negative", "positive"]',
        )
    return found


def _sort_key(label: str) -> tuple:
    """Sorts whole numbers by value and before all other labels."""
    try:
        return (0, int(label), label)
    except ValueError:
        return (1, 0, label)
