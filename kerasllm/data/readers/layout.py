"""The layout of a source: which columns of its files are the texts, and which the labels."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from kerasllm.data.label_cells import is_number, shown
from kerasllm.data.readers.columns import (
    COMMON_NAMES,
    COMMON_PAIRS,
    check_column,
    check_columns,
    common_column,
    common_pair,
    find_column,
    missing_columns,
)
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.formats import Columns, Format, columns_of
from kerasllm.data.readers.headers import (
    LINES,
    are_texts,
    column_number,
    guess_columns,
    has_known_name,
    holds_names,
    is_header,
    looks_like_data,
    unclear,
)
from kerasllm.errors import DataError

AUTO = "auto"
"""Stands for a second text column that is there or not: it is found by common names."""

_TEXT_NAMES = {*COMMON_NAMES["text"], *itertools.chain.from_iterable(COMMON_PAIRS)}
_LABEL_NAMES = {*COMMON_NAMES["label"]}
# Names that leave no doubt.
_LABELS = ("label", "labels", "gold_label")
_ROWS_TO_COMPARE = 100
_MOST_COLUMNS = 20


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The columns that a user has named.

    Args:
        text: The column of the texts. Defaults to `None`: it is found.
        pair: The column of the second texts, or `"auto"`. Defaults to `None`: there is none.
        labels: The column of the labels, or a column for each label. Defaults to `()`: found.
        labelled: Whether there are labels. Defaults to `True`.
    """

    text: str | None = None
    pair: str | None = None
    labels: tuple[str, ...] = ()
    labelled: bool = True

    @property
    def named(self) -> list[tuple[str, str]]:
        """Role and name of each column that is named."""
        found = [("text", self.text), ("text_pair", None if self.pair == AUTO else self.pair)]
        found += [("label", label) for label in self.labels if self.labelled]
        return [(role, name) for role, name in found if name is not None]

    def renamed(self, names: Mapping[str, str]) -> Wanted:
        """The same columns under other names."""
        return Wanted(
            None if self.text is None else names.get(self.text, self.text),
            None if self.pair is None else names.get(self.pair, self.pair),
            tuple(names.get(label, label) for label in self.labels),
            self.labelled,
        )


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of all files.

    Args:
        texts: The names of the text columns, one or two; none if all files are `.txt`.
        labels: The names of the label columns.
        files: What is read of each file; `None` of an empty one.
        why: How the columns were found, in words.
        unread: Columns that hold texts too, and are not read. Defaults to `()`.
        other_labels: Columns that have a common name of labels too. Defaults to `()`.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    files: tuple[Columns | None, ...]
    why: str
    unread: tuple[str, ...] = ()
    other_labels: tuple[str, ...] = ()


def find_layout(files: Sequence[DataFile], formats: Sequence[Format], wanted: Wanted) -> Layout:
    """Finds the columns in the first file that has any; the others must have them too.

    Raises:
        DataError: All files are empty, or one lacks a column or does not tell which is which.
    """
    _check_differ(wanted, files[0])
    layout: Layout | None = None
    columns: list[Columns | None] = []
    for file, form in zip(files, formats, strict=True):
        if form.columns is None:
            if wanted.labelled or wanted.pair not in (None, AUTO):
                missing = "labels" if wanted.labelled else "a second text"
                raise DataError(
                    f"A {file.suffix} file holds texts without {missing}",
                    where=file.name,
                    fix="give a csv, tsv, jsonl or parquet file with a column for each"
                    + "; or a folder with a folder of texts for each class" * wanted.labelled,
                )
            columns.append(Columns((0,)))
            continue
        known = (*layout.texts, *layout.labels) if layout else (name for _, name in wanted.named)
        names = columns_of(form, file, known)
        if not names:
            columns.append(None)
        elif layout is None:
            layout = _first_layout(file, form, names, wanted)
            columns += layout.files
        else:
            columns.append(_same_columns(file, form, names, layout))
    if not any(columns):
        raise empty_file(files[0])
    if layout is None:
        return Layout((), (), tuple(columns), "one text per line")
    return dataclasses.replace(layout, files=tuple(columns))


def empty_file(file: DataFile) -> DataError:
    """The error for a file without a row."""
    return DataError("The file is empty", where=file.name, fix="give a file with rows")


def _check_differ(wanted: Wanted, file: DataFile) -> None:
    named = wanted.named
    for place, (role, name) in enumerate(named):
        other = next((other for other, taken in named[:place] if taken == name), None)
        if other == role:
            raise DataError(
                f"data.label names the column '{name}' twice",
                where=file.name,
                fix="name each column once",
            )
        if other is not None:
            roles = {"text": "The text", "text_pair": "the second text", "label": "the label"}
            raise DataError(
                f"{roles[other].capitalize()} and {roles[role]} cannot both be the column '{name}'",
                where=file.name,
                fix=f"name another column with --set data.{role}=NAME",
            )


def _first_layout(file: DataFile, form: Format, names: list[str], wanted: Wanted) -> Layout:
    """The columns of the first file, by name where there is a header, else by number."""
    why = "as named" if wanted.named else "by their names"
    if form.first_lines is not None:
        # What folders name has a name in any case.
        own = [name for name in names if name not in file.partitions]
        found = {n: column_number(n) for _, n in wanted.named if n not in file.partitions}
        numbers = {name: number for name, number in found.items() if number is not None}
        words = len(found) - len(numbers)
        if numbers and not words:
            lines = form.first_lines(file, LINES)
            if holds_names(lines, wanted.text, list(numbers)):
                return _named_layout(file, form, names, wanted, why)
            if not is_header(lines):
                return _headerless_layout(file, lines, wanted, numbers)
        numbers = {name: number for name, number in numbers.items() if name not in names}
        if numbers:
            for name, number in numbers.items():
                _check_width(file, name, number, names)
            wanted = wanted.renamed({name: names[number] for name, number in numbers.items()})
            _check_differ(wanted, file)
            why = "by number, counted from 0; the first line is a header"
        elif not words and own and looks_like_data(own):
            return _headerless_layout(file, form.first_lines(file, LINES), wanted, {})
    return _named_layout(file, form, names, wanted, why)


def _named_layout(
    file: DataFile, form: Format, names: list[str], wanted: Wanted, why: str
) -> Layout:
    """The columns by the names of a header or by keys."""
    check_columns(wanted.named, names, file)
    labels = wanted.labels if wanted.labelled else ()
    # A label column that is named is not a candidate for the text, nor is what folders name.
    taken = [*(name for _, name in wanted.named), *file.partitions]
    for role, name in wanted.named:
        if role != "label" and name in file.partitions:
            raise DataError(
                f"The {role} column '{name}' comes from the names of the folders",
                where=file.name,
                fix=f"name a column of the files with --set data.{role}=NAME",
            )
    text, pair = wanted.text, None if wanted.pair == AUTO else wanted.pair
    if text is None and wanted.pair == AUTO:
        text, pair = common_pair(names, taken) or (None, None)
        for name in filter(None, (text, pair)):
            check_column("text", name, names, file)
    if text is None:
        unnamed = wanted.labelled and not labels
        known = common_column("text", names, taken) or common_column("label", names, taken)
        if unnamed and not known:
            raise missing_columns(["text", "label"], names, file, taken)
        text = find_column("text", names, file, taken)
    texts = (text,) if pair is None else (text, pair)
    if wanted.labelled and {"answer", "_task_hash"} <= {*names}:
        _refuse_rejected(file, form)
    if wanted.labelled and not labels:
        labels = (find_column("label", names, file, texts),)
    unread: tuple[str, ...] = ()
    other_labels: tuple[str, ...] = ()
    if wanted.labelled and not wanted.labels and labels[0].lower() not in _LABELS:
        free = [name for name in names if name not in (*texts, *labels)]
        other_labels = tuple(name for name in free if name.strip().lower() in _LABEL_NAMES)
    if wanted.pair == AUTO and wanted.text is None and pair is None:
        unread = _other_texts(file, form, names, (*texts, *labels))
    if unread:
        others = ", ".join(f"'{name}'" for name in unread)
        why += (
            f"; only '{text}' is read, not {others}: for two texts, set data.text={text} "
            f"and data.text_pair={unread[0]}"
        )
    if other_labels:
        others = ", ".join(f"'{name}'" for name in other_labels)
        why += f"; the label is '{labels[0]}', not {others}: for another, set data.label=NAME"
    return Layout(texts, labels, (Columns(texts, labels),), why, unread, other_labels)


def _refuse_rejected(file: DataFile, form: Format) -> None:
    """Refuses annotations of Prodigy among which are some that were rejected."""
    rows = form.rows(file, Columns(("answer",)))
    counts = Counter(str(row[0]) for _, row, bad in rows if not bad)
    others = [answer for answer in counts if answer != "accept"]
    if others:
        shown_counts = ", ".join(f"{counts[answer]:,} {answer}" for answer in others)
        command = f"jq -c 'select(.answer == \"accept\")' {shlex.quote(file.name)} > accepted.jsonl"
        raise DataError(
            f"These are Prodigy annotations, and not all were accepted: {shown_counts}",
            where=file.name,
            fix=f"keep the accepted ones: `{command}`",
        )


def _other_texts(
    file: DataFile, form: Format, names: Sequence[str], taken: Sequence[str]
) -> tuple[str, ...]:
    """The columns that hold texts, by their first rows, beside those that are read."""
    found = []
    counts = Counter(names)
    free = [name for name in names if name and name not in taken and counts[name] == 1]
    for name in free[:_MOST_COLUMNS]:
        try:
            rows = itertools.islice(form.rows(file, Columns((name,))), _ROWS_TO_COMPARE)
            values = [row[0] for _, row, bad in rows if not bad]
        except DataError:
            # Parquet: the column holds no strings.
            continue
        values = [value for value in values if value is not None]
        if not values or not all(isinstance(value, str) for value in values):
            continue
        known = name.lower() in _TEXT_NAMES and not all(map(is_number, values))
        if known or are_texts(values):
            found.append(name)
    return tuple(found)


def _headerless_layout(
    file: DataFile, lines: list[list[str]], wanted: Wanted, numbers: dict[str, int]
) -> Layout:
    """The columns of a table without a header: as numbered, and the others guessed."""
    for name, number in numbers.items():
        _check_width(file, name, number, lines[0])
    _check_differ(wanted.renamed({name: str(number) for name, number in numbers.items()}), file)
    pair = None if wanted.pair == AUTO else wanted.pair
    texts = tuple(numbers[name] for name in (wanted.text, pair) if name is not None)
    labels = tuple(numbers.get(name, name) for name in wanted.labels if wanted.labelled)
    if wanted.labelled and not labels:
        # The folders of a file may name its label.
        known = sorted(_LABEL_NAMES & {name.lower() for name in file.partitions})
        labels = tuple(name for name in file.partitions if known and name.lower() == known[0])
    why = "by number, counted from 0; there is no header"
    if wanted.text is None or (wanted.labelled and not labels):
        guess = guess_columns(
            lines,
            texts=() if wanted.text is None else texts,
            label=labels[0] if labels and isinstance(labels[0], int) else None,
            taken=[*texts, *labels],
            pair=wanted.pair == AUTO,
            labelled=wanted.labelled and not (labels and isinstance(labels[0], str)),
        )
        if guess is None:
            raise unclear(file, lines[0], labelled=wanted.labelled)
        # A second text that is named stays the second.
        texts = guess.texts if wanted.text is not None else (*guess.texts, *texts)
        labels = labels or (() if guess.label is None else (guess.label,))
        why = f"guessed from the rows: {guess.why}; there is no header"
    columns = Columns(texts, labels, header=False)
    return Layout(_named(texts), _named(labels), (columns,), why)


def _same_columns(file: DataFile, form: Format, names: list[str], layout: Layout) -> Columns:
    """The columns of a file after the first, which must be those of the first."""
    first = layout.files[-1]
    if not first.header:
        numbers = (*first.texts, *first.labels)
        if form.first_lines is None:
            raise DataError(
                "Columns are named by number, because the first file has no header; "
                f"a {file.suffix} file has names",
                where=file.name,
                fix="give files of the same kind, or add a header to the first",
            )
        lines = form.first_lines(file, LINES)
        if has_known_name(lines[0]) and is_header(lines):
            raise DataError(
                "The file has a header, where the first file has none",
                where=f"{file.name}:1",
                fix="remove the header, or add one to the other file",
            )
        for column in numbers:
            if isinstance(column, int):
                _check_width(file, str(column), column, lines[0])
            else:
                check_column("label", column, list(file.partitions), file)
        return first
    own: list[tuple[str, ...]] = []
    for role, found in (("text", layout.texts), ("label", layout.labels)):
        own.append(tuple(_in_capitals(name, names) for name in found))
        for name in own[-1]:
            check_column(role, name, names, file)
    return Columns(texts=own[0], labels=own[1])


def _in_capitals(name: str, names: Sequence[str]) -> str:
    """A name as a file writes it: `Text` for `text`, where it has no `text`."""
    alike = [one for one in names if one.lower() == name.lower()]
    return alike[0] if name not in names and len(alike) == 1 else name


def _check_width(file: DataFile, name: str, number: int, fields: Sequence[str]) -> None:
    if number >= len(fields):
        there = ", ".join(f"{place}: {shown(field)}" for place, field in enumerate(fields))
        raise DataError(
            f"There is no column {name}: the first line has {len(fields)}, counted from 0",
            where=file.name,
            fix=f"available columns: {there}",
        )


def _named(columns: Sequence[int | str]) -> tuple[str, ...]:
    return tuple(each if isinstance(each, str) else f"column_{each}" for each in columns)
