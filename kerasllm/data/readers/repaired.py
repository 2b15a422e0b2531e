"""A file as it would be without broken bytes, to see what else is in the rows that hold them."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import io
from collections.abc import Iterator
from typing import BinaryIO

from kerasllm.data.readers.data_file import BLOCK, DataFile


def repaired(file: DataFile) -> DataFile:
    """Returns a file in UTF-8 with U+FFFD for what cannot be decoded, and a space for NUL.

    Its lines are those of the file.

    Args:
        file: A file of text.
    """
    own = {field.name: getattr(file, field.name) for field in dataclasses.fields(file)}
    return _Repaired(**own | {"encoding": None}, written_in=file.encoding or "utf-8")


@dataclasses.dataclass(frozen=True)
class _Repaired(DataFile):
    written_in: str = "utf-8"

    @contextlib.contextmanager
    def open_unpacked(self) -> Iterator[io.BufferedReader]:
        with super().open_unpacked() as stream:
            yield io.BufferedReader(_RepairedStream(stream, self.written_in), BLOCK)


class _RepairedStream(io.RawIOBase):
    def __init__(self, stream: BinaryIO, encoding: str):
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._left:
            block = self._stream.read(BLOCK)
            text = self._decoder.decode(block, final=not block)
            self._left = text.replace("\0", " ").encode()
            if not block and not self._left:
                return 0
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)
