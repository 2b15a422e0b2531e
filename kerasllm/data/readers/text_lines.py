"""The lines of a text file: strict UTF-8, unless another encoding is named."""

from __future__ import annotations

import codecs
import functools
import gzip
import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

from kerasllm.data.readers import encodings
from kerasllm.data.readers.compression import CHECKS, DAMAGE, is_damage
from kerasllm.data.readers.data_file import BLOCK, DataFile
from kerasllm.data.readers.faults import BROKEN_BYTES, NUL, Fault
from kerasllm.errors import DataError

LONGEST = 1 << 24
"""The maximum number of bytes in one line, and characters in one field: 16 MB. A file whose quotes
or line feeds are broken would be one endless line otherwise, and would fill the memory: what is
read of it takes up to thirty times its bytes."""

# Of the first lines, which are compared with each other.
_MOST_CHARACTERS = 1 << 22

MOST_BLANK = 2_000_000
"""The maximum number of lines without a value one after another: nobody means them, and each takes
its time."""

_BOM = "\ufeff"

_OTHER_FORMATS = {
    b"\x1f\x8b": ("gzip-compressed", "give it a name that ends in .gz"),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed", "give it a name that ends in .zst"),
    b"\xfd7zX": ("xz-compressed", "give it a name that ends in .xz"),
    b"PK\x03\x04": (
        "a zip archive or a spreadsheet",
        "give an archive a name that ends in .zip; export a spreadsheet as csv",
    ),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet or document of Microsoft Office", "export it as csv"),
    b"PAR1": ("a Parquet file", "give it a name that ends in .parquet"),
    b"ARROW1": ("an Arrow file", "write it as Parquet"),
    b"SQLite format 3": ("an SQLite database", "export the table as csv"),
    b"%PDF-": ("a PDF document", "extract its text first"),
    b"\x80\x04\x95": ("a Python pickle, which is never read", "write it as Parquet or csv"),
}
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(rb"\s*(?:<!doctype html|<html|<\?xml)", re.IGNORECASE)
# Of a page that is named as text, the text is what it holds.
_TEXTS = (".txt", ".md")


class TextLines:
    """The lines of a text file, without the byte-order marks that begin them.

    A file is UTF-8 unless `file.encoding` names another; one that is not, and looks like another
    encoding, is refused. A line with broken bytes is still given, so that a reader that joins lines
    stays in step, and is noted in `problems` (line number to what is wrong), which the reader
    empties row by row. `ended` turns true when the reader asks for a line after the last.

    Lines end at a line feed, or, in a file without any, at a carriage return.

    Args:
        file: The file; it is opened when iteration starts.
        longest: The maximum number of bytes in a line. Defaults to `None`: `LONGEST`.

    Raises:
        DataError: While iterating: the file cannot be read on.
    """

    def __init__(self, file: DataFile, longest: int | None = None):
        self.file = file
        self._longest = longest or LONGEST
        self.problems: dict[int, Fault] = {}
        self.ended = False
        named = file.encoding
        self._encoding = "UTF-8" if named is None or encodings.is_utf8(named) else named
        self._is_broken = False

    def __iter__(self) -> Iterator[str]:
        number = blank = 0
        encoding, longest, bom = self.file.encoding, self._longest, _BOM
        try:
            with self.file.open_unpacked() as stored:
                stream = self._opened(stored)
                read = functools.partial(stream.readline, longest + 1)
                for number, raw in enumerate(iter(read, b""), start=1):
                    if len(raw) < 3 and not raw.strip():
                        blank += 1
                        if blank > MOST_BLANK:
                            raise too_many_blank(self.file, number - blank + 1)
                    else:
                        blank = 0
                    if len(raw) > longest:
                        raise DataError(
                            f"A line is longer than {longest >> 20} MB",
                            where=f"{self.file.name}:{number}",
                            fix="end each line with a line feed",
                        )
                    try:
                        line = raw.decode()
                    except UnicodeDecodeError as error:
                        line = self._repaired(error, number)
                    if "\0" in line:
                        fault = Fault(f"a NUL byte at column {line.index(chr(0)) + 1}", NUL)
                        self.problems.setdefault(number, fault)
                    yield line if line[0] != bom else line.lstrip(bom)
        except UnicodeDecodeError as error:
            raise DataError(
                f"The file cannot be read as {encoding}: {error.reason}",
                where=f"{self.file.name}, after line {number}",
                fix="copy it again, or name its encoding with --set data.encoding=NAME "
                "(evaluate, predict, data: --encoding NAME)",
            ) from error
        except (OSError, *DAMAGE) as error:
            kind = self.file.compression or ("zip" if self.file.member else "")
            if isinstance(error, gzip.BadGzipFile) and self._is_plain():
                raise DataError(
                    "The file is not gzip-compressed, though its name ends in .gz",
                    where=self.file.name,
                    fix="give it a name without .gz, if `head FILE` shows rows; or copy it again",
                ) from error
            if kind and is_damage(error):
                raise DataError(
                    f"The {CHECKS[kind].split()[0]} file is truncated or damaged: {error}",
                    where=f"{self.file.name}, after line {number}",
                    fix=f"copy or download it again; `{CHECKS[kind]} FILE` checks it",
                ) from error
            raise DataError(
                f"Reading failed: {getattr(error, 'strerror', None) or error}",
                where=f"{self.file.name}, after line {number}",
                fix="check the disk or the network, then try again",
            ) from error
        self.ended = True

    def take_problem(self) -> tuple[int, Fault]:
        """The line of the first problem noted, and what it is; forgets all that are noted."""
        line = min(self.problems)
        problem = self.problems[line]
        self.problems.clear()
        return line, problem

    def _is_plain(self) -> bool:
        """Whether a file that is named as gzip-compressed does not begin as one."""
        with open(self.file.path, "rb") as stream:
            return stream.read(2) != b"\x1f\x8b"

    def _opened(self, stream: io.BufferedReader) -> io.BufferedReader:
        """The bytes in UTF-8, of a file that is what its name says."""
        encoding, start = self.file.encoding, stream.peek(BLOCK)
        refuse_other_formats(self.file, start)
        if encoding is None and (found := encodings.marked(start[:256])):
            raise encodings.another_encoding(self.file, found, 1, _first_line(start, found))
        if encoding is not None:
            encodings.refuse_if_utf8(self.file, encoding, start)
        if self._encoding == "UTF-8" and (b"\n" in start or b"\r" not in start):
            return stream
        opened: Any = io.BufferedReader(encodings.AsUtf8(stream, encoding or "utf-8"), BLOCK)
        refuse_other_formats(self.file, opened.peek(BLOCK))
        return opened

    def _repaired(self, error: UnicodeDecodeError, number: int) -> str:
        """Notes a line with broken bytes; refuses the file if they show that it is not UTF-8."""
        raw = error.object
        if self.file.encoding is None and not self._is_broken:
            self._is_broken = True
            found = encodings.guess_encoding(self.file, raw)
            if found is not None:
                raise encodings.another_encoding(self.file, found, number, raw)
        self.problems[number] = describe_broken_byte(error, self._encoding)
        return raw.decode(errors="replace")


def first_lines(file: DataFile, count: int) -> list[str]:
    """The first lines of a file, fewer where they are long: those that 4 MB hold.

    Args:
        file: The file.
        count: The maximum number of lines. The first is cut where it is longer than 4 MB.

    Raises:
        DataError: The file cannot be read.
    """
    found, characters = [], 0
    for line in itertools.islice(TextLines(file), count):
        characters += len(line)
        if characters > _MOST_CHARACTERS:
            return found or [line[:_MOST_CHARACTERS]]
        found.append(line)
    return found


def refuse_other_formats(file: DataFile, start: bytes) -> None:
    """Refuses a file that is something else than its name says.

    Args:
        file: The file.
        start: Its first bytes.

    Raises:
        DataError: It is.
    """
    start = start.removeprefix(codecs.BOM_UTF8)
    found = next((one for magic, one in _OTHER_FORMATS.items() if start.startswith(magic)), None)
    if start.startswith(_POINTER):
        found = ("a git-lfs pointer instead of the data", "download the data: `git lfs pull`")
    elif file.suffix not in _TEXTS and _PAGE.match(start):
        found = (
            "a web page" + " (XML)" * start.lstrip().startswith(b"<?"),
            (
                "download the data itself; on GitHub and Hugging Face, with /raw/ or /resolve/ "
                "instead of /blob/"
            ),
        )
    if found is not None:
        what, fix = found
        raise DataError(
            f"The file is not what its name says: it is {what}", where=file.name, fix=fix
        )


def too_many_blank(file: DataFile, line: int) -> DataError:
    """The error for a file that has hardly anything but lines without a value.

    Args:
        file: The file.
        line: The first of them.
    """
    return DataError(
        f"The file has {MOST_BLANK:,} empty lines one after another",
        where=f"{file.name}:{line}",
        fix="check what wrote it; `grep -v '^[,; ]*$' FILE` leaves them out",
    )


def _first_line(start: bytes, encoding: str) -> bytes:
    """The first line of a file that is not UTF-8, as far as it is among its first bytes."""
    line = start[:1000].decode(encoding, errors="ignore").lstrip(_BOM).splitlines()[:1]
    return "".join(line).encode(encoding)


def describe_broken_byte(error: UnicodeDecodeError, encoding: str = "UTF-8") -> Fault:
    """Says which byte of a line is not UTF-8, and where: columns count characters, from 1."""
    raw, at = error.object, error.start
    column = len(raw[:at].decode().removeprefix(_BOM)) + 1
    place = f"at column {column} (byte {at + 1} of the line)"
    if encoding != "UTF-8":
        # The bytes of the line are no longer those of the file.
        place = f"at column {column}"
    return Fault(f"byte 0x{raw[at]:02x} {place} is not {encoding}", BROKEN_BYTES)
