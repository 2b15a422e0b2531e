"""`kerasllm predict`: predict with a trained model."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from kerasllm.cli.file_options import encoding_options
from kerasllm.cli.row_options import (
    OUTPUT_HELP,
    answer_files,
    answer_texts,
    columns_to_keep,
    output_of,
    row_options,
)
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.sharded_option import sharded_option
from kerasllm.cli.startup import import_tensorflow
from kerasllm.errors import CommandError, DataError

if TYPE_CHECKING:
    from kerasllm.data.answer_files import Answer
    from kerasllm.data.readers.whole_rows import WholeRow
    from kerasllm.workflows.partial_output import Output
    from kerasllm.workflows.predict_file import Predictor

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
    help="Texts: csv, tsv, jsonl, parquet, txt (one per line), folder or address; - for stdin.",
)
@click.option(
    "--text", metavar="COLUMN", help="Column of the texts in FILE.  [default: the recipe's]"
)
@click.option("--text-pair", metavar="COLUMN", help="Column of the second texts in FILE.")
@encoding_options
@row_options
@click.option(
    "--abstain-below",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Give no label if its probability is below P.",
)
@click.option("--question", metavar="TEXT", help="A question to answer from --context.")
@click.option("--context", metavar="TEXT", help="The text that may hold the answer.")
@click.option(
    "--n-best",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of answers to a question, or of words for a [MASK], with --json.  [default: 5]",
)
@click.option("--output", metavar="FILE", help=OUTPUT_HELP)
@sharded_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line, one per text."
)
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
    strategy: str | None,
    **options,
) -> None:
    """Predict with a trained model: labels, scores, spans or answers.

    \b
    kerasllm predict my_run "A film to remember."
    kerasllm predict my_run --input reviews.csv --output labels.csv
    kerasllm predict my_pairs "A man plays." "Somebody is playing."
    cat reviews.txt | kerasllm predict my_run --json
    kerasllm predict my_qa --question "Where was Ada born?" --context "..."
    kerasllm predict my_encoder "A [MASK] film."

    Without TEXT and --input, texts are read from stdin, one per line, pairs separated by a tab.
    Each prediction is printed on one line, followed by a tab and the text: a label with its
    probability, several labels, a score, spans or an answer. For a text with [MASK], the completed
    text and the most likely words are printed.

    With --output, the file has one row for each row of FILE, in order: its columns, followed by
    those of the prediction. If FILE already has a column of that name, such as label, the new one
    is called predicted_label. For a model that finds spans, csv and tsv files have one row per
    span, and OUTPUT may end in .conll. If interrupted, the rows so far are kept in OUTPUT.partial
    for --resume.
    """
    from kerasllm.tasks.task import PredictOptions
    from kerasllm.workflows.predict import refuse_unless_it_predicts
    from kerasllm.workflows.trained import open_run

    trained, chosen = open_run(run).under(strategy), PredictOptions(**options)
    for name, value in options.items():
        if value is not None and name not in trained.task.predict_options:
            raise CommandError(
                f"A model of the task {trained.task.name} does not take it",
                where=f"--{name.replace('_', '-')}",
                fix="leave it out",
            )
    texts = (*_with_question(texts, chosen),)
    _refuse_two_sources(texts, inputs)
    files = () if inputs == ("-",) else inputs
    target = output_of(output, resume, files, trained.task.text_suffixes)
    kept = columns_to_keep(identifier, keep, of_files=bool(files))
    show = None if as_json else functools.partial(_line, trained.task)
    if files:
        refuse_unless_it_predicts(trained)
        _predict_files(trained, files, chosen, kept, on_bad_row, target, show)
        return
    # A person who types wants an answer before the next line.
    interactive = not texts and sys.stdin and sys.stdin.isatty()
    rows = _rows_of_arguments(trained, texts) if texts else _rows_of_stdin(trained)
    if on_bad_row == "skip" or interactive:
        rows = (row for row in rows if row.problem is None)
    elif on_bad_row == "error":
        rows = _refused(rows)
    if interactive:
        click.echo("Type a text and press Enter; Ctrl-D ends.", err=True)
    predictor = _predictor(trained, chosen, chunk=1 if interactive else None)
    answer_texts(rows, predictor, target, show, noun="prediction", errors=not texts)


def _predict_files(
    trained,
    files: Sequence[str],
    options,
    keep: Sequence[str] | None,
    on_bad_row: str,
    target: Output | None,
    show: Callable[[Answer], str] | None,
) -> None:
    from kerasllm.data.readers.whole_rows import WholeRows
    from kerasllm.workflows.predict_file import fingerprint_of

    task = trained.task
    source = task.source(trained, list(files), options)
    rows = WholeRows(source.readings, lambda texts, *_: task.input_of(trained, texts), keep)
    if target is not None:
        target.check(source.local_files)
        asked = (on_bad_row, target.path.suffix, options, source.description())
    answer_files(
        rows,
        source.description(),
        # A line of the terminal has no columns: it shows the text.
        lambda columns: _predictor(trained, options, drop=_TEXTS if columns else ()),
        target,
        show,
        on_bad_row=on_bad_row,
        noun="prediction",
        fingerprint=lambda columns: {
            "the input": source.fingerprint,
            "the model": fingerprint_of(trained.folder),
            "the options": repr((*asked, columns)),
        },
    )


def _predictor(
    trained, options, *, drop: Sequence[str] = (), chunk: int | None = None
) -> Predictor:
    """Returns what predicts for inputs, without what a prediction repeats of them."""
    from kerasllm.workflows.predict import CHUNK
    from kerasllm.workflows.predict_file import Predictor

    chunk, task = chunk or CHUNK, trained.task

    def compute(inputs: Iterator[Any]) -> Iterator[Mapping[str, Any]]:
        import_tensorflow(trained.strategy)
        from kerasllm.workflows.predict import predict as run_predict

        for prediction in run_predict(trained, inputs, options=options, chunk=chunk):
            yield {name: value for name, value in prediction.items() if name not in drop}

    forms = {
        "raw": dict,
        "flat": task.lines,
        "typed": task.columns,
        "text": lambda prediction: {"text": task.text(prediction)},
    }
    return Predictor(compute, chunk, forms)


def _line(task, answer: Answer) -> str:
    return f"-\t({answer.error})" if answer.predicted is None else task.line(answer.predicted)


def _with_question(texts: Sequence[str], options) -> Sequence[str]:
    """Returns the texts of the arguments, or a question and a context that are options."""
    given = {"--question": options.question, "--context": options.context}
    if set(given.values()) == {None}:
        return texts
    for name, text in given.items():
        if text is None or not text.strip():
            raise CommandError(
                "A question needs a context, and a context a question",
                where=name,
                fix='give both: --question "..." --context "..."',
            )
    if texts:
        raise CommandError(
            "Texts were given both as arguments and with --question", fix="give one of the two"
        )
    return options.question, options.context


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
            raise CommandError(f"Text {number} is empty", fix="give a text with words in it")
    inputs = trained.task.parse(trained, texts)
    return (WholeRow(i, f"TEXT:{i + 1}", each, {}, None) for i, each in enumerate(inputs))


def _rows_of_stdin(trained) -> Iterator[WholeRow]:
    from kerasllm.data.readers.row_checks import text_problem
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
            "No texts to predict: stdin is empty",
            fix="give texts as arguments, a file with --input, or pipe in one text per line",
        )


def _refused(rows: Iterable[WholeRow]) -> Iterator[WholeRow]:
    for row in rows:
        if row.problem:
            raise DataError(
                row.problem, where=row.where, fix="fix the row, or leave --on-bad-row error out"
            )
        yield row
