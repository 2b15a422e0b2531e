"""The lines of a text file: strict UTF-8, in memory that does not grow with the file."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from kerasllm.data.readers.compression import CHECKS, DAMAGE, is_damage
from kerasllm.data.readers.files import DataFile
from kerasllm.errors import DataError

LONGEST = 1 << 26
"""The most bytes in one line, and characters in one field: 64 MB. A file whose quotes or line
feeds are broken would be one endless line otherwise, and would fill the memory."""

_OTHER_FORMATS = {
    b"\x1f\x8b": ("gzip-compressed", "give it a name that ends in .gz"),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed", "give it a name that ends in .zst"),
    b"\xfd7zX": ("xz-compressed", "give it a name that ends in .xz"),
    b"PK\x03\x04": (
        "a zip archive or a spreadsheet",
        "give an archive a name that ends in .zip; export a spreadsheet as csv",
    ),
    b"PAR1": ("a Parquet file", "give it a name that ends in .parquet"),
    b"\xff\xfe": ("UTF-16 text", "save it as UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "save it as UTF-8"),
}


class TextLines:
    """The lines of a UTF-8 file, a byte-order mark at its start left out.

    A line with broken bytes is still given, so that a reader that joins lines stays in step, and
    is noted in `problems` (line number to what is wrong), which the reader empties row by row.
    `ended` turns true when the reader asks for a line after the last.

    Args:
        file: The file; it is opened when iteration starts.

    Raises:
        DataError: While iterating: the file cannot be read on.
    """

    def __init__(self, file: DataFile):
        self.file = file
        self.problems: dict[int, str] = {}
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        number = 0
        try:
            with self.file.open_unpacked() as stream:
                self._refuse_other_formats(stream.peek(4)[:4])
                read = functools.partial(stream.readline, LONGEST + 1)
                for number, raw in enumerate(iter(read, b""), start=1):
                    if len(raw) > LONGEST:
                        raise DataError(
                            f"A line is longer than {LONGEST >> 20} MB",
                            where=f"{self.file.name}:{number}",
                            fix="end each line with a line feed",
                        )
                    try:
                        line = raw.decode()
                    except UnicodeDecodeError as error:
                        self.problems[number] = describe_broken_byte(error)
                        line = raw.decode(errors="replace")
                    if "\0" in line:
                        at = line.index("\0") + 1
                        self.problems.setdefault(number, f"a NUL byte at column {at}")
                    yield line if number > 1 else line.removeprefix("\ufeff")
        except (OSError, *DAMAGE) as error:
            packed = self.file.compression or ("zip" if self.file.member else "")
            if packed and is_damage(error):
                raise DataError(
                    f"The {CHECKS[packed].split()[0]} file is cut short or damaged: {error}",
                    where=f"{self.file.name}, after line {number}",
                    fix=f"copy or download it again; `{CHECKS[packed]} FILE` checks it",
                ) from error
            raise DataError(
                f"Reading failed: {getattr(error, 'strerror', None) or error}",
                where=f"{self.file.name}, after line {number}",
                fix="check the disk or the network, then try again",
            ) from error
        self.ended = True

    def take_problem(self) -> tuple[int, str]:
        """The line of the first problem noted, and what it is; forgets all that are noted."""
        line = min(self.problems)
        problem = self.problems[line]
        self.problems.clear()
        return line, problem

    def _refuse_other_formats(self, start: bytes) -> None:
        for magic, (what, fix) in _OTHER_FORMATS.items():
            if start.startswith(magic):
                raise DataError(
                    f"The file is not what its name says: it is {what}",
                    where=self.file.name,
                    fix=fix,
                )


def describe_broken_byte(error: UnicodeDecodeError) -> str:
    """Says which byte of a line is not UTF-8, and where: columns count characters, from 1."""
    raw, at = error.object, error.start
    column = len(raw[:at].decode().removeprefix("\ufeff")) + 1
    return f"byte 0x{raw[at]:02x} at column {column} (byte {at + 1} of the line) is not UTF-8"
