"""The reader of a folder for each class, with a text in each file: `pos/*.txt`, `neg/*.txt`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kerasllm.data.readers.compression import DAMAGE
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.encodings import guess_encoding, is_utf8
from kerasllm.data.readers.faults import BROKEN_BYTES, EMPTY_TEXT, NUL, Fault
from kerasllm.data.readers.text_lines import LONGEST
from kerasllm.errors import DataError

if TYPE_CHECKING:
    from kerasllm.data.readers.formats import Columns

TEXT, LABEL = "text", "label"
"""The columns that such a folder is read as."""


def class_folder_columns(file: DataFile) -> list[str]:
    """The names of the columns."""
    return [TEXT, LABEL]


def class_folder_rows(
    file: DataFile, columns: Columns, notes: Any = None
) -> Iterator[tuple[int, Sequence, str | None]]:
    """Yields number, values and problem of each text."""
    names = (*columns.texts, *columns.labels)
    for number, member in enumerate(file.members, start=1):
        text = _read(member, file.encoding or "utf-8")
        fault = None
        if isinstance(text, Fault) or not text.strip():
            what = text if isinstance(text, Fault) else Fault("the text is empty", EMPTY_TEXT)
            fault = Fault(f"{member.name.removeprefix(file.name)[1:]}: {what}", what.reason)
        values: dict[Any, Any] = {TEXT: text, LABEL: file.label}
        yield number, [values[name] for name in names], fault


def _read(file: DataFile, encoding: str) -> str:
    try:
        with file.open_unpacked() as stream:
            raw = stream.read(LONGEST + 1)
    except (OSError, *DAMAGE) as error:
        raise DataError(
            f"Reading failed: {getattr(error, 'strerror', None) or error}",
            where=file.name,
            fix="check the disk, and that the file is whole, then try again",
        ) from error
    if len(raw) > LONGEST:
        raise DataError(
            f"A text is longer than {LONGEST >> 20} MB", where=file.name, fix="shorten it"
        )
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        at = f"byte 0x{raw[error.start]:02x} (byte {error.start + 1} of the file)"
        named = is_utf8(encoding) and guess_encoding(file, raw)
        likely = f"; it looks like {named}: --set data.encoding={named}" if named else ""
        return Fault(f"{at} is not {encoding.upper()}{likely}", BROKEN_BYTES)
    if "\0" in text:
        return Fault(f"a NUL byte at character {text.index(chr(0)) + 1}", NUL)
    return text.lstrip("\ufeff")
