"""Where sources and targets are: two columns of tables, or two text files that run in parallel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.files import Spec, find_files, read_as
from kerasllm.data.readers.formats import FORMATS, TABLES, format_of
from kerasllm.data.readers.headers import looks_like_data
from kerasllm.data.readers.layout import empty_file
from kerasllm.data.readers.parallel_lines import ParallelLines
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

ROLES = ("source", "target")
# What names a column on the command line of those who read no recipe.
_OPTIONS = {"source": "--text", "target": "--text-pair"}

COMMON_NAMES = (
    ("source", "target"), ("src", "tgt"), ("src", "trg"), ("source_text", "target_text"),
    ("document", "summary"), ("article", "highlights"), ("article", "summary"),
    ("dialogue", "summary"), ("text", "summary"), ("text", "headline"), ("body", "title"),
    ("text", "title"), ("article", "abstract"), ("input", "output"), ("text", "target"),
    ("source", "translation"), ("text", "translation"), ("input_text", "target_text"),
)  # fmt: skip
"""Names of the two columns that are looked for, in this order and in any case. Where a file has no
others, the first is the source, regardless of its name."""


def open_source(
    spec: Spec,
    split: str,
    *,
    source: str | None = None,
    target: str | None = None,
    with_target: bool = True,
    on_bad_row: str = "error",
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Source | ParallelLines:
    """Opens files of sources and targets.

    Args:
        spec: What `find_files` takes: tables with two columns; or text files in twos, the source
            first. Of more than two text files those with one suffix are the sources, those with
            another the targets, in the same order (`a.en b.en a.de b.de`).
        split: The part that `starter:NAME` means.
        source: The column of the sources. Defaults to `None`: found by common names.
        target: The column of the targets. Defaults to `None`: found by common names.
        with_target: Whether the targets are read. Defaults to `True`.
        on_bad_row: As for `Source`. Defaults to `"error"`.
        encoding: As for `Source`. Defaults to `None`: UTF-8.
        delimiter: As for `Source`. Defaults to `None`: detected.

    Returns:
        The files; the targets are the `pairs` of a batch.

    Raises:
        DataError: If a file is missing or broken, lacks a column or its counterpart.
    """
    reading = {"encoding": encoding, "delimiter": delimiter}
    found = find_files(read_as(spec, split, classes=False, **reading), split, classes=False)
    texts = [file for file in found if is_text(file)]
    if texts and with_target:
        if len(texts) < len(found):
            raise DataError(
                "Text files and tables cannot be mixed",
                where=", ".join(file.name for file in found[:4]),
                fix="give tables, or two text files, the source and the target",
            )
        pairs = in_pairs(texts)
        return ParallelLines(pairs, on_bad_row=on_bad_row, remarks=found.remarks)
    with _suggestion():
        columns = _columns(found, source, target, with_target)
        return Source(
            found,
            split=split,
            text=columns[0],
            text_pair=columns[1],
            labelled=False,
            on_bad_row=on_bad_row,
            roles=ROLES,
        )


def is_text(file: DataFile) -> bool:
    """Returns whether a file has lines and no columns: `train.en`, `train.de.gz`, `train.txt`."""
    return file.suffix == ".txt" or file.suffix not in (*TABLES, *FORMATS)


def in_pairs(files: Sequence[DataFile]) -> list[tuple[DataFile, DataFile]]:
    """Returns text files in twos, each source with its target; see `open_source`.

    Raises:
        DataError: If they do not come in twos.
    """
    names = ", ".join(file.name for file in files[:6])
    if len(files) == 1:
        raise DataError(
            "A text file has no columns, and the targets are missing",
            where=names,
            fix="give two text files where line n of the second is the target of line n of the "
            "first, as in --train train.en --train train.de; or a table with two columns",
        )
    if len(files) == 2:
        return [(files[0], files[1])]
    suffixes = list(dict.fromkeys(file.suffix for file in files))
    sides = [[file for file in files if file.suffix == suffix] for suffix in suffixes]
    if len(sides) != 2 or len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{len(files)} text files are given, and it is not clear which belong together",
            where=names,
            fix="give two, or as many sources as targets, distinguished by their suffixes, as in "
            "a.en b.en a.de b.de",
        )
    return list(zip(*sides, strict=True))


def _columns(
    files: Sequence[DataFile], source: str | None, target: str | None, with_target: bool
) -> tuple[str | None, str | None]:
    """Returns the names of both columns, or their numbers; those that are named as they are."""
    if not with_target and (source is not None or all(map(is_text, files))):
        return source, None
    if source is not None and target is not None:
        return source, target
    table = next((file for file in files if not is_text(file)), files[0])
    form = format_of(table)
    names = form.columns(table)
    if not names:
        raise empty_file(table)
    fields = form.fields(table) if form.fields else []
    # Columns that hold objects are no texts, and which of their fields is the source none tells.
    names = [name for name in names if not any(one.startswith(f"{name}.") for one in fields)]
    if table.suffix in TABLES and len(names) == 2 and looks_like_data(names):
        return source or "0", (target or "1") if with_target else None
    there = [*names, *fields]
    found: tuple[str, str | None] | None
    if not with_target:
        found = _source_alone(names) if names else None
    else:
        found = _by_name(names if source is target is None else there, source, target)
    if found is None:
        roles = ROLES if with_target else ROLES[:1]
        missing = [role for role, name in zip(roles, (source, target)) if name is None]
        shown = ", ".join(map(repr, there[:20])) + (" ..." if len(there) > 20 else "")
        # Two fields are the two languages of a translation.
        both = fields if len(fields) == 2 and len(missing) == 2 else ("NAME", "NAME")
        settings = " ".join(f"--set data.{role}={name}" for role, name in zip(missing, both))
        settings += " or vice versa" if both is fields else ""
        options = " ".join(f"{_OPTIONS[role]} {name}" for role, name in zip(missing, both))
        raise DataError(
            f"Which column holds the {' and which the '.join(missing)} is not clear",
            where=table.name,
            fix=f"name {'them' if len(missing) > 1 else 'it'}: {settings} "
            f"(evaluate, predict, data: {options}); available columns: {shown}",
        )
    return found


def _source_alone(names: Sequence[str]) -> tuple[str, None] | None:
    """Finds the column of the sources, where targets are not wanted; `None` where it is unclear."""
    plain = _plain(names)
    for name in dict.fromkeys(pair[0] for pair in COMMON_NAMES):
        if name in plain:
            return plain[name], None
    return (names[0], None) if len(names) <= 2 else None


def _by_name(
    names: Sequence[str], source: str | None, target: str | None
) -> tuple[str, str] | None:
    """Finds the columns that are not named, by common names; `None` where there are none."""
    plain = _plain(names)
    for pair in COMMON_NAMES:
        one, other = (given or plain.get(name) for given, name in zip((source, target), pair))
        if one is not None and other is not None and one != other:
            return one, other
    # Of two columns, one is named: the other is the other.
    if len(names) == 2 and (source in names or target in names):
        rest = [name for name in names if name not in (source, target)]
        if len(rest) == 1:
            return source or rest[0], target or rest[0]
    return (names[0], names[1]) if len(names) == 2 and source is target is None else None


def _plain(names: Sequence[str]) -> dict[str, str]:
    """Returns columns by their names in lower case, the first of equal ones."""
    return {name.strip().strip("\ufeff").lower(): name for name in reversed(names)}


@contextmanager
def _suggestion() -> Iterator[None]:
    """Names the keys of this kind of data where a `Source` names those of texts and pairs."""
    try:
        yield
    except DataError as error:
        error.what = _ours(error.what)
        error.fix = error.fix and _ours(error.fix)
        raise


def _ours(message: str) -> str:
    for theirs, own in (
        ("data.text_pair", "data.target"),
        ("data.text", "data.source"),
        ("text_pair column", "target column"),
        ("text column", "source column"),
        ("The text and the second text", "The source and the target"),
    ):
        message = message.replace(theirs, own)
    return message
