"""The readers of csv and tsv files; see formats.py for what a reader yields."""

from __future__ import annotations

import csv
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kerasllm.data.label_cells import shown
from kerasllm.data.readers import text_lines
from kerasllm.data.readers.columns import COMMON_NAMES
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.dialects import LINES, Dialect
from kerasllm.data.readers.faults import FIELDS, HEADER, QUOTES, Fault, Notes
from kerasllm.data.readers.headers import has_known_name
from kerasllm.data.readers.quoting import raw_fields
from kerasllm.data.readers.text_lines import LONGEST, TextLines
from kerasllm.data.readers.unclosed_quotes import Habits, swallows_rows
from kerasllm.errors import DataError

if TYPE_CHECKING:
    from kerasllm.data.readers.formats import Columns

_FEW_ROWS, _NEARLY_ALL = 3, 0.9
_CHARACTERS_TO_COMPARE = 1 << 22
# Each field of a row may go over lines: no row has more characters, and no header more names.
_LONGEST_ROW = 4 * LONGEST
_MOST_COLUMNS = 100_000
# What Hive writes between fields, and for no value.
_HIVE, _NO_VALUE = "\x01", "\\N"
_TITLES = Fault("the row names the columns: remove the lines above it", HEADER)

Record = tuple[int, list[str] | None, str | None]


def table_columns(file: DataFile, dialect: Dialect) -> list[str]:
    """The names in the header; none for an empty file."""
    return _open(file, dialect)[2]


def table_first_lines(file: DataFile, count: int, dialect: Dialect) -> list[list[str]]:
    """The fields of so many first records, the header among them."""
    _, rows, _ = _open(file, dialect, header=False)
    found, characters = [], 0
    for _, fields, _ in itertools.islice(rows, count):
        if not _is_blank(fields):
            found.append(fields)
            characters += sum(map(len, fields))
        if characters > _CHARACTERS_TO_COMPARE:
            break
    return found


def table_rows(
    file: DataFile, columns: Columns, notes: Notes | None = None, *, dialect: Dialect
) -> Iterator[tuple[int, Sequence[str], str | None]]:
    """Yields line, values and problem of each row.

    Left out, and noted, are rows whose fields are all empty, as spreadsheets write them, and lines
    that repeat the header, as in files that were joined.
    """
    notes = notes or Notes()
    records, rows, header = _open(file, dialect, columns.header, notes)
    # Of a name that is there twice, the first.
    place_of = {name: place for place, name in reversed([*enumerate(header)])}
    places = [
        place_of[column] if isinstance(column, str) else column
        for column in (*columns.texts, *columns.labels)
    ]
    # Of one place, it would return the field and not a tuple of it.
    chosen = operator.itemgetter(*places) if len(places) > 1 else lambda row: (row[places[0]],)
    width = len(header)
    # A column of texts alone may hold its own name.
    titles = header if width > 1 else []
    forms = (str, str.lower, str.upper, str.capitalize)
    names = frozenset(form(name) for name in titles for form in forms) - {""}
    unnamed = bool(columns.labels) and not columns.header
    blank = 0
    for line, fields, problem in rows:
        if problem is not None:
            yield line, (), problem
            continue
        first = fields[0]
        if width != 1 and (not first or first in names or first[0].isspace()):
            if _is_blank(fields):
                blank += 1
                if blank > text_lines.MOST_BLANK:
                    raise text_lines.too_many_blank(file, line - blank + 1)
                notes.add("rows without a value left out", f"{file.name}:{line}")
                continue
            if names and _is_header(fields, header, file, line):
                place = f"{file.name}:{line}"
                notes.add("lines that repeat the header left out", place, revised=True)
                continue
        blank = 0
        # Without a header, the first row tells how many fields there are.
        width = width or len(fields)
        if len(fields) == width:
            values = chosen(fields)
            yield line, values, _TITLES if unnamed and _are_names(values, columns) else None
        elif _fits(fields, header, width):
            fields = [*fields, *[""] * width][:width]
            notes.revised = True
            yield line, chosen(fields), None
        else:
            problem = _wrong_width(fields, width, columns.header, dialect)
            # What it has, so that an id in front is known.
            there = [fields[place] if place < len(fields) else "" for place in places]
            yield line, there, Fault(problem + records.span(line), FIELDS)


def _without_null(fields: list[str]) -> list[str]:
    return ["" if field == _NO_VALUE else field for field in fields]


def _is_blank(fields: Sequence[str] | None) -> bool:
    return not fields or not any(map(str.strip, fields))


def _fits(fields: Sequence[str], header: Sequence[str], width: int) -> bool:
    """Whether a row differs from the header in empty fields at its end alone."""
    while header and width and not header[width - 1]:
        width -= 1
    return len(fields) >= width and not any(fields[width:])


def _is_header(fields: Sequence[str], header: Sequence[str], file: DataFile, line: int) -> bool:
    found, names = ([name.strip().lower() for name in names] for names in (fields, header))
    if found == names:
        return True
    if {*found} == {*names} and len(found) == len(names):
        raise DataError(
            "The column order changes within the file: this line is another header",
            where=f"{file.name}:{line}",
            fix="split the file there, and give both files",
        )
    return False


def _are_names(values: Sequence[str], columns: Columns) -> bool:
    """Whether a row has the common names of its columns instead of a text and a label.

    A table that has a title above its header is read as one without a header.
    """
    roles = ["text"] * len(columns.texts) + ["label"] * len(columns.labels)
    return all(value.strip().lower() in COMMON_NAMES[role] for value, role in zip(values, roles))


def _wrong_width(fields: Sequence[str], width: int, header: bool, dialect: Dialect) -> str:
    names = "the header names" if header else "the first line has"
    count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    problem = f"{count}, where {names} {width}"
    if not dialect.quoted and len(fields) < width and '"' in "".join(fields):
        problem += (
            " (this .tsv is read without quoting: a text with tabs or line ends belongs in a .csv)"
        )
    return problem


def _open(
    file: DataFile, dialect: Dialect, header: bool = True, notes: Notes | None = None
) -> tuple[_QuotedRecords | _PlainRecords, Iterator[Record], list[str]]:
    """How records are read, those after the header, and the header: empty for an empty file."""
    kind = _QuotedRecords if dialect.quoted else _PlainRecords
    records = kind(TextLines(file), dialect, notes)
    rows = iter(records)
    if not header:
        return records, rows, []
    filled = (row for row in rows if row[2] is not None or not _is_blank(row[1]))
    line, fields, problem = next(filled, (1, [], None))
    if problem is not None:
        raise DataError(
            f"The header cannot be read: {problem}",
            where=f"{file.name}:{line}",
            fix="fix the first line, which names the columns",
        )
    if len(fields) > _MOST_COLUMNS:
        raise DataError(
            f"The header names {len(fields):,} columns, more than {_MOST_COLUMNS:,}",
            where=f"{file.name}:{line}",
            fix="check that its rows end with a line feed",
        )
    names = [name.strip().strip("\ufeff").strip() for name in fields]
    names = [""] * (dialect.row_names and any(names)) + names
    if names and names[0].startswith("#") and not has_known_name(names[:1]):
        # The header is a comment.
        names[0] = names[0].lstrip("# ")
    return records, rows, names if any(names) else []


class _PlainRecords:
    """Yields line, fields and problem of each record: a line, cut at its delimiters.

    Quotes are characters. An empty line is not a record.
    """

    def __init__(self, lines: TextLines, dialect: Dialect, notes: Notes | None):
        self._lines = lines
        self._delimiter, self._skipped = dialect.delimiter, dialect.skipped

    def __iter__(self) -> Iterator[Record]:
        problems, delimiter = self._lines.problems, self._delimiter
        no_value = _NO_VALUE if delimiter == _HIVE else "\n"
        for number, line in itertools.islice(enumerate(self._lines, start=1), self._skipped, None):
            if problems:
                yield number, None, self._lines.take_problem()[1]
                continue
            line = line.rstrip("\n").removesuffix("\r")
            if line:
                fields = line.split(delimiter)
                yield number, _without_null(fields) if no_value in line else fields, None

    def span(self, line: int) -> str:
        """Nothing: a record is a line."""
        return ""


class _QuotedRecords:
    """Yields line, fields and problem of each record, which may go over lines within quotes.

    An empty line is not a record.
    """

    def __init__(self, lines: TextLines, dialect: Dialect, notes: Notes | None):
        self._lines, self._dialect, self._notes = lines, dialect, notes
        self._skipped = dialect.skipped
        read = itertools.islice(lines, dialect.skipped, None) if dialect.skipped else lines
        self._reader = dialect.records(self._bounded(read))
        self._characters = 0
        self._habits: Habits | None = None

    def __iter__(self) -> Iterator[Record]:
        problems, reader, skipped = self._lines.problems, self._reader, self._skipped
        line = skipped + 1
        while True:
            try:
                for fields in reader:
                    self._characters = 0
                    last = reader.line_num + skipped
                    if problems:
                        first, problem = self._lines.take_problem()
                        yield first, None, problem
                    elif fields:
                        if last > line:
                            self._check_span(fields, line)
                        yield line, fields, None
                    line = last + 1
                return
            except csv.Error as error:
                problem = self._problem_of(error, line)
                self._characters = 0
                problems.clear()
                yield line, None, problem
                # Each line that the quote has swallowed is a row that is lost.
                for within in range(line + 1, self._last + 1):
                    yield within, None, Fault(f"within the quotes of line {line}", QUOTES)
                line = self._last + 1

    def _bounded(self, lines: Iterable[str]) -> Iterator[str]:
        """Yields lines, as long as those of a record are no more than a row may have."""
        for line in lines:
            self._characters += len(line)
            if self._characters > _LONGEST_ROW:
                raise DataError(
                    f"A row has more than {_LONGEST_ROW >> 20} MB",
                    where=f"{self._lines.file.name}, after line {self._last}",
                    fix="check that every quote is closed",
                )
            yield line

    @property
    def _last(self) -> int:
        """The line that the last record ends in."""
        return self._reader.line_num + self._skipped

    def _problem_of(self, error: csv.Error, line: int) -> Fault:
        # Either way the reader is still inside quotes: no row after this can be trusted.
        if self._lines.ended or "field limit" in str(error):
            raise DataError(
                "A quote opened in this row is never closed"
                + ("" if self._lines.ended else f", or a field is over {LONGEST >> 20} MB"),
                where=f"{self._lines.file.name}:{line}",
                fix='close it; a quote inside a quoted text is written twice: ""',
            ) from error
        what = 'text after a closing quote; a quote inside quotes is written ""'
        if "new-line character" in str(error):
            what = "a carriage return outside quotes"
        return Fault(what + self.span(line), QUOTES)

    def span(self, line: int) -> str:
        """How far the record that starts in a line goes, if over its end."""
        last = self._last
        return f" (the row ends in line {last}: is a quote left open?)" if last > line else ""

    def _check_span(self, fields: list[str], line: int) -> None:
        """Notes a record of several lines, and refuses it if it has swallowed rows."""
        file = self._lines.file
        if self._notes is not None:
            self._notes.add("rows that span several lines", f"{file.name}:{line}")
        if self._habits is None:
            records = _first_records(file, self._dialect)
            width = len(records[0] if records else fields)
            self._habits = Habits(records[1:], width, self._dialect.delimiter)
        width = self._habits.width
        if width == 1 or not swallows_rows(fields, self._habits, self._dialect.delimiter):
            return
        column = next(place for place, field in enumerate(fields) if "\n" in field)
        if _always_quoted(file, self._dialect, column, width):
            return
        last = self._last
        raw = list(itertools.islice(TextLines(file), line - 1, last))
        raise DataError(
            f"A quote is opened in line {line} and closed in line {last}, and the lines between "
            "look like separate rows",
            where=f"{file.name}:{line}: {shown(raw[0].strip())}\n"
            f"         {file.name}:{last}: {shown(raw[-1].strip())}",
            fix='remove the quotes, or write a quote that is part of a text as "" in a text in '
            "quotes; if it is one text of several lines, put each text of the file in quotes, or "
            "save it as jsonl or parquet",
        )


def _first_records(file: DataFile, dialect: Dialect) -> list[list[str]]:
    """The first records that are one line each, the header among them."""
    lines = text_lines.first_lines(file, LINES)[dialect.skipped :]
    reader, found, line = dialect.records(lines), [], 0
    while True:
        try:
            fields = next(reader)
        except csv.Error:
            fields = None
        except StopIteration:
            return found
        if fields and reader.line_num == line + 1:
            found.append(fields)
        line = reader.line_num


def _always_quoted(file: DataFile, dialect: Dialect, column: int, width: int) -> bool:
    """Whether the first rows have a column in quotes, needed or not.

    In such a file a quote that is left open is an error at once: the next row has quotes too.
    """
    lines = text_lines.first_lines(file, LINES)[dialect.skipped :]
    if dialect.escaped:
        lines = [line.replace('\\"', '""') for line in lines]
    found = (raw_fields(line, dialect.delimiter) for line in lines)
    rows = (fields for fields in found if fields and len(fields) == width)
    quoted = [fields[column].lstrip().startswith('"') for fields in rows]
    # A header in quotes tells it too.
    return quoted[:1] == [True] or (
        len(quoted) > _FEW_ROWS and sum(quoted) >= _NEARLY_ALL * len(quoted)
    )
