"""`kerasllm data`: inspect, clean, convert and tokenize data."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kerasllm.cli import completion
from kerasllm.cli.file_options import encoding_options
from kerasllm.cli.recipe_options import load_recipe, missing_recipe, recipe_options
from kerasllm.cli.startup import import_tensorflow

_COLUMNS = (
    click.option("--text", metavar="COLUMN", help="Column of the texts."),
    click.option("--text-pair", metavar="COLUMN", help="Column of the second texts."),
    click.option(
        "--label",
        multiple=True,
        metavar="COLUMN",
        help="Column of the labels. Repeat it for one 0/1 column per label.",
    ),
)


def column_options(command: Callable) -> Callable:
    """Adds the options that name columns, and how the files are read."""
    command = encoding_options(command)
    for option in reversed(_COLUMNS):
        command = option(command)
    return command


@click.group()
def data() -> None:
    """Inspect, clean, convert and tokenize data."""


@data.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    shell_complete=completion.recipes,
    help="Read the data as this recipe does, and count tokens; without FILE, read the recipe's own "
    "data.",
)
@click.option("--validation", multiple=True, metavar="FILE", help="Validation data.")
@click.option("--test", multiple=True, metavar="FILE", help="Test data.")
@column_options
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the recipe, e.g. data.max_length=64.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option(
    "--deep",
    is_flag=True,
    help="Also look for wrong labels, with a small encoder: minutes for tens of thousands of rows.",
)
@click.option("--html", metavar="FILE", help="Write the report as an HTML page with charts.")
@click.option(
    "--fix",
    metavar="FILE",
    help="Write a copy of the training data without duplicates, conflicts, leaks and damaged rows.",
)
def report(
    files: tuple[str, ...],
    recipe: str | None,
    validation: tuple[str, ...],
    test: tuple[str, ...],
    text: str | None,
    text_pair: str | None,
    label: tuple[str, ...],
    encoding: str | None,
    delimiter: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    deep: bool,
    html: str | None,
    fix: str | None,
) -> None:
    """Report what is in the data, and what is wrong with it.

    \b
    kerasllm data report reviews.csv
    kerasllm data report reviews.csv --test test.csv --recipe bert_cls

    Labels, lengths, languages; duplicates, leaks between the splits, conflicting labels, damaged
    texts, tokens that give labels away, personal data. No model is needed, and nothing is changed.
    """
    if not files and not recipe:
        raise click.UsageError("Name the files to report on, or a recipe with --recipe.")
    loaded = None
    if recipe:
        options = {
            **dict(train=files, validation=validation, test=test, overrides=overrides),
            **dict(text=text, text_pair=text_pair, label=label, seed=None, strategy=None),
            **dict(encoding=encoding, delimiter=delimiter),
        }
        loaded = load_recipe(recipe, options)
        # For its tokenizer.
        import_tensorflow()
    elif overrides:
        raise click.UsageError("--set changes a recipe: name one with --recipe.")
    from kerasllm.data.readers.files import read_as
    from kerasllm.output_files import make_folder_of
    from kerasllm.workflows.data_report import data_report, show, write_clean, write_html
    from kerasllm.workflows.report import Report

    parts = {"train": files, "validation": validation, "test": test}
    if html:
        # A report may take minutes.
        make_folder_of(Path(html), "--html")
    if deep:
        import_tensorflow()
    read: dict[str, Any] = {
        part: read_as(
            spec,
            part,
            encoding=encoding,
            delimiter=delimiter,
            preferred="text",
            classes=True,
        )
        for part, spec in parts.items()
        if spec
    }
    found = data_report(
        read,
        loaded,
        columns={"text": text, "text_pair": text_pair, "label": list(label) or None},
        deep=deep,
    )
    if as_json:
        click.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
    else:
        from rich.console import Console

        show(found, Report(Console(highlight=False)))
    if html:
        write_html(found, html, Report())
    if fix:
        write_clean(found, fix, Report())


@data.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--output",
    required=True,
    metavar="FILE",
    help="The file to write: .jsonl, .csv (or .gz of them) or .parquet.",
)
@column_options
@click.option("--lines", is_flag=True, help="Read each line of a text file as a row.")
@click.option(
    "--on-bad-row",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do with a row that cannot be read.",
)
def convert(
    files: tuple[str, ...],
    output: str,
    text: str | None,
    text_pair: str | None,
    label: tuple[str, ...],
    encoding: str | None,
    delimiter: str | None,
    lines: bool,
    on_bad_row: str,
) -> None:
    """Write data in another format.

    \b
    kerasllm data convert reviews.tsv --output reviews.jsonl
    kerasllm data convert 'parts/*.csv.gz' --text body --label topic --output all.parquet

    All columns are kept, or only the named ones. The output is read back and compared with the
    input.
    """
    from kerasllm.data.convert import convert as write
    from kerasllm.data.readers.files import read_as
    from kerasllm.errors import cut
    from kerasllm.plurals import counted
    from kerasllm.workflows.report import Report

    report = Report()
    read: Any = read_as(
        files,
        "train",
        encoding=encoding,
        delimiter=delimiter,
        preferred="text",
        classes=not lines,
    )
    with report.busy("converting") as busy:
        done = write(
            read,
            output,
            columns=[column for column in (text, text_pair, *label) if column],
            lines=lines,
            on_bad_row=on_bad_row,
            notify=busy.update,
        )
    report.line(
        f"{output}: {counted(done.rows, 'row')}, each read again and compared; "
        f"columns {cut(', '.join(done.columns))}"
    )
    if done.skipped:
        file, line, why = done.bad_rows[0]
        report.line(f"{counted(done.skipped, 'row')} left out, the first at {file}:{line}: {why}")


@data.command()
@recipe_options
@click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    help="Number of tokenizing processes, each with its own files.  [default: one per core]",
)
def prepare(recipe: str | None, processes: int | None, verbose: bool, **options) -> None:
    """Tokenize data ahead of time, so that training starts at once.

    \b
    kerasllm data prepare --recipe gpt_continue --train 'corpus/*.jsonl' --processes 8

    finetune finds the tokens in the cache if the data, preset and lengths are the same. Several
    processes share the files; an interrupted run is resumed.
    """
    if not recipe:
        raise click.UsageError(missing_recipe())
    loaded = load_recipe(recipe, options)
    import_tensorflow()
    from kerasllm.workflows.prepare import prepare_data

    prepare_data(loaded, processes=processes or os.cpu_count() or 1)
