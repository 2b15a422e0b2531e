"""Parquet files of rows and what was predicted for them, written part by part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.data.answer_files import Answer, AnswerFile, cell
from kerasllm.data.readers.whole_rows import ArrowRow

if TYPE_CHECKING:
    import pyarrow as pa

# A row group of the finished file.
_GROUP_ROWS, _GROUP_BYTES = 1 << 17, 1 << 26


class Parquet(AnswerFile):
    """A .parquet file: a part for each commit, put together in the end."""

    form = "typed"

    def _open(self, position: Mapping[str, Any] | None) -> None:
        self._parts = position["parts"] if position else 0
        self._waiting: list[pa.Table] = []
        self._whole: pa.Schema | None = None
        if self._parts:
            from pyarrow import parquet

            self._whole = parquet.read_schema(self._part(0))

    def write(self, answers: Sequence[Answer]) -> None:
        import pyarrow as pa

        if not answers:
            return
        if self._whole is None:
            self._whole = self._schema_with(answers)
        kept = self._kept_columns(answers)
        columns = [kept[name] for name in self.kept]
        for field in list(self._whole)[len(self.kept) : len(self._whole) - self.errors]:
            name = field.metadata[b"predicted"].decode()
            values = [None if one.predicted is None else one.predicted[name] for one in answers]
            columns.append(pa.array(values, field.type))
        if self.errors:
            columns.append(pa.array([each.error for each in answers], pa.string()))
        self._waiting.append(pa.Table.from_arrays(columns, schema=self._whole))

    def commit(self) -> dict:
        import pyarrow as pa
        from pyarrow import parquet

        if self._waiting:
            path = self._part(self._parts)
            with open(path, "wb") as file:
                parquet.write_table(pa.concat_tables(self._waiting), file)
                file.flush()
                os.fsync(file.fileno())
            self._waiting, self._parts = [], self._parts + 1
        return {"parts": self._parts}

    def finish(self) -> Path:
        import pyarrow as pa
        from pyarrow import parquet

        self.commit()
        path, waiting = self.folder / "rows", []
        plain = pa.schema([field.remove_metadata() for field in self._whole])
        with parquet.ParquetWriter(path, plain) as writer:
            for number in range(self._parts):
                part = parquet.read_table(self._part(number), partitioning=None)
                waiting.append(part.cast(plain))
                rows, size = (sum(getattr(t, n) for t in waiting) for n in ("num_rows", "nbytes"))
                if rows >= _GROUP_ROWS or size >= _GROUP_BYTES or number + 1 == self._parts:
                    writer.write_table(pa.concat_tables(waiting), row_group_size=_GROUP_ROWS)
                    waiting = []
        return path

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"

    def _schema_with(self, answers: Sequence[Answer]) -> pa.Schema:
        """Returns the whole schema: kept columns, what is predicted, errors."""
        import pyarrow as pa

        fields = [self._kept_field(name) for name in self.kept]
        good = [each.predicted for each in answers if each.predicted is not None]
        for name in good[0]:
            kind = pa.array([each[name] for each in good]).type
            kind = pa.string() if pa.types.is_null(kind) else kind
            fields.append(pa.field(self.name_of(name), kind, metadata={"predicted": name}))
        if self.errors:
            fields.append(pa.field(self.name_of("error"), pa.string()))
        return pa.schema(fields)

    def _kept_field(self, name: str) -> pa.Field:
        import pyarrow as pa

        known = self.schema is not None and name in self.schema.names
        return pa.field(name, self.schema.field(name).type if known else pa.string())

    def _kept_columns(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Returns the kept columns; those of a Parquet file as they are stored there."""
        import pyarrow as pa

        fields = [self._whole.field(place) for place in range(len(self.kept))]
        rows = [each.kept for each in answers]
        if not all(isinstance(row, ArrowRow) for row in rows):
            return {
                field.name: pa.array(
                    [_typed(row.get(field.name), field.type) for row in rows], field.type
                )
                for field in fields
            }
        chunks: dict[str, list] = {field.name: [] for field in fields}
        start = 0
        for end in range(1, len(rows) + 1):
            columns = rows[start].columns
            if end < len(rows) and rows[end].columns is columns:
                continue
            there = columns.batch.select([name for name in self.kept if name in rows[start]])
            taken = there.take(pa.array([row.row for row in rows[start:end]]))
            for field in fields:
                chunks[field.name].append(
                    taken.column(field.name).cast(field.type)
                    if field.name in taken.schema.names
                    else pa.nulls(end - start, field.type)
                )
            start = end
        return {f.name: pa.chunked_array(chunks[f.name], f.type) for f in fields}


def _typed(value: Any, kind: pa.DataType) -> Any:
    """Returns a value for an array of a type: JSON, where the column's values have no one type."""
    import pyarrow as pa

    if not pa.types.is_string(kind) or value is None:
        return value
    return cell(value).encode(errors="replace").decode()
