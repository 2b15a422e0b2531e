"""Options, files and messages of the verbs that write one row for each row of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasllm.errors import CommandError
from kerasllm.plurals import counted

if TYPE_CHECKING:
    from kerasllm.data.answer_files import Answer
    from kerasllm.data.readers.whole_rows import WholeRow, WholeRows
    from kerasllm.workflows.partial_output import Output
    from kerasllm.workflows.predict_file import BadRows, Predictor

OUTPUT_HELP = "Write to a .csv, .tsv, .jsonl (.gz) or .parquet file instead of stdout."


def row_options(command: Callable) -> Callable:
    """Adds `--keep`, `--id`, `--on-bad-row` and `--resume`."""
    for option in (
        click.option(
            "--resume",
            is_flag=True,
            help="Resume an interrupted --output, or start if there is none.",
        ),
        click.option(
            "--on-bad-row",
            type=click.Choice(["empty", "error", "skip"]),
            default="empty",
            show_default=True,
            help="What to do with a bad row: empty: leave its prediction empty, with the reason in "
            "the column `error`; error: stop before anything is computed; skip: leave it out.",
        ),
        click.option(
            "--id",
            "identifier",
            metavar="COLUMN",
            help="Keep this column as the first one; use --keep for others.",
        ),
        click.option(
            "--keep",
            multiple=True,
            metavar="COLUMN",
            help="Keep this column of FILE in the output. Repeatable.  [default: all columns]",
        ),
    ):
        command = option(command)
    return command


def columns_to_keep(
    identifier: str | None, keep: Sequence[str], *, of_files: bool
) -> list[str] | None:
    """Returns the columns that `--id` and `--keep` name; `None`: neither was given.

    Raises:
        CommandError: If no files have columns to keep.
    """
    named = list(dict.fromkeys([*([identifier] if identifier else []), *keep]))
    if named and not of_files:
        raise CommandError(
            "Only files have columns to keep",
            where="--id" if identifier else "--keep",
            fix="name a file with --input, or leave it out",
        )
    return named or None


def output_of(
    output: str | None, resume: bool, files: Sequence[str], text_suffixes: Sequence[str] = ()
) -> Output | None:
    """Returns the file to write, checked; `None` is stdout.

    Args:
        output: What `--output` says.
        resume: Whether to resume it.
        files: The files that are read; none where texts come from elsewhere.
        text_suffixes: As for `Output`. Defaults to none.

    Raises:
        CommandError: If it cannot be written, or be resumed.
    """
    from kerasllm.workflows.partial_output import Output

    if resume and output is None:
        raise CommandError(
            "Only output to a file can be resumed", where="--resume", fix="give --output"
        )
    if output is None:
        return None
    target = Output(Path(output), resume, tuple(text_suffixes))
    target.check(files)
    if resume and not files:
        raise CommandError(
            "Only predictions for files can be resumed",
            where="--resume",
            fix="write the texts to a file and name it with --input, or leave --resume out",
        )
    return target


def answer_files(
    rows: WholeRows,
    description: str,
    predictor: Callable[[bool], Predictor],
    target: Output | None,
    show: Callable[[Answer], str] | None,
    *,
    on_bad_row: str,
    noun: str,
    fingerprint: Callable[[Sequence[str]], Mapping[str, str]],
    noted: Mapping[str, Any] | None = None,
) -> None:
    """Predicts for the rows of files, each of which is read once before.

    Args:
        rows: The rows.
        description: The columns that are read, in words.
        predictor: Returns what predicts for them; told whether columns are kept.
        target: The file to write, or `None`: stdout.
        show: Returns what is printed of an answer; `None`: a line of JSON.
        on_bad_row: As `--on-bad-row`.
        noun: What is computed, in a word.
        fingerprint: Returns what tells this prediction from others, given the columns.
        noted: As for `Partial`. Defaults to `None`: nothing.
    """
    from kerasllm.workflows.predict_file import BadRows, answers, predict_to_file

    skip = on_bad_row == "skip"
    survey = rows.survey(typed=target is not None and target.path.suffix == ".parquet")
    survey.refuse(any_bad=on_bad_row == "error", description=description)
    for line in survey.left_out:
        click.echo(line, err=True)
    made = predictor(rows.has_columns and (target is not None or show is None))
    if target is None:
        bad = BadRows(skip)
        print_answers(
            (group for _, group in answers(rows, made, bad, skip=skip)),
            show,
            survey.columns,
            made.shared,
        )
    else:
        bad = predict_to_file(
            rows,
            survey,
            target,
            made,
            fingerprint=lambda: fingerprint(survey.columns),
            noted=noted,
            skip=skip,
            errors=on_bad_row == "empty",
        )
        click.echo(f"{counted(survey.rows - bad.count, noun)} in {target.path}", err=True)
    tell(bad)


def answer_texts(
    rows: Iterable[WholeRow],
    predictor: Predictor,
    target: Output | None,
    show: Callable[[Answer], str] | None,
    *,
    noun: str,
    errors: bool,
) -> None:
    """Predicts for texts of the command line or of stdin; see `answer_files`.

    Args:
        rows: The texts.
        predictor: What predicts for them.
        target: The file to write, or `None`: stdout.
        show: Returns what is printed of an answer; `None`: a line of JSON.
        noun: What is computed, in a word.
        errors: Whether a file has a column for errors.
    """
    from kerasllm.workflows.predict_file import BadRows, answers, predict_rows_to_file

    if target is None:
        bad = BadRows()
        print_answers((group for _, group in answers(rows, predictor, bad)), show)
    else:
        count, bad = predict_rows_to_file(rows, target, predictor, errors=errors)
        click.echo(f"{counted(count, noun)} in {target.path}", err=True)
    tell(bad)


def print_answers(
    groups: Iterable[Sequence[Answer]],
    show: Callable[[Answer], str] | None,
    columns: Sequence[str] = (),
    shared: Sequence[str] = (),
) -> None:
    """Prints answers as they come: by `show`, or as a line of JSON each."""
    from kerasllm.data.answer_files import Keys, Names, json_line

    keys, name_of = Keys(), Names(columns, shared)
    for group in groups:
        keys.learn(group)
        for answer in group:
            if show is None:
                click.echo(json_line(answer, keys, name_of), nl=False)
            elif shown := show(answer):
                click.echo(shown)


def tell(bad: BadRows) -> None:
    """Tells of bad rows, if there are any."""
    if bad.count:
        click.echo(str(bad), err=True)
