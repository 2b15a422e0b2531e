"""Reads the files of a recipe into token stores, and reports how they were read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.data.readers.faults import counted_reasons
from kerasllm.data.readers.files import Spec, read_as
from kerasllm.data.readers.sources import Source
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.token_store import open_or_build
from kerasllm.errors import DataError

if TYPE_CHECKING:
    # Importing it imports TensorFlow, which the commands prepare first.
    from kerasllm.data.tokenizers import Tokenizer


def open_tokens(
    source: Source,
    tokenizer: Tokenizer,
    max_length: int,
    *,
    folder: Path,
    notify: Callable[[str], None] | None = None,
    **options,
) -> TokenStore:
    """Returns the tokens of a source, from the store if it was read before.

    Args:
        source: The rows.
        tokenizer: Turns their texts into token ids.
        max_length: The maximum number of tokens of a row, special tokens included.
        folder: Where stores are kept.
        notify: Called with what is being done. Defaults to `None`.
        **options: See `kerasllm.data.token_store.open_or_build`.

    Raises:
        DataError: If a file is missing, broken or has no rows.
    """
    name = ", ".join(Path(file).name for file in source.files)
    progress = None
    if notify:
        notify(f"reading {name}")

        def progress(rows: int) -> None:
            notify(f"tokenizing {name}: {rows:,} rows")

    store = open_or_build(
        source, tokenizer, max_length, folder=folder, progress=progress, **options
    )
    if not len(store):
        raise DataError(
            "The files contain no rows", where=", ".join(source.files), fix="give a file with rows"
        )
    return store


def reading_of(data: Any, options: Any = None) -> dict[str, str | None]:
    """Returns how the text of files is read: the encoding, and the delimiter of tables.

    Args:
        data: The `data` part of a recipe, or `None`.
        options: What a command was told besides, which goes before. Defaults to `None`.
    """
    # Recipes of tasks of other packages may not have these keys.
    return {
        key: getattr(options, key, None) or getattr(data, key, None)
        for key in ("encoding", "delimiter")
    }


def files_of(data: Any, part: str) -> Spec | None:
    """Returns what a recipe names for a part of its data, to be read as it says.

    Args:
        data: The `data` part of a recipe.
        part: `"train"`, `"validation"` or `"test"`.
    """
    spec = getattr(data, part)
    return spec and read_as(spec, part, preferred="text", **reading_of(data))


def remarks(store: TokenStore) -> list[str]:
    """Returns what a user should know of how a store was made: what was left out or repaired."""
    found = list(store.file_remarks)
    if store.skipped:
        file, line, why = store.skipped_rows[0]
        were = "1 bad row was" if store.skipped == 1 else f"{store.skipped:,} bad rows were"
        reasons = store.noted.get("skipped_reasons")
        counted = f" ({counted_reasons(reasons)})" if reasons else ""
        found.append(f"{were} skipped{counted}, the first at {file}:{line}: {why}")
    found += store.noted.get("notes", ())
    if store.damage:
        found.append(f"the texts were tokenized again; {store.damage}")
    return found


def place_of(store: TokenStore) -> Callable[[int], str]:
    """Returns a function from a row's number to its `file:line`."""

    def place(row: int) -> str:
        file, line = store.where(row)
        return f"{file}:{line}"

    return place
