"""Files of prompts as whole rows: csv, tsv, jsonl, parquet and txt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasllm.data.chat.messages import without_mark
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.formats import Columns, format_of
from kerasllm.data.readers.row_checks import text_problem
from kerasllm.data.readers.whole_rows import WholeRows
from kerasllm.errors import DataError
from kerasllm.workflows.generate import Prompt, content_of


def prompt_rows(
    files: Sequence[DataFile], column: str | None = None, keep: Sequence[str] | None = None
) -> WholeRows:
    """Returns the rows of files of prompts.

    Args:
        files: The files; of a `.txt` file each line is a prompt.
        column: The column of the prompts. Defaults to `None`: `prompt`, or `messages`, which may
            be JSON.
        keep: The columns to keep. Defaults to `None`: all.

    Raises:
        KerasllmError: If a file is refused, or has no such column.
    """
    readings = []
    for file in files:
        form = format_of(file)
        readings.append((file, form, Columns((0,) if form.columns is None else ())))
        if column is not None and form.columns is not None and column not in form.columns(file):
            raise DataError(
                f"There is no column '{column}'",
                where=file.name,
                fix=f"the columns are: {', '.join(map(repr, form.columns(file)))}",
            )

    def input_of(texts: Sequence[str], row: Mapping[str, Any], where: str) -> Prompt:
        if texts:
            content: Any = without_mark(texts[0])
        elif column is None:
            content = content_of(row, where)
        else:
            content = row.get(column)
        if not isinstance(content, list) and (problem := text_problem("prompt", content)):
            raise DataError(problem, where=where)
        return Prompt(content, where)

    return WholeRows(readings, input_of, keep)


def files_of_prompts(spec: Sequence[str]) -> list[DataFile]:
    """Finds files of prompts: paths, globs and addresses."""
    return find_files(spec, "test")
