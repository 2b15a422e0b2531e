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

import keras_hub


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


def read_vocabulary(tokenizer: keras_hub.tokenizers.Tokenizer, folder: Path) -> None:
    """Gives a KerasHub tokenizer the files that its `save_assets` wrote.

    Its `load_assets` opens no file outside of an archive while Keras loads one in safe mode.
    """
    proto, merges = folder / "vocabulary.spm", folder / "merges.txt"
    if proto.is_file():
        tokenizer.set_proto(proto.read_bytes())
    elif merges.is_file():
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        tokenizer.set_vocabulary_and_merges(vocabulary, _lines(merges))
    else:
        tokenizer.set_vocabulary(_lines(folder / "vocabulary.txt"))


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").rstrip("\n").split("\n")
