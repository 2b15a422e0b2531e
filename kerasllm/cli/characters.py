"""Characters that the terminal's encoding cannot write are written as escapes."""

from __future__ import annotations

import codecs
import sys

_NAME = "kerasllm.escape"


def escape_what_cannot_be_written() -> None:
    """Lets stdout and stderr write as escapes what their encoding has no characters for.

    `PYTHONIOENCODING=cp1252`, an old terminal or a C locale have few. An escape is that of JSON, so
    that what `--json` prints stays JSON.
    """
    codecs.register_error(_NAME, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_NAME)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end
