"""The names of labels that a recipe gives: in a file, or in a dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kerasllm.data.label_forms import forms_of, sort_key
from kerasllm.errors import DataError


def read_label_names(path: str | Path) -> list[str]:
    """Reads the names of the labels 0, 1, 2... from a text file with one name per line.

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
            fix="data.label_names is a text file with one name per line",
        ) from error
    names = [line.strip() for line in text.rstrip().split("\n")]
    if names == [""]:
        raise DataError(
            "The file contains no names", where=str(path), fix="write one name per line"
        )
    seen: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        place = f"{path}:{line}"
        if not name:
            raise DataError(
                "A line between two names is empty, but line numbers are labels",
                where=place,
                fix="write the name of this label, or remove the line",
            )
        if name in seen:
            raise DataError(
                f"Two labels have the name {name!r}, lines {seen[name]} and {line}",
                where=place,
                fix="give each label a different name",
            )
        seen[name] = line
    return names


def named_classes(
    found: Sequence[str], aliases: Mapping[str, str], names: Mapping[str, str], where: str
) -> tuple[list[str], list[str], dict[str, str]]:
    """Gives labels their names; labels of one name are one class.

    Where names are labels of the data too, labels become others (`{Spam: spam, spam: spam}`), and
    those that are not named stay as they are.

    Args:
        found: The labels of the data, in the order of the classes.
        aliases: Other ways in which the data writes them.
        names: Label to name.
        where: The file, for messages.

    Returns:
        For each class how it is written, and its name; and what else the data writes for a class.

    Raises:
        DataError: A label has no name.
    """
    names = {_label_of(key, found): name for key, name in names.items()}
    given = set(names.values())
    missing = [label for label in found if label not in names and label not in given]
    if missing and not given <= {*found, *names}:
        raise DataError(
            f"data.label_names has no name for the label {missing[0]!r}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            where=where,
            fix="add it to data.label_names; its names: " + ", ".join(map(repr, names)),
        )
    classes: dict[str, list[str]] = {}
    for label in found:
        classes.setdefault(names.get(label, label), []).append(label)
    # What is written as the class is named tells it best.
    raw = {
        name: name if name in labels and names.get(name) == name else labels[0]
        for name, labels in classes.items()
    }
    merged = {label: raw[name] for name, labels in classes.items() for label in labels}
    also = {alias: merged[label] for alias, label in aliases.items()}
    also |= {label: first for label, first in merged.items() if label != first}
    names_in_order = sorted(raw, key=lambda name: sort_key(raw[name]))
    return [raw[name] for name in names_in_order], names_in_order, also


def _label_of(key: str, found: Sequence[str]) -> str:
    """The label that a key means: a recipe may say True for true."""
    if key in found:
        return key
    forms = set(forms_of(key))
    alike = [label for label in found if not forms.isdisjoint(forms_of(label))]
    return alike[0] if len(alike) == 1 else key
