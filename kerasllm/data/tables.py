"""Tables in memory become Parquet files in the cache folder, and are read as any other file."""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.data.readers.class_labels import class_names, with_class_names
from kerasllm.environment import cache_dir
from kerasllm.errors import DataError, JobError

if TYPE_CHECKING:
    import pyarrow as pa

_FOLDER = "tables"
# Values that are Python objects at a time, while they are hashed.
_BATCH = 1 << 16
_TAKEN = (
    "a pandas DataFrame, a pyarrow Table, a datasets.Dataset, a list of dicts, or files by their "
    "names"
)


def is_table(data: Any) -> bool:
    """Returns whether data is given itself, rather than as the names of files.

    Args:
        data: What a user gave: a path, a list of paths, or anything else.

    Example:
        >>> is_table("reviews.csv"), is_table(["a.csv", "b.csv"]), is_table([{"text": "good"}])
        (False, False, True)
    """
    if data is None or isinstance(data, (str, os.PathLike)):
        return False
    if isinstance(data, (list, tuple)):
        return any(not isinstance(one, (str, os.PathLike)) for one in data)
    return True


def table_file(data: Any) -> Path:
    """Writes a table to a Parquet file in the cache folder, unless it was written before.

    The file is named by what the table holds: the same columns with the same values are the same
    file, regardless of the kind of table, so that a resumed run finds its data and tokens that were
    cached are found again.

    Args:
        data: A pandas DataFrame (its index is ignored), a pyarrow Table, a `datasets.Dataset` (the
            integers of a `ClassLabel` become its names), a list of dicts (a key may be missing in
            some), or what else has Arrow's `__arrow_c_stream__`, such as a polars DataFrame.

    Returns:
        The path of the file.

    Raises:
        DataError: If it is not such a table, has no rows, names a column twice, or has a column
            that Parquet cannot hold.
        JobError: If the file cannot be written.

    Example:

    ```python
    table_file([{"text": "A film to remember.", "label": "positive"}])
    # PosixPath('/home/me/.cache/kerasllm/tables/2c26b46b68ffc68f.parquet')
    ```
    """
    import pyarrow as pa

    try:
        table = _as_arrow(data)
        _check_names(table.column_names)
        table = table.replace_schema_metadata(_class_names(table))
        if not len(table):
            raise DataError("The table has no rows", fix="give one with rows")
        path = cache_dir() / _FOLDER / f"{_digest(table)}.parquet"
        if not path.is_file():
            _write(table, path)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        # Arrow's second argument is the column.
        why = "; ".join(map(str, error.args)) if isinstance(error, pa.ArrowException) else error
        raise DataError(
            f"A column of the table has values of different types: {why}",
            fix="give its values one type, as with df[column].astype(str), or leave the column out",
        ) from error
    return path


def as_files(data: Any) -> str | list[str]:
    """Returns data as what names files: those that were given, or the file of a table.

    Args:
        data: A path, a glob, `starter:NAME`, a list of these, or a table as for `table_file`.
    """
    if is_table(data):
        return str(table_file(data))
    if isinstance(data, (list, tuple)):
        return [os.fspath(one) for one in data]
    return os.fspath(data)


def shown_name(path: str) -> str:
    """Returns what messages call a file: a table in memory has no path that a user knows."""
    return "the table" if Path(path).parent == cache_dir() / _FOLDER else path


def _as_arrow(data: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    if _is_a("pandas", "DataFrame", data):
        names = [str(name) for name in data.columns]
        _check_names(names)
        return pa.Table.from_pandas(data.set_axis(names, axis="columns"), preserve_index=False)
    if _is_a("datasets", "Dataset", data):
        return _from_datasets(data)
    if _is_a("datasets", "DatasetDict", data):
        raise DataError(
            f"This holds several data sets: {', '.join(map(str, data))}",
            fix='choose one, as in dataset["train"]',
        )
    if isinstance(data, (list, tuple)):
        return _from_rows(data)
    if hasattr(data, "__arrow_c_stream__") and not _is_a("pandas", "Series", data):
        return pa.table(data)
    raise DataError(f"This is not data: {_type_of(data)}", fix=f"give {_TAKEN}")


def _from_rows(rows: Sequence) -> pa.Table:
    import pyarrow as pa

    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(
                f"A list of dicts is expected, and item {number} is {_type_of(row)}",
                fix=f"give {_TAKEN}",
            )
    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = []
    for name in names:
        try:
            columns.append(pa.array([row.get(name) for row in rows], from_pandas=True))
        except pa.ArrowException as error:
            error.args = (*error.args, f"the key {name!r}")
            raise
    return pa.table(columns, [str(name) for name in names])


def _from_datasets(dataset: Any) -> pa.Table:
    import pyarrow as pa

    # Of a data set that was shuffled or filtered, the rows in their order.
    table = dataset.with_format("arrow")[:].replace_schema_metadata(None)
    numbered = {}
    for place, name in enumerate(table.column_names):
        if labels := _label_names(dataset.features[name]):
            values = table.column(name).to_pylist()
            if any(map(_is_unlabelled, values)):
                # Rows without a label are told by their number, and left out by what reads them.
                numbered[name] = labels
                continue
            values = [_named(value, labels) for value in values]
            table = table.set_column(place, name, pa.array(values))
    return table.replace_schema_metadata(with_class_names({}, numbered)) if numbered else table


def _class_names(table: pa.Table) -> dict[bytes, bytes] | None:
    """Returns the metadata of a table that names classes, and no other."""
    found = {name: class_names(table.schema.metadata, name) for name in table.column_names}
    found = {name: names for name, names in found.items() if names}
    return with_class_names({}, found) if found else None


def _label_names(feature: Any) -> list[str] | None:
    """Returns the names of a `ClassLabel`, or of lists of them."""
    while not _is_a("datasets", "ClassLabel", feature):
        if isinstance(feature, list) and feature:
            feature = feature[0]
        elif hasattr(feature, "feature"):
            feature = feature.feature
        else:
            return None
    return feature.names


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return None if value is None else names[value]


def _is_unlabelled(value: Any) -> bool:
    """Whether the number of a class, or one in a list, is -1: there is no label."""
    if isinstance(value, list):
        return any(map(_is_unlabelled, value))
    return value is not None and value < 0


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise DataError("The table has no columns", fix=f"give {_TAKEN}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"The table names the column '{twice}' {names.count(twice)} times",
            fix="rename all but one of them",
        )


def _digest(table: pa.Table) -> str:
    """Returns a fingerprint of the names and the values, regardless of Arrow's layout."""
    from pyarrow import types

    digest = hashlib.sha256()
    for key, value in (table.schema.metadata or {}).items():
        digest.update(key + value)
    for name, column in zip(table.column_names, table.columns):
        # Readers round what was float32.
        kind = column.type if types.is_floating(column.type) else ""
        digest.update(f"{name!r} {kind}\n".encode())
        for chunk in column.chunks:
            for start in range(0, len(chunk), _BATCH):
                values = chunk.slice(start, _BATCH).to_pylist()
                digest.update("".join(f"{value!r}\n" for value in values).encode())
    return digest.hexdigest()[:32]


def _write(table: pa.Table, path: Path) -> None:
    """Writes a file whole or not at all."""
    from pyarrow import parquet

    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            parquet.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise JobError(
            f"The table cannot be written: {error.strerror or error}",
            where=str(path.parent),
            fix="free some space and make the folder writable, or set KERASLLM_CACHE to another",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _is_a(package: str, name: str, value: Any) -> bool:
    """Whether a value is of a class of a package that is imported only where the user did."""
    found = getattr(sys.modules.get(package), name, None)
    return isinstance(found, type) and isinstance(value, found)


def _type_of(value: Any) -> str:
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
