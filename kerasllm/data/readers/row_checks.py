"""Checks of rows, and the locations of bad rows, shared by all readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerasllm.data.readers.faults import BROKEN_BYTES, EMPTY_TEXT, TEXT_TYPE, Fault
from kerasllm.data.readers.json_files import json_kind

BAD_ROWS_SHOWN = 5
"""How many bad rows a message shows."""

SKIP_ROWS = "let finetune skip bad rows: --set data.on_bad_row=skip (evaluate: --on-bad-row skip)"


def text_problem(role: str, value: Any) -> str | None:
    """Says what is wrong with a value that should be a text, or returns `None`.

    Args:
        role: What the text is, for the message.
        value: The value.
    """
    if type(value) is str:
        if not value or value.isspace():
            return Fault(f"the {role} is empty", EMPTY_TEXT)
        return None if value.isascii() else surrogate_problem(role, value)
    if value is None:
        return Fault(f"the {role} is empty", EMPTY_TEXT)
    return Fault(f"the {role} is {json_kind(value)}, where a string is expected", TEXT_TYPE)


def surrogate_problem(role: str, value: str) -> Fault | None:
    r"""Says what is wrong with a text that no UTF-8 file can hold, or returns `None`.

    JSON can write half a character (`"\ud83d"`).

    Args:
        role: What the text is, for the message.
        value: The text.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        what = f"the {role} holds \\u{ord(value[error.start]):x}, which is half a character"
        return Fault(what, BROKEN_BYTES)
    return None


def what_to_do(bad: int, good: int, *, skip: str = SKIP_ROWS) -> str:
    """Says what to do about bad rows: skipping them is no help where they are nearly all there are.

    Args:
        bad: The number of bad rows.
        good: That of the others.
        skip: How bad rows are skipped. Defaults to `SKIP_ROWS`.
    """
    if 10 * good < bad:
        few = f"only {good:,} would be" if good else "nothing would be"
        return f"correct the file, or give another one: {few} left without the bad rows"
    return f"correct the file, or {skip}"


def places(bad_rows: Sequence[tuple[str, int, str]], count: int) -> str:
    """The first bad rows, one a line, as an error names them.

    Args:
        bad_rows: The first bad rows: file, line, why.
        count: The number of all of them.
    """
    shown = [f"{file}:{line}: {why}" for file, line, why in bad_rows[:BAD_ROWS_SHOWN]]
    if count > len(shown):
        shown.append(f"and {count - len(shown):,} more")
    return "\n         ".join(shown)
