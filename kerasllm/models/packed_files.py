"""Small files as a string, so that a model's configuration holds all of it: its vocabulary too.

KerasHub leaves the vocabulary out of the configuration and writes files beside it; a model that is
cloned has no files.
"""

from __future__ import annotations

import base64
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def pack_files(write: Callable[[Path], None]) -> str:
    """Returns files as a string.

    Args:
        write: Writes them into a folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        files = {
            file.name: base64.b64encode(file.read_bytes()).decode()
            for file in sorted(Path(folder).iterdir())
        }
    return base64.b64encode(zlib.compress(json.dumps(files).encode())).decode()


@contextmanager
def unpacked(packed: str) -> Iterator[Path]:
    """Yields a folder with the files that `pack_files` was given, as long as the block lasts."""
    files = json.loads(zlib.decompress(base64.b64decode(packed)))
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            # A name, and no path out of the folder.
            (Path(folder) / Path(name).name).write_bytes(base64.b64decode(content))
        yield Path(folder)
