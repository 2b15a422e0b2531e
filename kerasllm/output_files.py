"""The files that commands write: their folders are made before the work begins."""

from __future__ import annotations

import os
from pathlib import Path

from kerasllm.errors import CommandError


def make_folder_of(path: Path, option: str = "--output") -> None:
    """Makes the folder of a file that is to be written.

    Args:
        path: The file.
        option: The option that names it. Defaults to `"--output"`.

    Raises:
        CommandError: The path is a folder, or its folder cannot be made or written.
    """
    if path.is_dir():
        raise CommandError("This is a directory", where=str(path), fix=f"name a file with {option}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"The directory cannot be made: {error.strerror}",
            where=str(path.parent),
            fix=f"name a file in another one with {option}",
        ) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CommandError(
            "The directory cannot be written",
            where=str(path.parent),
            fix=f"name a file in another one with {option}",
        )
