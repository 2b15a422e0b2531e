"""`kerasllm predict`: classify texts with a trained model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasllm.cli.file_options import encoding_options
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.startup import import_tensorflow
from kerasllm.errors import CommandError, DataError
from kerasllm.plurals import counted

if TYPE_CHECKING:
    from kerasllm.data.answer_files import Answer
    from kerasllm.data.readers.whole_rows import Survey, WholeRow, WholeRows
    from kerasllm.workflows.predict_file import Output

# What a prediction repeats of its input, which the kept columns hold.
_TEXTS = ("text", "text_pair")


@click.command()
@click.argument("run", metavar="RUN", type=RUN)
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
@encoding_options
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Keep this column of FILE beside the prediction; repeatable.  [default: all columns]",
)
@click.option(
    "--id", "identifier", metavar="COLUMN", help="Keep this column, as the first; others by --keep."
)
@click.option(
    "--on-bad-row",
    type=click.Choice(["empty", "error", "skip"]),
    default="empty",
    show_default=True,
    help="What a row without text does: an empty prediction and its reason under `error`; end the "
    "command before anything is predicted; or nothing, the row is left out.",
)
@click.option(
    "--abstain-below",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Give no label where its probability is below P.",
)
@click.option(
    "--output",
    metavar="FILE",
    help="Write a .csv, .tsv, .jsonl (.gz) or .parquet file, not stdout.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue a prediction into --output that was interrupted; start if there is none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text, a line each.")
def predict(
    run: str,
    texts: tuple[str, ...],
    inputs: tuple[str, ...],
    output: str | None,
    as_json: bool,
    keep: tuple[str, ...],
    identifier: str | None,
    on_bad_row: str,
    resume: bool,
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

    A file of predictions has a row for each row of FILE, in order: its columns, then those of the
    prediction. One whose name FILE has already, such as label, becomes predicted_label. An
    interrupted one is kept in OUTPUT.partial, for --resume.
    """
    from kerasllm.tasks.task import PredictOptions
    from kerasllm.workflows.predict import refuse_unless_it_predicts
    from kerasllm.workflows.predict_file import Output, refuse_resume
    from kerasllm.workflows.trained import open_run

    trained, chosen = open_run(run), PredictOptions(**options)
    for name, value in options.items():
        if value is not None and name not in trained.task.predict_options:
            raise CommandError(
                f"A model of the task {trained.task.name} does not take it",
                where=f"--{name.replace('_', '-')}",
                fix="leave it out",
            )
    target = Output(Path(output), resume) if output is not None else None
    if resume and target is None:
        raise CommandError(
            "Only a prediction into a file can be resumed", where="--resume", fix="give --output"
        )
    _refuse_two_sources(texts, inputs)
    files = () if inputs == ("-",) else inputs
    if target is not None:
        target.check(files)
    if files:
        refuse_unless_it_predicts(trained)
        kept = list(dict.fromkeys([*([identifier] if identifier else []), *keep])) or None
        _predict_files(trained, files, chosen, kept, on_bad_row, target, as_json)
        return
    if keep or identifier:
        raise CommandError(
            "Only files have columns to keep",
            where="--id" if identifier else "--keep",
            fix="name a file with --input, or leave it out",
        )
    if target is not None:
        refuse_resume(target)
    # A person who types wants an answer before the next line.
    interactive = not texts and sys.stdin and sys.stdin.isatty()
    rows = _rows_of_arguments(trained, texts) if texts else _rows_of_stdin(trained)
    if on_bad_row == "skip" or interactive:
        rows = (row for row in rows if row.problem is None)
    elif on_bad_row == "error":
        rows = _refused(rows)
    if interactive:
        click.echo("Type a text and press Enter; Ctrl-D ends.", err=True)
    _predict_rows(trained, rows, chosen, target, as_json, 1 if interactive else None, bool(texts))


def _predict_files(
    trained,
    files: Sequence[str],
    options,
    keep: Sequence[str] | None,
    on_bad_row: str,
    target: Output | None,
    as_json: bool,
) -> None:
    """Predicts for the rows of files, each of which is read once before."""
    from kerasllm.data.readers.whole_rows import WholeRows
    from kerasllm.workflows import predict_file
    from kerasllm.workflows.predict import CHUNK

    task = trained.task
    source = task.source(trained, list(files), options)
    rows = WholeRows(source, lambda texts: task.input_of(trained, texts), keep)
    if target is not None:
        target.check(source.local_files)
    survey = rows.survey(typed=target is not None and target.path.suffix == ".parquet")
    survey.refuse(any_bad=on_bad_row == "error", description=source.description())
    # A line of the terminal has no columns: it shows the text.
    repeated = rows.has_columns and (as_json or target is not None)
    compute = _computing(trained, options, drop=_TEXTS if repeated else (), chunk=CHUNK)
    if target is None:
        _print_rows(trained, rows, survey, compute, on_bad_row, as_json)
    else:
        asked = (survey.columns, on_bad_row, target.path.suffix, options, source.description())
        predict_file.predict_to_file(
            rows,
            survey,
            target,
            compute,
            forms=_forms(task),
            fingerprint=lambda: {
                "the input": source.fingerprint,
                "the model": predict_file.fingerprint_of(trained.folder),
                "the options": repr(asked),
            },
            on_bad_row=on_bad_row,
            chunk=CHUNK,
        )
        good = counted(survey.rows - survey.bad_count, "prediction")
        click.echo(f"{good} in {target.path}", err=True)
    if survey.bad_count:
        described = predict_file.describe_bad(survey.bad_count, survey.bad, on_bad_row)
        click.echo(described, err=True)


def _predict_rows(
    trained,
    rows: Iterable[WholeRow],
    options,
    target: Output | None,
    as_json: bool,
    chunk: int | None,
    of_arguments: bool,
) -> None:
    """Predicts for texts of the command line or of stdin."""
    from kerasllm.workflows import predict_file

    bad: list[tuple[str, str, str]] = []
    bad_count = 0

    def answers() -> Iterator[list[Answer]]:
        nonlocal bad_count
        from kerasllm.data.answer_files import Answer

        for group in predict_file.in_order(rows, _computing(trained, options, chunk=chunk)):
            found = [(*row.where.rsplit(":", 1), row.problem) for row, _ in group if row.problem]
            bad_count += len(found)
            bad.extend(found[: predict_file.SHOWN - len(bad)])
            yield [
                Answer(row.kept, found, row.problem and f"{row.where}: {row.problem}")
                for row, found in group
            ]

    if target is None:
        show = _printer(trained.task, (), as_json)
        for group in answers():
            show(group)
    else:
        count = predict_file.predict_rows_to_file(
            answers(), target, (), form=_forms(trained.task), errors=not of_arguments
        )
        click.echo(f"{counted(count - bad_count, 'prediction')} in {target.path}", err=True)
    if bad_count:
        click.echo(predict_file.describe_bad(bad_count, bad, "empty"), err=True)


def _print_rows(
    trained, rows: WholeRows, survey: Survey, compute: Callable, on_bad_row: str, as_json: bool
) -> None:
    from kerasllm.data.answer_files import Answer
    from kerasllm.workflows.predict_file import in_order

    show = _printer(trained.task, survey.columns if as_json else (), as_json)
    read = (row for row in rows if not (row.problem and on_bad_row == "skip"))
    for group in in_order(read, compute):
        show(
            [
                Answer(row.kept, found, row.problem and f"{row.where}: {row.problem}")
                for row, found in group
            ]
        )


def _computing(
    trained, options, *, drop: Sequence[str] = (), chunk: int | None = None
) -> Callable[[Iterator[Any]], Iterator[Mapping[str, Any]]]:
    """Returns what predicts for inputs, without what a prediction repeats of them."""

    def compute(inputs: Iterator[Any]) -> Iterator[Mapping[str, Any]]:
        import_tensorflow()
        from kerasllm.workflows.predict import predict as run_predict

        told = {} if chunk is None else {"chunk": chunk}
        for prediction in run_predict(trained, inputs, options=options, **told):
            yield {name: value for name, value in prediction.items() if name not in drop}

    return compute


def _forms(task) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
    return {"raw": dict, "flat": task.flat, "typed": task.columns}


def _printer(task, kept: Sequence[str], as_json: bool) -> Callable[[Sequence[Answer]], None]:
    """Returns what prints a group of answers, a line each."""
    from kerasllm.data.answer_files import Keys, Names, json_line

    keys, name_of = Keys(), Names(kept)

    def show(group: Sequence[Answer]) -> None:
        keys.learn(group)
        for answer in group:
            if as_json:
                click.echo(json_line(answer, keys, name_of), nl=False)
            elif answer.predicted is None:
                click.echo(f"-\t({answer.error})")
            else:
                click.echo(task.line(answer.predicted))

    return show


def _refuse_two_sources(texts: Sequence[str], inputs: Sequence[str]) -> None:
    if texts and inputs:
        raise CommandError(
            "Texts were given both as arguments and with --input", fix="give one of the two"
        )
    if "-" in inputs and len(inputs) > 1:
        raise CommandError(
            "Texts are read from stdin or from files, not from both",
            where="--input -",
            fix="give one of the two",
        )


def _rows_of_arguments(trained, texts: Sequence[str]) -> Iterator[WholeRow]:
    from kerasllm.data.readers.whole_rows import WholeRow

    for number, value in enumerate(texts, start=1):
        if not value.strip():
            raise CommandError(f"Text {number} is empty", fix="give it some words")
    inputs = trained.task.parse(trained, texts)
    return (WholeRow(i, f"TEXT:{i + 1}", each, {}, None) for i, each in enumerate(inputs))


def _rows_of_stdin(trained) -> Iterator[WholeRow]:
    from kerasllm.data.readers.sources import text_problem
    from kerasllm.data.readers.text_lines import describe_broken_byte
    from kerasllm.data.readers.whole_rows import WholeRow

    number = -1
    for number, raw in enumerate(sys.stdin.buffer if sys.stdin else ()):
        found = None
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
            problem = text_problem("text", line)
            found = None if problem else trained.task.parse_line(trained, line)
        except UnicodeDecodeError as error:
            problem = describe_broken_byte(error)
        except DataError as error:
            problem = f"{error.what}; {error.fix}" if error.fix else error.what
        yield WholeRow(number, f"stdin:{number + 1}", found, {}, problem)
    if number < 0:
        raise CommandError(
            "There is no text: stdin is empty",
            fix="give texts as arguments, a file with --input, or pipe a text a line",
        )


def _refused(rows: Iterable[WholeRow]) -> Iterator[WholeRow]:
    for row in rows:
        if row.problem:
            raise DataError(
                row.problem, where=row.where, fix="correct it, or leave --on-bad-row error out"
            )
        yield row
