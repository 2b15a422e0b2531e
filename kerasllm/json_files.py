"""JSON that others wrote: any problem with it is an `OSError` or a `ValueError`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_LEVELS = 100
"""How often a value of JSON may be nested."""


def read_json_file(path: str | Path) -> Any:
    """Returns the value of a JSON file in UTF-8.

    Raises:
        OSError: If it cannot be read, or is a pipe or a device, which may have no end.
        ValueError: If it is not UTF-8, no JSON, or nested too deeply.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(None, "it is not a regular file")
    return parse_json(Path(path).read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: If it is not JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if is_deep(value):
        raise ValueError("it is nested too deeply")
    return value


def is_deep(value: Any) -> bool:
    """Whether a value of JSON is nested so deeply that what goes through it could fail.

    What prints, copies or writes a value calls itself for each level.
    """
    level = [value] if type(value) in (dict, list) else []
    for _ in range(MOST_LEVELS):
        within = (each.values() if type(each) is dict else each for each in level)
        level = [inner for each in within for inner in each if type(inner) in (dict, list)]
        if not level:
            return False
    return True
