"""`kerasllm predict`: classify texts with a trained model."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from kerasllm.cli.startup import import_tensorflow
from kerasllm.errors import CommandError, DataError
from kerasllm.plurals import counted

# A tsv without quotes cannot hold it, or would look as if it had quotes.
_NEEDS_QUOTES = re.compile(r'^"|[\t\r\n]')


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="FILE",
    help="Texts: csv, tsv, jsonl, parquet, txt (a text a line), .gz, glob; - for stdin.",
)
@click.option(
    "--text", metavar="COLUMN", help="Column of the texts in FILE.  [default: the recipe's]"
)
@click.option("--text-pair", metavar="COLUMN", help="Column of the second texts in FILE.")
@click.option(
    "--abstain-below",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Give no label where its probability is below P.",
)
@click.option("--output", metavar="FILE", help="Write a .csv, .tsv or .jsonl file, not stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text, a line each.")
def predict(
    run: str,
    texts: tuple[str, ...],
    inputs: tuple[str, ...],
    output: str | None,
    as_json: bool,
    **options,
) -> None:
    """Classify texts, or pairs of texts, with a trained model.

    \b
    kerasllm predict my_run "A film to remember."
    kerasllm predict my_run --input reviews.csv --output labels.csv
    kerasllm predict my_pairs "A man plays." "Somebody is playing."
    cat reviews.txt | kerasllm predict my_run --json

    Without TEXT and --input, texts are read from stdin, one a line, pairs with a tab between them.
    What is printed is a label and its probability, or labels, or a score, and the text, separated
    by tabs.
    """
    from kerasllm.tasks.task import PredictOptions
    from kerasllm.workflows.trained import open_run

    trained, chosen = open_run(run), PredictOptions(**options)
    for name, value in options.items():
        if value is not None and name not in trained.task.predict_options:
            raise CommandError(
                f"A model of the task {trained.task.name} does not take it",
                where=f"--{name.replace('_', '-')}",
                fix="leave it out",
            )
    rows = _rows(trained, texts, inputs, chosen)
    with _writer(output, as_json, trained.task) as write:
        import_tensorflow()
        from kerasllm.workflows.predict import predict as run_predict

        # A person who types wants an answer before the next line.
        interactive = not texts and inputs in ((), ("-",)) and sys.stdin and sys.stdin.isatty()
        if interactive:
            click.echo("Type a text and press Enter; Ctrl-D ends.", err=True)
        for prediction in run_predict(
            trained, rows, options=chosen, **({"chunk": 1} if interactive else {})
        ):
            write(prediction)


def _rows(trained, texts: tuple[str, ...], inputs: tuple[str, ...], options) -> Iterator:
    """Returns the inputs of whichever source was given."""
    task = trained.task
    if texts and inputs:
        raise CommandError(
            "Texts were given both as arguments and with --input", fix="give one of the two"
        )
    if texts:
        for number, value in enumerate(texts, start=1):
            if not value.strip():
                raise CommandError(f"Text {number} is empty", fix="give it some words")
        return iter(task.parse(trained, texts))
    if not inputs or inputs == ("-",):
        return _stdin_rows(trained)
    if "-" in inputs:
        raise CommandError(
            "Texts are read from stdin or from files, not from both",
            where="--input -",
            fix="give one of the two",
        )
    return task.inputs(trained, list(inputs), options)


def _stdin_rows(trained) -> Iterator:
    for number, line in enumerate(_stdin_lines(), start=1):
        try:
            yield trained.task.parse_line(trained, line)
        except DataError as error:
            raise DataError(error.what, where=f"stdin:{number}", fix=error.fix) from None


def _stdin_lines() -> Iterator[str]:
    number = 0
    for number, raw in enumerate(sys.stdin.buffer if sys.stdin else (), start=1):
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"Byte {error.start + 1} of the line is not UTF-8",
                where=f"stdin:{number}",
                fix="convert the text to UTF-8",
            ) from None
        if not line.strip():
            raise DataError("The text is empty", where=f"stdin:{number}", fix="leave the line out")
        yield line
    if not number:
        raise CommandError(
            "There is no text: stdin is empty",
            fix="give texts as arguments, a file with --input, or pipe a text a line",
        )


@contextmanager
def _writer(output: str | None, as_json: bool, task) -> Iterator:
    """Gives a function that writes a prediction; a file is written whole or not at all."""
    if output is None:
        form = _json_line if as_json else task.line
        yield lambda prediction: click.echo(form(prediction))
        return
    path = Path(output)
    if path.suffix not in (".csv", ".tsv", ".jsonl"):
        raise CommandError(
            f"The suffix {path.suffix!r} is not one that predictions are written to",
            where=output,
            fix="end --output with .csv, .tsv or .jsonl",
        )
    if not path.parent.is_dir():
        raise CommandError("The directory is not there", where=str(path.parent), fix="make it")
    if path.is_dir():
        raise CommandError("This is a directory", where=output, fix="name a file with --output")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            as_jsonl = path.suffix == ".jsonl"
            write_row = _json_rows(file) if as_jsonl else _table_rows(file, path, task)

            def write(prediction: dict) -> None:
                nonlocal count
                count += 1
                write_row(prediction)

            yield write
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    click.echo(f"{counted(count, 'prediction')} in {path}", err=True)


def _json_rows(file: TextIO):
    return lambda prediction: file.write(_json_line(prediction) + "\n")


def _table_rows(file: TextIO, path: Path, task):
    """Returns a function that writes the columns of a prediction, their names above the first."""
    write_fields = csv.writer(file).writerow if path.suffix == ".csv" else _TsvWriter(file)
    header_written = False

    def write(prediction: dict) -> None:
        nonlocal header_written
        columns = task.flat(prediction)
        if not header_written:
            write_fields(list(columns))
            header_written = True
        write_fields([str(value) for value in columns.values()])

    return write


class _TsvWriter:
    """Writes a tsv file that reads back exactly.

    Fields are written without quotes, as most programs read a tsv, until a field holds a tab or a
    line end or begins with a quote: then all fields are written in quotes, those before too.

    Args:
        file: Text, opened for writing and at its start, a file that can also be read by its name.
    """

    def __init__(self, file: TextIO):
        self._file, self._quoted = file, False

    def __call__(self, fields: list[str]) -> None:
        if not self._quoted and any(_NEEDS_QUOTES.search(field) for field in fields):
            self._quote_all()
        self._write(self._file, fields)

    def _write(self, file: TextIO, fields: list[str]) -> None:
        if self._quoted:
            fields = ['"' + field.replace('"', '""') + '"' for field in fields]
        file.write("\t".join(fields) + "\n")

    def _quote_all(self) -> None:
        """Writes what the file holds again, with quotes."""
        self._file.flush()
        self._quoted = True
        with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as copy:
            with open(self._file.name, encoding="utf-8", newline="\n") as written:
                shutil.copyfileobj(written, copy)
            copy.seek(0)
            self._file.seek(0)
            self._file.truncate()
            for line in copy:
                self._write(self._file, line.removesuffix("\n").split("\t"))


def _json_line(prediction: dict) -> str:
    return json.dumps(prediction, ensure_ascii=False)

