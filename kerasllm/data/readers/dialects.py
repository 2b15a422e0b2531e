"""How a csv or tsv file was written: what separates its fields, how its quotes are to be read."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kerasllm.data.label_cells import shown
from kerasllm.data.readers.columns import DELIMITERS
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.headers import has_known_name
from kerasllm.data.readers.preambles import has_row_names, lines_above_header
from kerasllm.data.readers.quoting import detect_quoting
from kerasllm.data.readers.text_lines import LONGEST, first_lines

LINES = 1000
"""The number of first lines that are compared."""

# So many of the records have the number of fields of the first, if a delimiter is the right one.
_MOST, _NEARLY_ALL = 0.8, 0.95
_FEW_RECORDS = 3
_WORDS_OF_A_LABEL = 3

_TAB, _HIVE = "\t", "\x01"
# How others may be written in a recipe and on a command line.
_WRITTEN = {"tab": _TAB, "\\t": _TAB, "^A": _HIVE, "\\x01": _HIVE}
# Between fields without quotes around them.
_UNQUOTED = ("::", _HIVE)
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*', re.IGNORECASE)
_ESCAPED = 'in {}, quotes in a text are escaped by a backslash: \\"'
_BARE = "in {}, a backslash escapes characters other than delimiters, quotes and line ends"
# A field of a tsv file, in quotes with those inside it escaped, or without any.
_ESCAPED_FIELD = re.compile(r'"(?:[^"\\]|\\.)*"|[^"]*')
_BLANK = ",;\t|\x01 \r\n"
_BACKSLASH = re.compile(r'\\(["\\\r\n])?')
_SPACED = re.compile(r' +"(?:[^"]|"")*"')


@dataclasses.dataclass(frozen=True)
class Dialect:
    r"""How the lines of a table become fields.

    Args:
        delimiter: What stands between fields.
        quoted: Whether quotes around a field are no part of it. Defaults to `True`.
        escaped: Whether a quote in a text is written `\"`, not `""`. Defaults to `False`.
        spaced: Whether spaces before a field are no part of it. Defaults to `False`.
        bare: Whether a backslash escapes delimiters and line ends too, and no field is in quotes.
            Defaults to `False`.
        row_names: Whether rows begin with a name that the header has no field for. Defaults to
            `False`.
        skipped: The number of lines before the header. Defaults to `0`.
        remarks: What a user should know of it. Defaults to `()`.
    """

    delimiter: str
    quoted: bool = True
    escaped: bool = False
    spaced: bool = False
    bare: bool = False
    row_names: bool = False
    skipped: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name that differs where the same bytes are read in another way."""
        if self.delimiter == _TAB:
            name = "tsv with quotes" if self.quoted else "tsv without quotes"
        else:
            name = "csv" if self.delimiter == "," else f"csv {self.delimiter}"
        name += " escaped" * self.escaped + " spaced" * self.spaced + " bare" * self.bare
        name += " with row names" * self.row_names
        return name + f" from line {self.skipped + 1}" * bool(self.skipped)

    def records(self, lines: Iterable[str]) -> Any:
        """Reads records from lines, without those before the header."""
        # The limit is one for the whole process; others may have set it higher.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        # strict: quotes that do not pair are errors, where the default guesses what was meant.
        return self._reader(lines, strict=True)

    def lenient_records(self, lines: Iterable[str]) -> Any:
        """The same, where quotes that do not pair are read somehow."""
        return self._reader(lines, strict=False)

    def _reader(self, lines: Iterable[str], strict: bool) -> Any:
        escape, more = None, self.delimiter if self.bare else ""
        if self.escaped or self.bare:
            lines = (_escaping(line, more) if "\\" in line else line for line in lines)
            escape = "\\"
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            escapechar=escape,
            strict=strict,
            skipinitialspace=self.spaced,
            quoting=csv.QUOTE_NONE if self.bare else csv.QUOTE_MINIMAL,
        )


def _escaping(line: str, more: str = "") -> str:
    r"""Returns a line where a backslash before anything but a quote or a backslash is doubled.

    Others (`\t`, `\n`) are no escapes that all writers agree on, and stay as they are; but for
    `more`, which is escaped too.
    """

    def escaped(match: re.Match[str]) -> str:
        is_escape = match[1] or (more and match[0][1:] == more)
        return match[0] if is_escape else "\\\\"

    pattern = re.compile(rf'\\(?:(["\\\r\n])|{re.escape(more)})?') if more else _BACKSLASH
    return pattern.sub(escaped, line)


def detect_dialect(file: DataFile) -> Dialect:
    """Finds out from its first lines how a table was written.

    Args:
        file: The file. What separates its fields is `file.delimiter`; else its suffix tells it,
            unless its lines show that something else does.

    Raises:
        DataError: The file cannot be read.
    """
    lines = first_lines(file, LINES)
    usual = _TAB if file.suffix == ".tsv" else ","
    separator = _SEPARATOR_LINE.fullmatch(lines[0].rstrip("\r\n")) if lines else None
    named = _WRITTEN.get(file.delimiter, file.delimiter)
    known = named or (separator and separator[1])
    remarks = []
    skipped = 1 if separator else 0
    if above := lines_above_header(lines[skipped:], [known] if known else list(DELIMITERS)):
        what = "the first line" if above == 1 else f"the first {above} lines"
        first = next(line.strip(_BLANK) for line in lines[skipped:] if line.strip(_BLANK))
        remarks.append(f"{what} of {file.name} ({shown(first)}) left out, above its header")
        skipped += above
    lines = [line for line in lines[skipped:] if line.strip(_BLANK)]
    found = known or _delimiter(lines, usual)
    if found != usual and not named:
        between = DELIMITERS.get(found, found)
        remarks.append(f"{file.name} is read with {between} between its fields")
    row_names = bool(lines) and has_row_names(lines, _rows(lines, found, row_names=False))
    if row_names:
        remarks.append(
            f"the rows of {file.name} have one more field than the header: row names, in front"
        )
    dialect = Dialect(found, skipped=skipped, row_names=row_names, remarks=tuple(remarks))

    def detected(*more: str | None, **fields: Any) -> Dialect:
        return dataclasses.replace(dialect, **fields, remarks=(*remarks, *filter(None, more)))

    if found in _UNQUOTED:
        return detected(quoted=False)
    if _is_bare(lines, found):
        return detected(_BARE.format(file.name), bare=True)
    if found == _TAB:
        quoting = detect_quoting(file, skipped)
        if not quoting.quoted and _is_escaped(lines):
            return detected(_ESCAPED.format(file.name), escaped=True)
        return detected(quoting.remark, quoted=quoting.quoted)
    escaped, spaced = _quoting(lines, found)
    return detected(
        _ESCAPED.format(file.name) if escaped else None,
        f"in {file.name}, spaces before a field are left out" if spaced else None,
        escaped=escaped,
        spaced=spaced,
    )


def _is_bare(lines: Sequence[str], delimiter: str) -> bool:
    """Whether a backslash escapes delimiters, line ends or quotes, and no field is quoted.

    It is how MySQL writes tables, and others without quoting.
    """
    text = "".join(lines)
    mark = re.escape(delimiter)
    if "\\" not in text or re.search(rf'(?:^|{mark}) *"', text, re.MULTILINE):
        return False
    quotes = text.count('"')
    # In a raw tsv, both are characters.
    escaped_quotes = delimiter != _TAB and 0 < quotes == text.count('\\"')
    if not escaped_quotes and not re.search(rf"\\(?:{mark}|\r?\n)", text):
        return False
    rows = [line.rstrip("\r\n").split(delimiter) for line in lines]
    plain = sum(len(row) != len(rows[0]) for row in rows)
    faults = _parsed(lines, Dialect(delimiter, bare=True))[1]
    return faults < plain or (escaped_quotes and faults == plain)


def _is_escaped(lines: Sequence[str]) -> bool:
    """Whether the quotes of a tsv file are those around fields, or escaped within them."""
    rows = [line.rstrip("\r\n").split(_TAB) for line in lines]
    if rows and all(len(name) > 1 and name[0] == name[-1] == '"' for name in rows[0]):
        # Where the names are in quotes, all texts are, also those with tabs and line ends.
        faults = _parsed(lines, Dialect(_TAB, escaped=True))[1]
        return not faults and any('\\"' in line for line in lines)
    quoted = [field for row in rows for field in row if '"' in field]
    return (
        any('\\"' in field[1:-1] for field in quoted)
        and all(map(_ESCAPED_FIELD.fullmatch, quoted))
        and all(len(row) == len(rows[0]) for row in rows)
    )


def _delimiter(lines: Sequence[str], usual: str) -> str:
    """What separates the fields: what usually does, unless another fits and it does not."""
    rows = _rows(lines, usual)
    fits = len(rows[0]) > 1 and _share(rows) >= _MOST
    if fits and _makes_sense(rows):
        return usual
    best, share = usual, 0.0 if fits or len(rows[0]) == 1 else _share(rows)
    for other in DELIMITERS:
        rows = _rows(lines, other)
        if other == usual or len(rows[0]) == 1 or _share(rows) < _NEARLY_ALL:
            continue
        if _share(rows) > share and _makes_sense(rows):
            best, share = other, _share(rows)
    return best


def _makes_sense(rows: Sequence[Sequence[str]]) -> bool:
    return has_known_name(rows[0]) or _has_labels(rows)


def _rows(lines: Sequence[str], delimiter: str, row_names: bool = True) -> list[list[str]]:
    """The fields of the lines, with quotes read as it fits best.

    With `row_names`, the header has a field without a name in front where the rows have one more.
    """
    rows = _fields(lines, delimiter)
    return [["", *rows[0]], *rows[1:]] if row_names and has_row_names(lines, rows) else rows


def _fields(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    def read(escaped: bool = False, bare: bool = False) -> list[list[str]]:
        dialect = Dialect(delimiter, escaped=escaped, bare=bare, spaced=delimiter != _TAB)
        return [row for row in _records(dialect.lenient_records(lines)) if row] or [[""]]

    if delimiter == _TAB or delimiter in _UNQUOTED:
        rows = [line.rstrip("\r\n").split(delimiter) for line in lines if line.strip("\r\n")]
        rows = rows or [[""]]
        if delimiter in _UNQUOTED:
            return rows
        quoted = _share(rows) < 1 and any('"' in line for line in lines)
        return max(rows, read(), key=_share) if quoted else rows
    rows = read()
    if _share(rows) < 1 and any('\\"' in line for line in lines):
        return max(rows, read(escaped=True), key=_share)
    return rows


def _share(rows: Sequence[Sequence[str]]) -> float:
    """The part of the rows that have the fields of the first, empty ones at the end left aside."""
    width = _filled(rows[0])
    return sum(_filled(row) <= width <= len(row) for row in rows) / len(rows)


def _filled(row: Sequence[str]) -> int:
    return next((place for place in range(len(row), 0, -1) if row[place - 1]), 0)


def _has_labels(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column has few values that recur, and are short."""
    rows = [row for row in rows[1:] if len(row) == len(rows[0])]
    if len(rows) < _FEW_RECORDS:
        return False
    for values in zip(*rows):
        short = all(0 < len(value.split()) <= _WORDS_OF_A_LABEL for value in values)
        if short and 2 * len(set(values)) <= len(values) + 1:
            return True
    return False


def _quoting(lines: Sequence[str], delimiter: str) -> tuple[bool, bool]:
    """Whether quotes are escaped by a backslash, and whether spaces come before them."""
    text = "".join(lines)
    plain = faults = None
    if '\\"' in text or re.search(rf'(?:^|{re.escape(delimiter)}) +"', text, re.MULTILINE):
        plain, faults = _parsed(lines, Dialect(delimiter))
    if plain is None:
        return False, False
    spaced = any(_SPACED.fullmatch(field) for row in plain for field in row)
    best, fewest = (False, False), faults
    for escaped, space in ((False, True), (True, False), (True, True)):
        if escaped and '\\"' not in text:
            continue
        _, found = _parsed(lines, Dialect(delimiter, escaped=escaped, spaced=space))
        # Without a fault either way, a space before a quote is still no part of the text.
        if found < fewest or (spaced and not escaped and found == fewest):
            best, fewest = (escaped, space), found
    return best


def _parsed(lines: Sequence[str], dialect: Dialect) -> tuple[list[list[str]], int]:
    """The records of some lines, and the number of those that do not fit the first."""
    reader, rows, faults = dialect.records(lines), [], 0
    for row in _records(reader):
        if row is None:
            faults += 1
        elif row:
            rows.append(row)
    # The last record may go over the end of the lines that are compared.
    if len(lines) >= LINES - 1 and faults and reader.line_num >= len(lines):
        faults -= 1
    return rows, faults + sum(len(row) != len(rows[0]) for row in rows)


def _records(reader: Any) -> Iterator[list[str] | None]:
    while True:
        try:
            yield next(reader)
        except csv.Error:
            yield None
        except StopIteration:
            return
