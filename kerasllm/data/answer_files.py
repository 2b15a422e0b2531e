"""Files of rows and what was predicted for them: csv, tsv, jsonl and parquet, written row by row.

Each class writes into a folder, and what was committed there survives the process: `commit` returns
a position, from which another process continues. `finish` returns the file that it has become.
"""

from __future__ import annotations

import abc
import csv
import gzip
import io
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, NamedTuple

from kerasllm.languages import LANGUAGES

if TYPE_CHECKING:
    import pyarrow as pa

# A tsv without quotes cannot hold it, or would look as if it had quotes.
_NEEDS_QUOTES = re.compile(r'^"|[\t\r\n]')


class Answer(NamedTuple):
    """A row and what was predicted for it.

    Attributes:
        kept: The columns of the row that are kept, by name.
        predicted: What was predicted, in the form that the file wants; `None` of a bad row.
        error: Why nothing was predicted; `None` of a good row.
    """

    kept: Mapping[str, Any]
    predicted: Mapping[str, Any] | None
    error: str | None = None


class Names:
    """The names of what is predicted beside the columns that are kept.

    A name that a column has already, in any case, becomes `predicted_NAME`.

    Args:
        kept: The columns that are kept.
        shared: Names that stay as they are: where a row has such a column, what is predicted has
            none. Defaults to none.

    Example:
        >>> Names(["id", "label"])("label"), Names(["id"])("label")
        ('predicted_label', 'label')
    """

    def __init__(self, kept: Sequence[str] | Mapping[str, Any], shared: Sequence[str] = ()):
        self._taken = {name.casefold() for name in kept if name not in shared}
        self._found: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self._found:
            free, number = name, 1
            while free.casefold() in self._taken:
                free = f"predicted_{name}" + (f"_{number}" if number > 1 else "")
                number += 1
            self._found[name] = free
        return self._found[name]

    @property
    def renamed(self) -> dict[str, str]:
        """The names that were taken, and what they became."""
        return {name: other for name, other in self._found.items() if name != other}


class AnswerFile(abc.ABC):
    """A file that grows by rows; see the module.

    Args:
        folder: Where it grows.
        kept: The columns that are kept, in order.
        errors: Whether there is a column for the errors.
        name: The name that it will have, for its suffix.
        shared: As for `Names`. Defaults to none.
        position: What `commit` returned last, to continue from there. Defaults to `None`: an empty
            file.
        schema: The types of the columns that are kept, where the format has types. Defaults to
            `None`: they are strings.
    """

    # How a prediction is written: as the task gave it, flat, or flat with types.
    form: ClassVar[str] = "flat"

    def __init__(
        self,
        folder: Path,
        kept: Sequence[str],
        *,
        errors: bool,
        name: str,
        shared: Sequence[str] = (),
        position: Mapping[str, Any] | None = None,
        schema: pa.Schema | None = None,
    ):
        self.folder, self.kept, self.errors, self.schema = folder, list(kept), errors, schema
        self.name_of = Names(kept, shared)
        self._compressed = name.endswith(".gz")
        self._open(position)

    @abc.abstractmethod
    def write(self, answers: Sequence[Answer]) -> None:
        """Writes rows. The first ones of a file hold a good one."""

    @abc.abstractmethod
    def commit(self) -> dict:
        """Brings all rows to the disk and returns the position."""

    def committed(self) -> None:
        """Called when the position is on the disk: what came before it is not needed."""

    @abc.abstractmethod
    def finish(self) -> Path:
        """Returns the whole file."""

    def close(self) -> None:
        """Lets go of what is open."""

    @abc.abstractmethod
    def _open(self, position: Mapping[str, Any] | None) -> None:
        """Begins an empty file, or continues the one that was committed."""


class _TextFile(AnswerFile):
    """Lines of text; compressed, where the name ends in .gz, a gzip member for each commit."""

    def _open(self, position: Mapping[str, Any] | None) -> None:
        self._path = self.folder / (position["file"] if position else "rows")
        self._old: Path | None = None
        if position is None:
            self._raw: BinaryIO = open(self._path, "wb")
        else:
            self._raw = open(self._path, "r+b")
            self._raw.truncate(position["bytes"])
            self._raw.seek(0, os.SEEK_END)
        self._member: gzip.GzipFile | None = None

    def _put(self, text: str) -> None:
        out: Any = self._raw
        if self._compressed:
            # Without a time in it, the same rows are the same bytes.
            self._member = self._member or gzip.GzipFile("", "wb", 6, self._raw, mtime=0)
            out = self._member
        out.write(text.encode(errors="replace"))

    def _flush(self) -> None:
        if self._member is not None:
            self._member.close()
            self._member = None
        self._raw.flush()

    def commit(self) -> dict:
        self._flush()
        os.fsync(self._raw.fileno())
        return {"file": self._path.name, "bytes": self._raw.tell()}

    def finish(self) -> Path:
        if self._compressed and not self._raw.tell() and self._member is None:
            self._put("")
        self.commit()
        self.close()
        return self._path

    def close(self) -> None:
        self._member = None
        self._raw.close()


class JsonLines(_TextFile):
    """A .jsonl file: an object a line, the columns that are kept first."""

    form = "raw"

    def write(self, answers: Sequence[Answer]) -> None:
        self.keys.learn(answers)
        self._put("".join(json_line(each, self.keys, self.name_of) for each in answers))

    def _open(self, position: Mapping[str, Any] | None) -> None:
        super()._open(position)
        self.keys = Keys(position["keys"] if position else ())

    def commit(self) -> dict:
        return {**super().commit(), "keys": list(self.keys.names)}


class Keys:
    """The keys of predictions, which those of bad rows have too."""

    def __init__(self, names: Sequence[str] = ()):
        self.names = tuple(names)

    def of(self, predicted: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Returns a prediction; of a bad row one of nothing but `None`."""
        if predicted is None:
            return dict.fromkeys(self.names)
        self.names = self.names or tuple(predicted)
        return predicted

    def learn(self, answers: Sequence[Answer]) -> None:
        """Takes the keys of the first good row."""
        good = (each.predicted for each in answers if each.predicted is not None)
        self.names = self.names or tuple(next(good, ()))


def json_line(answer: Answer, keys: Keys, name_of: Names) -> str:
    """Returns a row as a line of JSON."""
    predicted = {name_of(name): value for name, value in keys.of(answer.predicted).items()}
    row = {**answer.kept, **predicted}
    if answer.error is not None:
        row[name_of("error")] = answer.error
    line = json.dumps(row, ensure_ascii=False, default=str)
    try:
        line.encode()
    except UnicodeEncodeError:
        # Half of a pair of UTF-16, which JSON can only write as an escape.
        line = json.dumps(row, default=str)
    return line + "\n"


class _Table(_TextFile):
    """Cells with their columns' names above."""

    def _open(self, position: Mapping[str, Any] | None) -> None:
        super()._open(position)
        self._keys = Keys(position["keys"] if position else ())

    def write(self, answers: Sequence[Answer]) -> None:
        begun = bool(self._keys.names)
        self._keys.learn(answers)
        rows = [] if begun or not answers else [self._header()]
        for answer in answers:
            predicted = self._keys.of(answer.predicted)
            cells = [cell(answer.kept.get(name)) for name in self.kept]
            cells += [cell(predicted.get(name)) for name in self._keys.names]
            rows.append(cells + [answer.error or ""] * self.errors)
        self._put_rows(rows)

    def commit(self) -> dict:
        return {**super().commit(), "keys": list(self._keys.names)}

    def _header(self) -> list[str]:
        names = [self.name_of(name) for name in self._keys.names]
        return [*self.kept, *names, *[self.name_of("error")] * self.errors]

    @abc.abstractmethod
    def _put_rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Writes cells, the header's first."""


class CsvTable(_Table):
    """A .csv file."""

    def _put_rows(self, rows: Sequence[Sequence[str]]) -> None:
        lines = io.StringIO(newline="")
        csv.writer(lines).writerows(rows)
        self._put(lines.getvalue())


class TsvTable(_Table):
    """A .tsv file that reads back exactly.

    Fields are written without quotes, as most programs read a tsv, until a field holds a tab or a
    line end or begins with a quote: then all fields are written in quotes, those before too.
    """

    def _open(self, position: Mapping[str, Any] | None) -> None:
        super()._open(position)
        self._quoted = bool(position and position["quoted"])

    def commit(self) -> dict:
        return {**super().commit(), "quoted": self._quoted}

    def committed(self) -> None:
        if self._old is not None:
            self._old.unlink(missing_ok=True)
            self._old = None

    def _put_rows(self, rows: Sequence[Sequence[str]]) -> None:
        if not self._quoted and any(_NEEDS_QUOTES.search(cell) for row in rows for cell in row):
            self._quote_all()
        self._put("".join(self._line(row) for row in rows))

    def _line(self, fields: Sequence[str]) -> str:
        if self._quoted:
            fields = ['"' + field.replace('"', '""') + '"' for field in fields]
        return "\t".join(fields) + "\n"

    def _quote_all(self) -> None:
        """Writes what the file holds again, with quotes, into another one."""
        self._flush()
        self._raw.close()
        self._quoted, self._old = True, self._path
        self._path = self.folder / "rows-quoted"
        self._raw = open(self._path, "wb")
        opened = gzip.open if self._compressed else open
        with opened(self._old, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                self._put(self._line(line.removesuffix("\n").split("\t")))


def cell(value: Any) -> str:
    """Returns a value as a field of a table; lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


class PlainText(_TextFile):
    """A file of text, such as .conll, that has no columns; rows without an answer are left out."""

    form = "text"

    def write(self, answers: Sequence[Answer]) -> None:
        self._put("".join(one.predicted["text"] for one in answers if one.predicted is not None))


class TextLines(PlainText):
    """One text per line, an empty one for a row without an answer, so that line n is of row n."""

    def write(self, answers: Sequence[Answer]) -> None:
        empty = {"text": "\n"}
        self._put("".join((one.predicted or empty)["text"] for one in answers))


_KINDS = {
    ".csv": CsvTable,
    ".tsv": TsvTable,
    ".jsonl": JsonLines,
    ".conll": PlainText,
    **dict.fromkeys((".txt", *LANGUAGES), TextLines),
}

SUFFIXES = ".csv, .tsv, .jsonl or .parquet (the first three also with .gz)"
"""The suffixes that a file of predictions may have, in words."""


def kind_of(path: Path) -> type[AnswerFile] | None:
    """Returns what writes a file with the suffix of a path; `None`: nothing does."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        from kerasllm.data.answer_parquet import Parquet

        return Parquet
    return _KINDS.get(Path(name.removesuffix(".gz")).suffix)


def copy_over(made: Path, path: Path) -> None:
    """Makes a finished file the one at a path, whole or not at all."""
    if path.exists():
        shutil.copymode(path, made)
    os.replace(made, path)
