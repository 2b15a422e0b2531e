"""The reader of Parquet files; see formats.py for what a reader yields."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kerasllm.data.readers.files import BLOCK, DataFile
from kerasllm.data.readers.text_lines import describe_broken_byte
from kerasllm.errors import DataError

_BATCH = 8192


def parquet_columns(file: DataFile) -> list[str]:
    """The names of the columns; none if the file has no byte."""
    with _open(file) as parquet:
        return parquet.schema_arrow.names if parquet else []


def parquet_rows(
    file: DataFile, text: str | None, label: str | None
) -> Iterator[tuple[int, Any, Any, str | None]]:
    """Yields number, text, label and problem of each row."""
    import pyarrow

    columns = [text] if label is None else [text, label]
    done = 0
    with _open(file) as parquet:
        _check_types(file, parquet.schema_arrow, text, label)
        try:
            for batch in parquet.iter_batches(_BATCH, columns=columns):
                texts, labels = batch.column(text), batch.column(columns[-1])
                try:
                    pairs = zip(texts.to_pylist(), labels.to_pylist())
                except UnicodeDecodeError:
                    pairs = map(_pair, texts, labels)
                for row, (value, name) in enumerate(pairs, start=done + 1):
                    if type(value) is UnicodeDecodeError:
                        yield row, None, None, describe_broken_byte(value)
                    else:
                        yield row, value, name, None
                done += batch.num_rows
        except (OSError, pyarrow.ArrowException) as error:
            raise _damaged(file, done, error) from error


def parquet_records(file: DataFile) -> Iterator[tuple[int, dict | None, str | None]]:
    """Yields number, values by column and problem of each row.

    Args:
        file: The file.
    """
    import pyarrow

    done = 0
    with _open(file) as parquet:
        try:
            for batch in parquet.iter_batches(_BATCH) if parquet else ():
                for row in range(batch.num_rows):
                    try:
                        yield done + row + 1, batch.slice(row, 1).to_pylist()[0], None
                    except UnicodeDecodeError as error:
                        yield done + row + 1, None, describe_broken_byte(error)
                done += batch.num_rows
        except (OSError, pyarrow.ArrowException) as error:
            raise _damaged(file, done, error) from error


@contextlib.contextmanager
def _open(file: DataFile) -> Iterator[Any]:
    """Opens a `ParquetFile`; `None` for a file without a byte."""
    import pyarrow
    from pyarrow import parquet

    with file.open() as stream:
        stream.seek(0, 2)
        if not stream.tell():
            yield None
            return
        try:
            # With a buffer size, a column is read piece by piece, not a whole row group at once.
            opened = parquet.ParquetFile(stream, buffer_size=BLOCK)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(
                f"The file is not Parquet, or it is cut short: {error}",
                where=file.name,
                fix="copy or write it again",
            ) from error
        yield opened


def _pair(text: Any, label: Any) -> tuple[Any, Any]:
    """The two values; the error in place of the text if either holds broken bytes."""
    try:
        return text.as_py(), label.as_py()
    except UnicodeDecodeError as error:
        return error, None


def _check_types(file: DataFile, schema: Any, text: str, label: str | None) -> None:
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        return (
            types.is_string(kind)
            or types.is_large_string(kind)
            or types.is_string_view(kind)
            or types.is_null(kind)
        )

    def is_label(kind: Any) -> bool:
        return (
            is_text(kind)
            or types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_boolean(kind)
        )

    for role, name, fits, expected in (
        ("text", text, is_text, "strings"),
        ("label", label, is_label, "strings, integers, floats or booleans"),
    ):
        if name is None:
            continue
        kind = schema.field(name).type
        if not fits(kind.value_type if types.is_dictionary(kind) else kind):
            raise DataError(
                f"The {role} column '{name}' holds {kind}, where {expected} are expected",
                where=file.name,
                fix=f"name another column with --set data.{role}=NAME, or convert this one",
            )


def _damaged(file: DataFile, done: int, error: Exception) -> DataError:
    return DataError(
        f"The Parquet file is damaged: {error}",
        where=f"{file.name}, after row {done}",
        fix="copy or write it again",
    )
