"""The types of columns: those that files have, and those of values that come from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# Values whose type is inferred together.
_BLOCK = 8192


class ColumnTypes:
    """The types of columns whose values come from JSON, and those that a file has."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._block: dict[str, list] = {}
        self._count = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a row of values."""
        for name, value in row.items():
            self._block.setdefault(name, []).append(value)
        self._count += 1
        if self._count == _BLOCK:
            self._infer()

    def known(self, schema: pa.Schema) -> None:
        """Takes the types that a file has."""
        for field in schema:
            self._merge(field.name, field.type)

    def schema(self, columns: Sequence[str] | Mapping[str, Any]) -> pa.Schema:
        """Returns the types of columns; strings where nothing is known."""
        import pyarrow as pa

        self._infer()
        found = {name: self._found.get(name, pa.null()) for name in columns}
        strings = {name: pa.string() for name, kind in found.items() if pa.types.is_null(kind)}
        return pa.schema({**found, **strings})

    def _infer(self) -> None:
        import pyarrow as pa

        for name, values in self._block.items():
            try:
                self._merge(name, _writable(pa.array(values).type))
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                # Written as JSON.
                self._found[name] = pa.string()
        self._block, self._count = {}, 0

    def _merge(self, name: str, kind: pa.DataType) -> None:
        import pyarrow as pa

        before = self._found.setdefault(name, kind)
        if before != kind:
            schemas = [pa.schema([(name, each)]) for each in (before, kind)]
            try:
                self._found[name] = pa.unify_schemas(schemas, promote_options="permissive")[0].type
            except pa.ArrowException:
                self._found[name] = pa.string()


def _writable(kind: pa.DataType) -> pa.DataType:
    """Returns a type, if Parquet has it: it has no object without keys."""
    import pyarrow as pa

    if pa.types.is_struct(kind) and not kind.num_fields:
        raise pa.ArrowInvalid("an object without keys")
    for place in range(kind.num_fields):
        _writable(kind.field(place).type)
    return kind
