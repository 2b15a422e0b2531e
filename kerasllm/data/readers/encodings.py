"""The encoding of a text file: which one its bytes look like, and reading it as UTF-8."""

from __future__ import annotations

import codecs
import io
import re
import shlex
from typing import BinaryIO

from kerasllm.data.readers.data_file import BLOCK, DataFile
from kerasllm.errors import DataError

SAMPLE = 1 << 18
"""The first bytes of a file that its encoding is guessed from."""

# What begins a file, longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Of languages that have few letters beyond ASCII, in the order in which they are tried.
_WESTERN = ("cp1252", "cp1250", "cp1254", "mac_roman", "cp850")
_OTHERS = (
    *("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874"),
    *("cp932", "gb18030", "big5", "cp949", "euc_jp"),
)
_KANA = re.compile("[\u3041-\u30ff]")
# What Western texts hold beside ASCII: letters, typographic punctuation, a few signs. Not ÿ and þ,
# whose bytes, 0xff and 0xfe, stand in files that are no text.
_WESTERN_TEXT = re.compile(
    "[À-ÖØ-öø-ýŠšŽžŒœŸ\u2018-\u201e\u2013\u2014\u2026\u2022\u2020\u2030\u2039\u203a\u2122€ƒ"
    "\xa0¡¢£¥§©ª«®°±²³´µ¶·¹º»¼½¾¿×÷ĄąĆćĘęŁłŃńŚśŹźŻżČčĎďĚěŇňŘřŤťŮůĞğİıŞşŐőŰű]"
)
# As iconv calls those that it calls otherwise.
_ICONV = {
    "mac_roman": "MACINTOSH",
    "koi8_r": "KOI8-R",
    "euc_jp": "EUC-JP",
    "utf-16-le": "UTF-16LE",
    "utf-16-be": "UTF-16BE",
}
_LETTERS = re.compile(rb"[A-Za-z]")
_HIGH = re.compile(rb"[\x80-\xff]")
_MULTI_BYTE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")


def is_utf8(name: str) -> bool:
    """Whether an encoding is UTF-8, under any of its names."""
    return codecs.lookup(name).name in ("utf-8", "utf-8-sig")


def marked(start: bytes) -> str | None:
    """Returns the encoding that the first bytes of a file tell: UTF-16 or UTF-32."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    # In UTF-16 without a mark, every other byte of what is ASCII is 0.
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = start[first::2].count(0), start[1 - first :: 2].count(0)
        if not others and zeros >= 4 and 2 * zeros >= len(start) // 2:
            return encoding
    return None


def guess_encoding(file: DataFile, line: bytes) -> str | None:
    """Guesses the encoding of a file that holds a line which is not UTF-8.

    Args:
        file: The file.
        line: The line.

    Returns:
        The name that Python knows; `None` if the file is UTF-8 with broken bytes in it.
    """
    with file.open_unpacked() as stream:
        sample = stream.read(SAMPLE)
    sample = sample[: sample.rfind(b"\n") + 1] or sample
    if line not in sample:
        sample += line
    try:
        sample.decode()
        return None
    except UnicodeDecodeError as error:
        # The one broken place is a character that was cut at the end of the file.
        if error.reason == "unexpected end of data":
            return None
    high = len(_HIGH.findall(sample))
    # Most bytes beyond ASCII are of whole characters in UTF-8, and by chance a few in others.
    if 2 * len(_HIGH.findall(sample.decode(errors="ignore").encode())) >= high:
        return None
    letters = len(_LETTERS.findall(sample))
    if high <= 0.3 * (high + letters):
        return next((name for name in _WESTERN if _reads_as_western(sample, name)), None)
    return _guess_other(sample)


def _reads_as_western(sample: bytes, encoding: str) -> bool:
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    beyond = [character for character in text if character > "\x7f"]
    fitting = sum(map(bool, map(_WESTERN_TEXT.match, beyond)))
    # A space that does not break, which many a byte is in an old encoding, tells nothing.
    telling = any(character != "\xa0" for character in beyond)
    # A capital inside a word is no letter that was meant.
    inside = len(re.findall(r"[a-z][À-ÖØ-Þ][a-z]", text))
    return telling and fitting == len(beyond) and 4 * inside <= len(beyond)


def _guess_other(sample: bytes) -> str | None:
    """Guesses the encoding of Cyrillic, Greek, Chinese, Japanese, Korean..."""
    from charset_normalizer import from_bytes

    def text(encoding: str) -> str:
        try:
            return sample.decode(encoding)
        except UnicodeDecodeError:
            return ""

    for encoding in ("cp932", "euc_jp"):
        decoded = text(encoding)
        beyond = sum(character > "\x7f" for character in decoded)
        if beyond and 4 * len(_KANA.findall(decoded)) >= beyond:
            return encoding
    best = from_bytes(sample, cp_isolation=list(_OTHERS)).best()
    if best is None:
        return None
    cyrillic = ("cp1251", "koi8_r")
    if best.encoding in cyrillic:
        # Read as the other, small letters are capitals.
        return max(cyrillic, key=lambda name: sum(map(str.islower, text(name))))
    return best.encoding


def another_encoding(file: DataFile, encoding: str, line: int, raw: bytes) -> DataError:
    """The error for a file that is not UTF-8."""
    name = _ICONV.get(encoding, encoding.upper())
    shown = raw.decode(encoding, errors="ignore").strip().lstrip("\ufeff")[:60]
    plain = file.name.removesuffix(".gz")
    out = f"utf8_{plain.rpartition('/')[2]}"
    unpack = f"gzip -dc {shlex.quote(file.name)} | " if plain != file.name else ""
    given = "" if unpack else f" {shlex.quote(file.name)}"
    command = f"{unpack}iconv -f {name} -t UTF-8{given} > {shlex.quote(out)}"
    return DataError(
        f"The file is not UTF-8; it looks like {name}"
        + (f", in which its line {line} is {shown!r}" if shown else ""),
        where=f"{file.name}:{line}",
        fix=f"name its encoding with --set data.encoding={encoding} "
        f"(evaluate, predict, data: --encoding {encoding}), or convert it: `{command}`"
        + "; named utf-8, such lines are bad rows"
        * (not encoding.startswith("utf")),
    )


def refuse_if_utf8(file: DataFile, encoding: str, start: bytes) -> None:
    """Refuses to read a UTF-8 file in another encoding, which would garble it.

    Raises:
        DataError: The file is UTF-8.
    """
    plain = codecs.lookup(encoding).name
    if is_utf8(encoding) or plain.startswith(("utf-7", "utf-16", "utf-32")):
        return
    start = start[: start.rfind(b"\n") + 1] or start
    try:
        start.decode()
    except UnicodeDecodeError:
        return
    if len(_MULTI_BYTE.findall(start)) >= 3:
        raise DataError(
            f"The file is UTF-8, and would be garbled if read as {encoding}",
            where=file.name,
            fix="--set data.encoding=utf-8 (evaluate, predict, data: --encoding utf-8); if other "
            f"files are in {encoding}, convert those to UTF-8",
        )


class AsUtf8(io.RawIOBase):
    """The bytes of a stream in UTF-8, with line ends of old Macs (a carriage return) as line feeds.

    Bytes that the encoding does not know stay as they are, so that they are found where lines are
    decoded.

    Args:
        stream: The bytes.
        encoding: Their encoding.
    """

    def __init__(self, stream: BinaryIO, encoding: str):
        wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
        self._stream = stream
        errors = "strict" if wide else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._rest = b""
        self._returns: bool | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._rest:
            block = self._stream.read(BLOCK)
            text = self._decoder.decode(block, not block)
            if self._returns is None and text:
                self._returns = "\r" in text and "\n" not in text
            if self._returns:
                text = text.replace("\r", "\n")
            self._rest = text.encode("utf-8", "surrogateescape")
            if not block:
                break
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
