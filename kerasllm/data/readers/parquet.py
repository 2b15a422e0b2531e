"""The reader of Parquet files; see formats.py for what a reader yields."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kerasllm.data.readers.class_labels import ClassLabels, class_names
from kerasllm.data.readers.compression import MOST_TIMES
from kerasllm.data.readers.data_file import BLOCK, DataFile
from kerasllm.data.readers.fields import arrow_column, arrow_fields, arrow_type
from kerasllm.data.readers.text_lines import describe_broken_byte, refuse_other_formats
from kerasllm.errors import DataError

if TYPE_CHECKING:
    from kerasllm.data.readers.formats import Columns

_BATCH = 8192
_BATCH_BYTES = 1 << 26
_LARGEST_COLUMN = 1 << 30


def parquet_columns(file: DataFile) -> list[str]:
    """The names of the columns; none if the file has no byte."""
    with _open(file) as parquet:
        return parquet.schema_arrow.names if parquet else []


def parquet_fields(file: DataFile) -> list[str]:
    """The dotted names of what is in columns that hold objects."""
    with _open(file) as parquet:
        return arrow_fields(parquet.schema_arrow) if parquet else []


def parquet_class_labels(file: DataFile, column: str) -> ClassLabels | None:
    """The names of the classes that a column of whole numbers stands for, if the file has them."""
    from pyarrow import types

    with _open(file) as parquet:
        names = class_names(parquet.schema_arrow.metadata, column)
        if names is None:
            return None
        kind = parquet.schema_arrow.field(column).type
        if _is_list(kind):
            return ClassLabels(names) if types.is_integer(kind.value_type) else None
        if types.is_integer(kind):
            return ClassLabels(names, _may_be_negative(parquet, column))
        return None


def _may_be_negative(parquet: Any, column: str) -> bool:
    metadata = parquet.metadata
    place = parquet.schema_arrow.get_field_index(column)
    if metadata.num_columns != len(parquet.schema_arrow.names):
        # Columns of several values have several places.
        return True
    for group in range(metadata.num_row_groups):
        found = metadata.row_group(group).column(place).statistics
        if found is None or not found.has_min_max:
            # All of them may be missing, which is not a label either.
            if found is None or found.null_count != metadata.row_group(group).num_rows:
                return True
        elif found.min < 0:
            return True
    return False


def parquet_rows(file: DataFile, columns: Columns) -> Iterator[tuple[int, Sequence, str | None]]:
    """Yields number, values and problem of each row."""
    import pyarrow

    names: list[Any] = [*columns.texts, *columns.labels]
    done = 0
    with _open(file) as parquet:
        _check_types(file, parquet.schema_arrow, columns)
        try:
            for batch in _batches(file, parquet, list(dict.fromkeys(names))):
                found = [values_of(arrow_column(batch, name)) for name in names]
                for row, values in enumerate(zip(*found, strict=True), start=done + 1):
                    broken = next((one for one in values if type(one) is UnicodeDecodeError), None)
                    if broken is None:
                        yield row, values, None
                    else:
                        yield row, (), describe_broken_byte(broken)
                done += batch.num_rows
        except (OSError, pyarrow.ArrowException) as error:
            raise _damaged(file, done, error) from error


def parquet_batches(
    file: DataFile, columns: Columns
) -> Iterator[tuple[int, Any, list[Sequence | str]]]:
    """Yields consecutive rows together, with all columns as they are stored.

    Args:
        file: The file.
        columns: The columns of the texts.

    Yields:
        The number of the first row, a `pyarrow.RecordBatch`, and for each row the values of the
        texts, or a string: why they cannot be read.
    """
    import pyarrow

    done = 0
    texts: list[Any] = [*columns.texts]
    with _open(file) as parquet:
        _check_types(file, parquet.schema_arrow, columns)
        try:
            for batch in _batches(file, parquet):
                found: list[Sequence | str] = [] if texts else [()] * batch.num_rows
                columns_of_texts = [values_of(arrow_column(batch, name)) for name in texts]
                for values in zip(*columns_of_texts, strict=True):
                    broken = next((one for one in values if type(one) is UnicodeDecodeError), None)
                    found.append(values if broken is None else describe_broken_byte(broken))
                yield done + 1, batch, found
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
            for batch in _batches(file, parquet) if parquet else ():
                names = batch.schema.names
                columns = [values_of(column) for column in batch.columns]
                rows = zip(*columns, strict=True) if columns else ()
                for row, values in enumerate(rows, start=done + 1):
                    broken = next((one for one in values if type(one) is UnicodeDecodeError), None)
                    if broken is None:
                        yield row, dict(zip(names, values)), None
                    else:
                        yield row, None, describe_broken_byte(broken)
                done += batch.num_rows
        except (OSError, pyarrow.ArrowException) as error:
            raise _damaged(file, done, error) from error


def parquet_schema(file: DataFile) -> Any:
    """Returns the types of the columns, a `pyarrow.Schema`; `None` for a file without a byte."""
    with _open(file) as parquet:
        return parquet.schema_arrow if parquet else None


def _batches(file: DataFile, parquet: Any, columns: list[str] | None = None) -> Iterator[Any]:
    """Yields consecutive rows, as many as fill no more than some 64 MB.

    A value that a dictionary holds once takes its place in each row, so that a file of a kilobyte
    can hold gigabytes: how long the values may be, the dictionary tells.

    Raises:
        DataError: A column is stored so that pages of it fill the memory.
    """
    metadata = parquet.metadata
    for number in range(metadata.num_row_groups):
        group, width, by_dictionary = metadata.row_group(number), 0.0, []
        for place in range(group.num_columns):
            column = group.column(place)
            if columns is not None and not _is_of(column.path_in_schema, columns):
                continue
            size, stored = column.total_uncompressed_size, column.total_compressed_size
            if size > _LARGEST_COLUMN and size > MOST_TIMES * stored:
                raise DataError(
                    f"The column '{column.path_in_schema}' unpacks to more than {MOST_TIMES} times "
                    "its size",
                    where=file.name,
                    fix="write the file again, in row groups of some hundred megabytes, if this is "
                    "expected",
                )
            width += size / max(1, group.num_rows)
            # Of a short one no value is long.
            if column.physical_type == "BYTE_ARRAY" and size > _BATCH_BYTES // _BATCH:
                if any("DICTIONARY" in encoding for encoding in column.encodings):
                    by_dictionary.append(column.path_in_schema)
        width = max(width, _longest_value(file, number, by_dictionary), 1.0)
        rows = max(1, min(_BATCH, int(_BATCH_BYTES / width)))
        yield from parquet.iter_batches(rows, row_groups=[number], columns=columns)


def _is_of(path: str, columns: list[str]) -> bool:
    """Whether a place in the schema is one of some columns, or within one."""
    return any(path == name or path.startswith(f"{name}.") for name in columns)


def _longest_value(file: DataFile, group: int, paths: list[str]) -> int:
    """Returns the bytes of the longest value in the dictionaries of some columns."""
    from pyarrow import parquet

    if not paths:
        return 0
    with file.open() as stream:
        opened = parquet.ParquetFile(stream, buffer_size=BLOCK, read_dictionary=paths)
        first = next(opened.iter_batches(1, row_groups=[group], columns=paths), None)
        return max(map(_longest_in, first.columns), default=0) if first else 0


def _longest_in(array: Any) -> int:
    from pyarrow import compute, types

    kind = array.type
    if types.is_dictionary(kind):
        return compute.max(compute.binary_length(array.dictionary)).as_py() or 0
    if types.is_struct(kind):
        inner = [array.field(place) for place in range(kind.num_fields)]
    else:
        inner = [array.values] if _is_list(kind) else []
    return max(map(_longest_in, inner), default=0)


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
            stream.seek(0)
            start = stream.read(BLOCK)
            if not start.startswith(b"PAR1"):
                refuse_other_formats(file, start)
            raise DataError(
                f"The file is not Parquet, or it is truncated: {error}",
                where=file.name,
                fix="copy or write it again",
            ) from error
        yield opened


def values_of(column: Any) -> list:
    """The values of a column; the error instead of those that hold broken bytes."""
    import numpy as np
    from pyarrow import types

    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        return list(map(_value, column))
    kind = column.type
    while types.is_dictionary(kind) or _is_list(kind):
        kind = kind.value_type
    if types.is_float32(kind) or types.is_float16(kind):
        # 0.1 as it was written, not 0.10000000149011612, which is the float64 closest to it.
        rounded = np.dtype(kind.to_pandas_dtype()).type

        def short(value: Any) -> Any:
            if isinstance(value, list):
                return list(map(short, value))
            return value if value is None else float(str(rounded(value)))

        return list(map(short, values))
    return values


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        return error


def _check_types(file: DataFile, schema: Any, columns: Columns) -> None:
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        return (
            types.is_string(kind)
            or types.is_large_string(kind)
            or types.is_string_view(kind)
            or types.is_null(kind)
        )

    def is_label(kind: Any) -> bool:
        if _is_list(kind):
            return is_label(kind.value_type) and not types.is_nested(kind.value_type)
        return (
            is_text(kind)
            or types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_boolean(kind)
        )

    expected_labels = "strings, integers, floats, booleans or lists of these"
    roles: list[Any] = [("text", name, is_text, "strings") for name in columns.texts]
    roles += [("label", name, is_label, expected_labels) for name in columns.labels]
    for role, name, fits, expected in roles:
        kind = arrow_type(schema, name)
        if not fits(kind.value_type if types.is_dictionary(kind) else kind):
            inner = [one for one in arrow_fields(schema) if one.startswith(f"{name}.")]
            raise DataError(
                f"The {role} column '{name}' holds {kind}, where {expected} are expected",
                where=file.name,
                fix=f"name another column with --set data.{role}=NAME, or "
                + (f"a field of this one: {', '.join(inner[:5])}" if inner else "convert this one"),
            )


def _damaged(file: DataFile, done: int, error: Exception) -> DataError:
    return DataError(
        f"The Parquet file is damaged: {error}",
        where=f"{file.name}, after row {done}",
        fix="copy or write it again",
    )
