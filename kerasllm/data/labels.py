"""Class labels: what the files say, the numbers that the model learns, the names that users see."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kerasllm.errors import DataError

FILE_NAME = "labels.json"


class Labels:
    """The classes of a model, by number.

    Args:
        raw: How each class is written in the training data.
        names: How each class is shown. Defaults to `None`: as it is written.

    Example:

    >>> labels = Labels.learn(["1", "0", "1"], {"0": "negative", "1": "positive"})
    >>> labels.names
    ('negative', 'positive')
    >>> labels.encode(["1", "negative"])
    array([1, 0], dtype=int32)
    """

    def __init__(self, raw: Sequence[str], names: Sequence[str] | None = None):
        self.raw = tuple(raw)
        self.names = tuple(names) if names is not None else self.raw
        # Data to evaluate on may use either way of writing; what the training data says wins.
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._numbers.update({label: number for number, label in enumerate(self.raw)})

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def learn(
        cls,
        labels: Sequence[str],
        names: Mapping[str, str] | None = None,
        *,
        where: str = "",
        least: int = 2,
    ) -> Labels:
        """Finds the classes of the training data: whole numbers by value, others by alphabet.

        Args:
            labels: The labels; how often each stands there does not matter.
            names: The name to show for each label. Defaults to `None`.
            where: The file, for messages. Defaults to `""`.
            least: The fewest classes that there may be. Defaults to `2`.

        Raises:
            DataError: If there are fewer classes than that, or `names` misses one.
        """
        found = sorted(set(labels), key=_sort_key)
        if len(found) < least:
            raise DataError(
                f"All rows have the label {found[0]!r}; a classifier needs at least two classes",
                where=where,
                fix="check that data.label names the right column",
            )
        if not names:
            return cls(found)
        missing = [label for label in found if label not in names]
        if missing:
            raise DataError(
                f"data.label_names has no name for the label {missing[0]!r}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                where=where,
                fix="add it to data.label_names; names there: " + ", ".join(map(repr, names)),
            )
        return cls(found, [names[label] for label in found])

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
        label = labels[unknown[0]]
        near = difflib.get_close_matches(label, self.raw, n=1)
        raise DataError(
            f"The label {label!r} is not one that the model was trained on"
            + (f" ({len(unknown) - 1:,} more are not)" if len(unknown) > 1 else ""),
            where=where(unknown[0]) if where else None,
            fix=(f"did you mean {near[0]!r}? " if near else "")
            + "labels of the training data: "
            + ", ".join(self.raw[:20])
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


def _sort_key(label: str) -> tuple:
    """Sorts whole numbers by value and before all other labels."""
    try:
        return (0, int(label), label)
    except ValueError:
        return (1, 0, label)
