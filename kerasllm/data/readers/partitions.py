"""Columns that folders name, as Hive, Spark and Arrow write them: `label=pos/part-0.parquet`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kerasllm.data.label_cells import label_text, shown
from kerasllm.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from kerasllm.data.readers.data_file import DataFile
    from kerasllm.data.readers.formats import Columns, Format, Row


def with_partitions(form: Format, file: DataFile) -> Format:
    """Returns the format of a file that also has the columns of its folders.

    A file may have such a column too, if it holds the same in each row. A text file is a text a
    line, as Spark writes it, in a column `text`.

    Args:
        form: The format of the file alone.
        file: The file.
    """
    own = form.columns or (lambda file: ["text"])

    def columns(file: DataFile) -> list[str]:
        names = own(file)
        return names and [*names, *(name for name in file.partitions if name not in names)]

    def rows(file: DataFile, wanted: Columns, notes: Any = None) -> Iterator[Row]:
        return _rows(form, file, wanted, notes)

    def class_labels(file: DataFile, column: str) -> Any:
        there = form.class_labels is not None and column in own(file)
        return form.class_labels(file, column) if there else None

    name = f"{form.name} in {'/'.join(f'{k}={v}' for k, v in file.partitions.items())}"
    return dataclasses.replace(
        form, name=name, columns=columns, rows=rows, class_labels=class_labels
    )


def _rows(form: Format, file: DataFile, wanted: Columns, notes: Any) -> Iterator[Row]:
    if form.columns is None:
        names = ["text"]
    elif wanted.header:
        names = form.columns(file)
    else:
        names = form.first_lines(file, 1)[0]
    more = [name for name in file.partitions if not wanted.header or name not in names]
    # Where each column comes from: the file, or a folder.
    asked: list[Any] = []
    take: list[Any] = []
    roles = [len(wanted.texts) * ["texts"], len(wanted.labels) * ["labels"]]
    own: dict[str, list] = {"texts": [], "labels": []}
    for role, column in zip(itertools.chain(*roles), (*wanted.texts, *wanted.labels), strict=True):
        if isinstance(column, int) and column >= len(names):
            column = more[column - len(names)]
        if column in more:
            take.append((None, file.partitions[column], None))
            continue
        if form.columns is None:
            column = 0
        name: Any = names[column] if isinstance(column, int) and wanted.header else column
        take.append((len(asked), file.partitions.get(name), name))
        asked.append(column)
        own[role].append(column)
    # What is wrong with a row is told by a reader that reads a column of it.
    texts = tuple(own["texts"]) or (() if own["labels"] else (names[0] if wanted.header else 0,))
    chosen = dataclasses.replace(wanted, texts=texts, labels=tuple(own["labels"]))
    for line, values, problem in form.rows(file, chosen, notes):
        if len(values) < len(asked):
            # The folder tells the label of a row that cannot be read.
            yield line, (), problem
            continue
        row = [given if place is None else values[place] for place, given, _ in take]
        for place, given, name in take:
            if name in file.partitions and not problem:
                _check(file, line, name, values[place], given)
        yield line, row, problem


def add_partitions(file: DataFile, line: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row with the columns of the folders.

    Raises:
        DataError: The row has such a column, and another value in it.
    """
    for name, given in file.partitions.items():
        if name in record:
            _check(file, line, name, record[name], given)
    return {**record, **{k: v for k, v in file.partitions.items() if k not in record}}


def partitioned_batch(file: DataFile, first: int, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns rows of a Parquet file with the columns of its folders.

    Args:
        file: The file.
        first: The number of the first row.
        batch: The rows.
    """
    import pyarrow as pa

    for name, given in file.partitions.items():
        if name in batch.schema.names:
            for row, value in enumerate(batch.column(name).to_pylist(), start=first):
                _check(file, row, name, value, given)
        else:
            values = pa.array([given] * batch.num_rows, pa.string())
            batch = batch.append_column(pa.field(name, pa.string()), values)
    return batch


def _check(file: DataFile, line: int, name: str, value: Any, given: str | None) -> None:
    try:
        same = label_text(value) == label_text(given)
    except TypeError:
        same = False
    if not same:
        raise DataError(
            f"The column '{name}' of the file holds {shown(value)}, but its folder says "
            f"{shown(given)}",
            where=f"{file.name}:{line}",
            fix=f"remove the column '{name}' from the files, or rename the folders so that they "
            "have no `=`, to read the column of the files",
        )
