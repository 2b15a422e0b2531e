"""Fields of columns that hold objects, by their dotted names: `translation.en`.

A column that is called so itself always wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# Objects within objects: deeper ones are no columns.
_MOST_LEVELS = 4


def value_of(record: Mapping[str, Any], name: str) -> Any:
    """Returns the value of a column of a row, or of a field in it.

    Args:
        record: The row.
        name: The column, or the dotted name of a field.

    Raises:
        KeyError: If the row has no such column or field; it holds `name`.

    Example:

    >>> value_of({"translation": {"en": "A dog.", "de": "Ein Hund."}}, "translation.de")
    'Ein Hund.'
    """
    if name in record:
        return record[name]
    found: Any = record
    for key in name.split("."):
        if not isinstance(found, Mapping) or key not in found:
            raise KeyError(name)
        found = found[key]
    return found


def fields_of(record: Mapping[str, Any]) -> list[str]:
    """Returns the dotted names of what is in the columns of a row that hold objects."""

    def inside(value: Mapping[str, Any], prefix: str, level: int) -> Iterator[str]:
        for key, one in value.items():
            if isinstance(one, Mapping) and level < _MOST_LEVELS:
                yield from inside(one, f"{prefix}{key}.", level + 1)
            elif prefix:
                yield f"{prefix}{key}"

    return list(inside(record, "", 0))


def arrow_type(schema: pa.Schema, name: str) -> pa.DataType:
    """Returns the type of a column of a Parquet file, or of a field in it."""
    if name in schema.names:
        return schema.field(name).type
    first, *others = name.split(".")
    kind = schema.field(first).type
    for key in others:
        kind = kind.field(key).type
    return kind


def arrow_column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Returns the values of a column of a Parquet file, or of a field in it."""
    from pyarrow import compute

    if name in batch.schema.names:
        return batch.column(name)
    first, *others = name.split(".")
    return compute.struct_field(batch.column(first), others)


def arrow_fields(schema: pa.Schema) -> list[str]:
    """Returns the dotted names of what is in the columns that hold objects."""
    from pyarrow import types

    def inside(fields: Sequence[pa.Field], prefix: str, level: int) -> Iterator[str]:
        for field in fields:
            kind = field.type
            if types.is_struct(kind) and level < _MOST_LEVELS:
                inner = [kind.field(place) for place in range(kind.num_fields)]
                yield from inside(inner, f"{prefix}{field.name}.", level + 1)
            elif prefix:
                yield f"{prefix}{field.name}"

    return list(inside(list(schema), "", 0))
