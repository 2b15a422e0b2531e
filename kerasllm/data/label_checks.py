"""Suspicious labels: those that look alike, and those that mean a missing label."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from kerasllm.data.label_forms import is_number, visible
from kerasllm.data.labels import Labels
from kerasllm.errors import DataError
from kerasllm.plurals import counted

# Groups of labels, and labels, that a message shows.
_SHOWN = 5
# What spreadsheets, pandas, R and databases (MySQL: \N) write for a missing value, and the folder
# of IMDb's reviews without a label; "none" may be a class.
_NO_CLASSES = {
    *("nan", "n/a", "null", "<na>", "?", "-", "--"),
    *("\\n", "(null)", "unsup", "unlabeled", "unlabelled"),
    *("#n/a", "#null!", "#ref!", "#value!", "#name?", "#div/0!"),
}
_UNLABELLED = "-1"
# Letters of other alphabets that look like Latin ones, in lower case.
_LOOK_ALIKES = str.maketrans("авекмнорстухіјѕԁһαβεικμνορτυχ", "abekmhopctyxijsdhabeikmvoptux")
_PUNCTUATION = " .,;:!?…'\"`´‘’“”«»"
_BETWEEN_WORDS = re.compile(r"(?<=\w)[_\-\s]+(?=\w)")
# What YAML reads as the text that it is, also within brackets.
_PLAIN = re.compile(
    r"(?!(null|true|false|yes|no|on|off|nan)\Z)[a-z][a-z0-9_]*|-?[1-9][0-9]*|0", re.IGNORECASE
)


def check_labels(
    counts: Mapping[str, int],
    labels: Labels,
    *,
    named: Mapping[str, str] | None = None,
    where: str = "",
    locate: Callable[[str], str] | None = None,
    of_recipe: bool = True,
) -> list[str]:
    """Finds labels of different classes that look alike, and labels that may mean none.

    Args:
        counts: How many rows have each label, as the data writes it.
        labels: The classes.
        named: Labels that the user has named, and which so are meant. Defaults to `None`: none.
        where: The files, for messages. Defaults to `""`.
        locate: Gives the place of the first row that has a label. Defaults to `None`.
        of_recipe: Whether there is a recipe, whose settings are a way out. Defaults to `True`.

    Returns:
        Warnings, each with the labels, their counts, and what to do.

    Raises:
        DataError: Labels differ in nothing that can be seen.

    Example:

    >>> check_labels({"spam": 8, "Spam": 2, "ham": 9}, Labels.learn(["spam", "Spam", "ham"]))[0]
    "warning: labels that look alike are different classes: 'spam' (8 rows) and 'Spam' (2 rows)..."
    """
    named = named or {}
    found = {label: count for label, count in counts.items() if label in labels}
    if unseen := _groups(found, labels, lambda label: {visible(label)}):
        first = unseen[0]
        raise DataError(
            "Labels differ only invisibly (zero-width characters, spaces, Unicode normalization): "
            f"{_shown(unseen, found, ascii)}",
            where=(locate(first[-1]) if locate else "") or where,
            fix="correct the labels" + f", or merge them: {_merged(unseen, named)}" * of_recipe,
        )
    remarks = []
    if alike := _groups(found, labels, _likeness):
        remarks.append(
            "warning: labels that look alike are different classes: "
            f"{_shown(alike, found, repr)}; if they are the same, correct them"
            + f", or: {_merged(alike, named)}"
            * of_recipe
        )
    missing = [label for label in found if label not in named and _means_none(label, found)]
    if missing:
        those = ", ".join(f"{label!r} ({counted(found[label], 'row')})" for label in missing)
        place = f", the first at {locate(missing[0])}" if locate else ""
        remarks.append(
            f"warning: read as a label, although it may mean a missing value: {those}{place}"
            + f"; to skip such rows: {setting('data.ignore_labels', missing)}" * of_recipe
        )
    return remarks


def look_alike(counts: Mapping[str, int]) -> list[list[str]]:
    """Returns labels that a reader takes for one, in groups, the most frequent of each first.

    Args:
        counts: How many rows have each label.

    Example:

    >>> look_alike({"spam": 9, "Spam": 1, "ham": 5})
    [['spam', 'Spam']]
    """
    return _groups(counts, None, lambda label: {visible(label)} | _likeness(label))


def setting(key: str, value: Mapping[str, str] | Sequence[str]) -> str:
    """Returns the option that sets a key of a recipe, quoted for a shell.

    Args:
        key: The key.
        value: Labels, or the name of each. What cannot be seen in them is escaped.

    Example:

    >>> setting("data.label_names", {"Spam": "spam", "01": "1"})
    '--set \\'data.label_names={Spam: spam, "01": 1}\\''
    """

    def written(text: str) -> str:
        if _PLAIN.fullmatch(text):
            return text
        return json.dumps(text, ensure_ascii=visible(text) != text)

    if isinstance(value, Mapping):
        pairs = ", ".join(f"{written(label)}: {written(name)}" for label, name in value.items())
        written_value = f"{{{pairs}}}"
    else:
        written_value = f"[{', '.join(map(written, value))}]"
    return f"--set {shlex.quote(f'{key}={written_value}')}"


def _groups(
    counts: Mapping[str, int], labels: Labels | None, forms: Callable[[str], set]
) -> list[list[str]]:
    """Labels of different classes that have a form in common, the most frequent first."""
    groups: dict[object, list[str]] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        for form in forms(label):
            groups.setdefault(form, []).append(label)
    found = {
        tuple(group): None
        for group in groups.values()
        if len(group) > 1 and (labels is None or len(set(labels.encode(group).tolist())) > 1)
    }
    return [list(group) for group in found if not any(set(group) < set(other) for other in found)]


def _likeness(label: str) -> set:
    text = unicodedata.normalize("NFKC", visible(label)).casefold().translate(_LOOK_ALIKES)
    text = _BETWEEN_WORDS.sub(" ", text)
    return {text.strip(_PUNCTUATION) or text} | ({float(label)} if is_number(label) else set())


def _means_none(label: str, found: Mapping[str, int]) -> bool:
    if label.lower() in _NO_CLASSES or label == "NA":
        return True
    # With 1 alone it is the other class; other negative numbers make it one of them.
    others = set(found) - {_UNLABELLED}
    return label == _UNLABELLED and others != {"1"} and all(map(str.isdecimal, others))


def _shown(groups: Sequence[Sequence[str]], counts: Mapping[str, int], show: Callable) -> str:
    def told(label: str, group: Sequence[str]) -> str:
        # A letter of another alphabet among Latin ones, which cannot be told from its twin.
        foreign = label.casefold().translate(_LOOK_ALIKES) != label.casefold()
        hidden = foreign and any(map(str.isascii, group))
        return f"{(ascii if hidden else show)(label)} ({counted(counts[label], 'row')})"

    found = [" and ".join(told(label, group) for label in group) for group in groups[:_SHOWN]]
    more = len(groups) - _SHOWN
    return "; ".join(found) + (f"; and {more} more" if more > 0 else "")


def _merged(groups: Sequence[Sequence[str]], named: Mapping[str, str]) -> str:
    """The setting that makes each group one class, beside the names that there are."""
    names = dict(named)
    for group in groups:
        meant = next((label for label in group if visible(label) == label), group[0])
        name = names.get(meant, meant)
        names |= dict.fromkeys((*group, name), name)
    return setting("data.label_names", names)
