"""Class labels: what the files say, the numbers that the model learns, the names that users see."""

from __future__ import annotations

import difflib
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data.label_cells import label_text
from kerasllm.data.label_forms import ONE_HOT, forms_of, sort_key, written_otherwise
from kerasllm.data.label_names import named_classes
from kerasllm.errors import DataError
from kerasllm.json_files import read_json_file
from kerasllm.plurals import counted

FILE_NAME = "labels.json"

# Labels that a message names.
_SHOWN = 6
_LONGEST_NAME = 200


class Labels:
    """The classes of a model, by number.

    Args:
        raw: How each class is written in the training data; numbers and booleans as files write
            them, `"1"` and `"true"`.
        names: How each class is shown. Defaults to `None`: as it is written.
        aliases: Other ways in which the training data writes classes, and what is in `raw` for
            each. Defaults to `None`: there are none.

    Example:

    >>> labels = Labels.learn(["1", "0", "1"], {"0": "negative", "1": "positive"})
    >>> labels.names
    ('negative', 'positive')
    >>> labels.encode(["1", "negative"])
    array([1, 0], dtype=int32)
    """

    def __init__(
        self,
        raw: Sequence[str],
        names: Sequence[str] | None = None,
        aliases: Mapping[str, str] | None = None,
    ):
        self.raw = tuple(map(_written, raw))
        self.names = tuple(map(_written, names)) if names is not None else self.raw
        self.aliases = dict(aliases or {})
        # Data to evaluate on may use either way of writing; what the training data says wins.
        self._numbers = {name: number for number, name in enumerate(self.names)}
        numbers = {label: number for number, label in enumerate(self.raw)}
        self._numbers |= {alias: numbers[label] for alias, label in self.aliases.items()} | numbers

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

    def __contains__(self, label: object) -> bool:
        return isinstance(label, str) and self.number_of(label) is not None

    def number_of(self, label: str) -> int | None:
        """Returns the class of a label, also where a file writes it in another way.

        Args:
            label: A label as data writes it, or as it is shown; `None` is returned for others.
        """
        number = self._numbers.get(label)
        if number is None:
            forms = forms_of(label, booleans=self._are_booleans)
            found = {self._forms[form] for form in forms if form in self._forms}
            number = found.pop() if len(found) == 1 else None
            if number is not None:
                # Next time it is found at once.
                self._numbers[label] = number
        return number

    @property
    def _are_booleans(self) -> bool:
        return len(self) == 2 and {label.lower() for label in self.raw} <= set(ONE_HOT)

    @functools.cached_property
    def _forms(self) -> dict[tuple, int]:
        """The class of each form that one class alone has."""
        forms: dict[tuple, set[int]] = {}
        for label, number in self._numbers.items():
            for form in forms_of(label, booleans=self._are_booleans):
                forms.setdefault(form, set()).add(number)
        return {form: numbers.pop() for form, numbers in forms.items() if len(numbers) == 1}

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
                    fix="list each class once; from a column of labels, as in "
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
        found = set(labels)
        aliases = written_otherwise(found)
        found = sorted({aliases.get(label, label) for label in found}, key=sort_key)
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
            return cls(found, aliases=aliases)
        if not isinstance(names, Mapping):
            return cls._in_order(found, names, where)
        found = cls(*named_classes(found, aliases, names, where))
        if len(found) < 2 and not several:
            raise DataError(
                f"data.label_names gives all labels the name {found.names[0]!r}; a classifier "
                "needs at least two classes",
                where=where,
                fix="give each class a different name",
            )
        return found

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
            unknown = [at for at, label in enumerate(labels) if label not in self]
        if not unknown:
            return np.array([self._numbers[label] for label in labels], dtype=np.int32)
        raise self.unknown([labels[at] for at in unknown], where(unknown[0]) if where else None)

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
        unknown = [
            (row, label) for row, labels in enumerate(sets) for label in labels if label not in self
        ]
        if unknown:
            raise self.unknown(
                [label for _, label in unknown], where(unknown[0][0]) if where else None
            )
        flat: list[int] = []
        offsets = np.zeros(len(sets) + 1, np.int64)
        for row, labels in enumerate(sets, start=1):
            flat += sorted({self._numbers[label] for label in labels})
            offsets[row] = len(flat)
        return np.array(flat, np.int32), offsets

    def unknown(
        self,
        labels: Sequence[str],
        where: str | None,
        counts: Mapping[str, int] | None = None,
    ) -> DataError:
        """Returns the error of labels that are none of these.

        Args:
            labels: The labels, the first one first.
            where: Where the first one stands.
            counts: How many rows have each. Defaults to `None`: not known.
        """
        label, count = labels[0], len(labels)
        known = [name for name in (*self.raw, *self.names) if len(name) <= _LONGEST_NAME]
        near = difflib.get_close_matches(label[:_LONGEST_NAME], known, n=1)
        more = f" ({count - 1:,} more are not)" if count > 1 else ""
        if counts:
            others = [f"{each!r} ({counted(counts[each], 'row')})" for each in labels[1:_SHOWN]]
            others += [f"{count - _SHOWN:,} more"] * (count > _SHOWN)
            more = f" ({counted(counts[label], 'row')})"
            more += f"; nor {'are' if count > 2 else 'is'} {', '.join(others)}" if others else ""
        return DataError(
            f"The label {label!r} is not one that the model was trained on{more}",
            where=where,
            fix=(f"did you mean {near[0]!r}? " if near else "")
            + "labels of the training data: "
            + ", ".join(
                raw if raw == name else f"{raw} ({name})"
                for raw, name in list(zip(self.raw, self.names, strict=True))[:20]
            )
            + (", ..." if len(self.raw) > 20 else ""),
        )

    def read_as(self, names: Mapping[str, str] | None) -> Labels:
        """Returns the labels as a file has them that names its own numbers.

        Args:
            names: The name of each label of the file; may be other than in the training data.

        Example:

        >>> labels = Labels(["0", "1"], ["negative", "positive"])
        >>> labels.read_as({"0": "positive", "1": "negative"}).encode(["0", "1"])
        array([1, 0], dtype=int32)
        """
        places = {name: number for number, name in enumerate(self.names)}
        own = {label: places[name] for label, name in (names or {}).items() if name in places}
        if all(self._numbers.get(label) == number for label, number in own.items()):
            return self
        found = Labels(self.raw, self.names, self.aliases)
        found._numbers |= own
        return found

    def save(self, folder: Path) -> None:
        """Writes the labels beside a model."""
        value = {"names": list(self.names), "raw": list(self.raw)}
        if self.aliases:
            value["aliases"] = self.aliases
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
            value = read_json_file(path)
            return cls(value["raw"], value["names"], value.get("aliases"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "The label names of this model cannot be read",
                where=str(path),
                fix="the file is written by `kerasllm finetune`; copy it from the original run",
            ) from error


def _written(label: Any) -> Any:
    """Returns a label that is not a string, as data files write it."""
    if isinstance(label, str):
        return str(label)
    return label_text(_plain(label))


def _plain(label: Any) -> Any:
    """A value of NumPy as one of Python: 0.1 of a float32, and not 0.10000000149011612."""
    if isinstance(label, np.floating) and label.itemsize < 8:
        return float(str(label))
    return label.item() if isinstance(label, np.generic) else label


def _checked(label: Any) -> str:
    if hasattr(label, "numpy"):
        label = label.numpy()
    label = _plain(label)
    try:
        found = label_text(label.decode() if isinstance(label, bytes) else label)
    except TypeError:
        found = ""
    if not found:
        raise DataError(
            f"`labels` contains something that is not a label: {label!r}",
            fix='give strings, numbers or booleans, as in labels=["negative", "positive"]',
        )
    return found
