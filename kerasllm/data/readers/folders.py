"""Which files of a folder, an archive or a glob are data: names in, names out."""

from __future__ import annotations

import fnmatch
import itertools
import posixpath
import re
import shlex
import urllib.parse
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

from kerasllm.data.readers.compression import split_name
from kerasllm.errors import DataError

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
    **dict.fromkeys((".conll", ".conllu", ".bio", ".iob", ".iob2"), "tagged"),
}
"""Suffix to the kind of a file; files of one kind are read together."""

_NAMES_SHOWN = 3
# At most one file in so many lies beside the folders of classes.
_ONE_BESIDE = 10
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_WORDS = re.compile(r"[a-z]+")
# A longer or other end of a name is none: `1.`, `0001.ea7e79d3153e7469`.
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9_]{0,8}")
# What tells of data and is none, unless there is nothing else.
_ABOUT = re.compile(
    r"(readme|licen[cs]e|notice|changelog|dataset_infos?|dataset_dict|state)\.[a-z]+", re.IGNORECASE
)

# A column and its value, as Hive, Spark and Arrow name folders; and what they write for none.
_PARTITION = re.compile(r"([^=/]+)=([^/]*)")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def is_hidden(name: str) -> bool:
    """Whether a path has a part that systems and tools keep for themselves.

    Names that start with a dot (`.git`, `.ipynb_checkpoints`, `.DS_Store`) and with an underscore
    (`_SUCCESS`, `_temporary`, `__MACOSX`), as Spark, Hadoop and Arrow leave them out too.

    Args:
        name: A path within a folder, its parts separated by `/`.
    """
    return any(part.startswith((".", "_")) for part in name.split("/"))


def kind_of(name: str) -> str | None:
    """Returns the kind of a file by its name, see `KINDS`; `None` if it is not data."""
    return KINDS.get(PurePosixPath(split_name(name)[0]).suffix)


def without_hidden(names: Iterable[str], pattern: str = "") -> tuple[list[str], list[str]]:
    """Leaves hidden files out, but for those whose pattern asks for them (`_*.csv`).

    Args:
        names: Paths within a folder.
        pattern: The glob that found them. Defaults to `""`.

    Returns:
        The names that stay, sorted, and those that are left out.
    """
    asked = [part for part in pattern.split("/") if part.startswith((".", "_"))]

    def stays(part: str) -> bool:
        return not is_hidden(part) or any(fnmatch.fnmatchcase(part, each) for each in asked)

    kept, hidden = [], []
    for name in sorted(names):
        (kept if all(map(stays, name.split("/"))) else hidden).append(name)
    return kept, hidden


def choose(
    names: Collection[str], split: str, where: str, preferred: str | None = None
) -> tuple[list[str], list[str]]:
    """Chooses the files of a folder that are read as one: those of one kind, of one split.

    Where every file's path names a split (`train-00000.parquet`, `test/part-0.csv`) and not all
    the same one, those of the requested split are taken.

    Args:
        names: Paths within the folder, their parts separated by `/`.
        split: `"train"`, `"validation"` or `"test"`.
        where: The folder, for messages.
        preferred: The kind that is taken where there are several. Defaults to `None`.

    Returns:
        The names, sorted, and remarks on what was left out.

    Raises:
        DataError: There are none, or files of several kinds.
    """
    kept, hidden = without_hidden(names)
    remarks = left_out(hidden, "hidden")
    kinds = {
        name: kind
        for name in kept
        if (kind := kind_of(name)) and (preferred == "text" or not name.lower().endswith(".md"))
    }
    if not kinds and in_classes(kept):
        # Texts without a suffix, as 20 newsgroups has them.
        kinds = dict.fromkeys(filter(_has_no_suffix, kept), "text")
    arrow = [name for name in kept if name.endswith(".arrow")]
    if arrow and all(_ABOUT.fullmatch(PurePosixPath(name).name) for name in kinds):
        code = (
            f"import datasets; datasets.load_from_disk({where!r}).to_parquet('data.parquet')"
            if not any(PurePosixPath(name).name == "dataset_dict.json" for name in kinds)
            else f"import datasets; [part.to_parquet(name + '.parquet') for name, part in "
            f"datasets.load_from_disk({where!r}).items()]"
        )
        raise DataError(
            f"The folder holds a data set in Arrow's format: {_some(arrow)}",
            where=where,
            fix=f"write it as Parquet: `python -c {shlex.quote(code)}`",
        )
    about = {name for name in kinds if _ABOUT.fullmatch(PurePosixPath(name).name)}
    if kinds.keys() - about:
        kinds = {name: kind for name, kind in kinds.items() if name not in about}
    found = Counter(kinds.values())
    if not found:
        also = f"; it holds {_some(kept)}" if kept else "; all its files are hidden" * bool(hidden)
        raise DataError(
            f"The folder holds no data files{also}",
            where=where,
            fix=f"known: {' '.join(KINDS)}, also compressed",
        )
    kind = preferred if preferred in found else next(iter(found))
    if len(found) > 1 and kind != preferred:
        shown = ", ".join(f"{count} {name}" for name, count in found.most_common())
        raise DataError(
            f"The folder holds files of several kinds: {shown}",
            where=where,
            fix="unpack it, and give the folder of the files to use"
            if where.lower().endswith(".zip")
            else f"name the ones to use, for example '{where.rstrip('/')}/"
            f"*{_common_suffix(kinds, found.most_common(1)[0][0])}'",
        )
    remarks += left_out([name for name in kept if kinds.get(name) != kind], "other")
    chosen = [name for name in kept if kinds.get(name) == kind]
    return _of_split(chosen, split, where, remarks), remarks


def _has_no_suffix(name: str) -> bool:
    return _SUFFIX.fullmatch(PurePosixPath(split_name(name)[0]).suffix) is None


def in_classes(names: Iterable[str]) -> bool:
    """Whether names are those of texts in a folder for each class, most without a suffix.

    Args:
        names: Paths within a folder, their parts separated by `/`.
    """
    names = list(names)
    bare = list(filter(_has_no_suffix, names))
    return 2 * len(bare) > len(names) and bool(by_class(bare)[0])


def branches(names: Iterable[str]) -> list[str]:
    """Returns the folders that files lie in, but for those that are named by a split or `data`."""
    found = set()
    for name in names:
        parts = [p for p in name.split("/")[:-1] if p != "data" and p.lower() not in _SPLIT_OF]
        found.add("/".join(parts))
    return sorted(found)


def by_class(names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Tells texts in a folder for each class (`pos/1.txt`, `neg/1.txt`) from other files.

    Args:
        names: Paths within a folder, their parts separated by `/`.

    Returns:
        The names by class; none if these are no classes. And the few files beside the folders.

    Example:

    >>> by_class(["neg/1.txt", "pos/1.txt", "pos/2.txt"])
    ({'neg': ['neg/1.txt'], 'pos': ['pos/1.txt', 'pos/2.txt']}, [])
    """
    parts = {name: PurePosixPath(name).parts for name in names}
    if not all(split_name(name)[0].endswith(".txt") or _has_no_suffix(name) for name in names):
        return {}, []
    # What all have in common, such as train/, is no class.
    common = posixpath.commonpath([posixpath.dirname(name) for name in names])
    start = len(common.split("/")) if common else 0
    classes: dict[str, list[str]] = {}
    beside = []
    for name in names:
        if len(parts[name]) < start + 2:
            beside.append(name)
        else:
            classes.setdefault(parts[name][start], []).append(name)
    if len(classes) < 2 or len(beside) * _ONE_BESIDE > len(names):
        return {}, []
    if any(map(_PARTITION.fullmatch, classes)):
        # A column, whose texts are lines.
        return {}, []
    return classes, beside


def partitions_below(folder: str, name: str) -> dict[str, str | None]:
    """Returns the columns that the folders of a file name, and their values.

    Those count that lie in the folder that was named, and those that this itself ends with.

    Args:
        folder: The folder that was named.
        name: The path of the file in it, its parts separated by `/`.

    Example:

    >>> partitions_below("data/x=1/raw/year=2026/", "label=very%20good/part-0.csv")
    {'year': '2026', 'label': 'very good'}
    """
    own = partition_folders(f"{folder.rstrip('/')}/")
    found: dict[str, str | None] = {}
    for part in f"{own}{name}".split("/")[:-1]:
        if match := _PARTITION.fullmatch(part):
            column, value = map(urllib.parse.unquote, match.groups())
            found[column] = None if value in (_NO_VALUE, "") else value
    return found


def partition_folders(path: str) -> str:
    """Returns the folders around a file that name columns: `"label=pos/"`.

    Args:
        path: The path of the file, or of a folder with a `/` at its end.
    """
    above = reversed(path.split("/")[:-1])
    found = list(itertools.takewhile(_PARTITION.fullmatch, above))
    return "".join(f"{part}/" for part in reversed(found))


def left_out(names: Sequence[str], what: str) -> list[str]:
    """Returns the remark on files that were left out; none if there are none.

    Args:
        names: The files.
        what: What they are: `"hidden"`, `"other"` or `"empty"`.
    """
    if not names:
        return []
    one, several = {
        "hidden": ("hidden file or folder was", "hidden files or folders were"),
        "other": ("other file was", "other files were"),
        "empty": ("empty file was", "empty files were"),
    }[what]
    count = f"1 {one}" if len(names) == 1 else f"{len(names):,} {several}"
    return [f"{count} left out: {_some(names)}"]


def _of_split(names: list[str], split: str, where: str, remarks: list[str]) -> list[str]:
    splits = {name: _split_of(name) for name in names}
    there = set(splits.values())
    if None in there or len(there) < 2:
        return names
    chosen = [name for name in names if splits[name] == split]
    if not chosen:
        raise DataError(
            f"The folder holds the splits {' and '.join(sorted(there))}, and no {split} data",
            where=where,
            fix="name the files to use",
        )
    others = sorted(there - {split})
    remarks.append(
        f"the files of the split '{split}' are read: {_some(chosen)}; not {', '.join(others)}"
    )
    return chosen


def _split_of(name: str) -> str | None:
    """The split that a path names, by the last word in it that does."""
    words = (_SPLIT_OF.get(word) for word in reversed(_WORDS.findall(name.lower())))
    return next(filter(None, words), None)


def _common_suffix(kinds: dict[str, str], kind: str) -> str:
    names = (PurePosixPath(name).name for name, each in kinds.items() if each == kind)
    return "".join(PurePosixPath(split_name(next(names))[0]).suffixes[-1:])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN:,} more" if names[_NAMES_SHOWN:] else "")
