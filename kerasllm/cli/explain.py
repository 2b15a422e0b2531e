"""`kerasllm explain`: show which words a prediction depends on."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from kerasllm.cli.file_options import encoding_options
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.startup import import_tensorflow
from kerasllm.errors import CommandError, KerasllmError
from kerasllm.explain.explanation import MOST_STEPS

_METHODS = {
    "integrated-gradients": "integrated_gradients",
    "occlusion": "occlusion",
    "attention": "attention",
}
_SUFFIXES = (".html", ".json", ".jsonl", ".png")


@click.command()
@click.argument("run", metavar="RUN|PRESET", type=RUN)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="FILE",
    help="Texts: csv, tsv, jsonl, parquet, txt (one per line), folder or address.",
)
@click.option("--text", metavar="COLUMN", help="Column of the texts in FILE.")
@click.option("--text-pair", metavar="COLUMN", help="Column of the second texts in FILE.")
@encoding_options
@click.option("--question", metavar="TEXT", help="A question to answer from --context.")
@click.option("--context", metavar="TEXT", help="The text that may hold the answer.")
@click.option(
    "--target",
    metavar="NAME",
    help="Output to explain: a label, an entity type or a next word.  [default: the model's "
    "prediction]",
)
@click.option(
    "--method",
    type=click.Choice(list(_METHODS)),
    default="integrated-gradients",
    show_default=True,
    help="Attribution method. Attention weights are not an explanation and are shown for "
    "inspection only.",
)
@click.option(
    "--baseline",
    type=click.Choice(["auto", "mask", "pad"]),
    default="auto",
    show_default=True,
    help="Token that replaces a removed word; auto: the one with the larger effect.",
)
@click.option(
    "--steps",
    type=click.IntRange(2, MOST_STEPS),
    metavar="N",
    help="Integration steps.  [default: 16 to 1024, until the error is small]",
)
@click.option(
    "--max-error",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.01,
    show_default=True,
    help="Largest completeness error, relative to the total attribution; explanations above it are "
    "rejected.",
)
@click.option(
    "--global",
    "globally",
    is_flag=True,
    help="Show the most important words of each class, over FILE or the run's test data.",
)
@click.option(
    "--mistakes",
    is_flag=True,
    help="Explain the most confident mistakes on the run's test data, and add them to its report.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Explain the first N texts of FILE; with --global, N random ones.  [default: all; with "
    "--global 200]",
)
@click.option("--output", metavar="FILE", help="Write a .html, .png, .json or .jsonl file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def explain(
    run: str,
    texts: tuple[str, ...],
    inputs: tuple[str, ...],
    text: str | None,
    text_pair: str | None,
    encoding: str | None,
    delimiter: str | None,
    question: str | None,
    context: str | None,
    method: str,
    globally: bool,
    mistakes: bool,
    limit: int | None,
    output: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show which words a prediction depends on, and how much.

    \b
    kerasllm explain my_run "A film to remember."
    kerasllm explain my_run "A film to remember." --target negative
    kerasllm explain my_pairs "A man plays." "Somebody is playing."
    kerasllm explain my_qa --question "Where was Ada born?" --context "..."
    kerasllm explain smollm2_135m_instruct "The capital of France is"
    kerasllm explain my_run --input texts.txt --output explained.html
    kerasllm explain my_run --global
    kerasllm explain my_run --mistakes

    The score of a word is its contribution to the output, by integrated gradients; scores that do
    not add up to the output are rejected. The output also shows what removing each word changes,
    and how faithful the ranking of the words is.
    """
    from kerasllm.tasks.task import PredictOptions
    from kerasllm.workflows.explain import explain as run_explain
    from kerasllm.workflows.explain import refuse_unless_explained
    from kerasllm.workflows.explain_mistakes import explain_mistakes
    from kerasllm.workflows.trained import open_trained

    trained = open_trained(run)
    refuse_unless_explained(trained)
    file = _output(output)
    texts = _with_question(texts, question, context)
    chosen = PredictOptions(text=text, text_pair=text_pair, encoding=encoding, delimiter=delimiter)
    if globally:
        if texts or options["target"] or output:
            raise CommandError(
                "--global reads files, and shows each class that the model predicts",
                where="TEXT" if texts else "--target" if options["target"] else "--output",
                fix="leave it out; --json gives the words to a program",
            )
        # Refused before TensorFlow is imported, where there are none.
        files = list(inputs) or _listed(trained.test_data())
        import_tensorflow()
        options |= {"method": _METHODS[method], "limit": limit}
        _show_globally(trained, trained.task.inputs(trained, files, chosen), as_json, options)
        return
    options["method"] = _METHODS[method]
    if mistakes:
        named = {"TEXT": texts, "--input": inputs, "--target": options["target"], "--limit": limit}
        if any(named.values()):
            raise CommandError(
                "--mistakes explains what the model predicts for the run's own test data",
                where=next(name for name, value in named.items() if value),
                fix="leave it out",
            )
        import_tensorflow()
        found: Iterable = explain_mistakes(trained, **options)
        click.echo(f"the explanations are in {trained.run.path / 'report.html'}", err=True)
    else:
        given = _inputs(trained, texts, inputs, chosen)
        import_tensorflow()
        if inputs:
            options["left_out"] = _tell_left_out
        found = run_explain(trained, itertools.islice(given, limit), **options)
    if file is not None:
        _write(file, list(found))
        click.echo(f"wrote {file}", err=True)
        return
    if as_json:
        for each in found:
            click.echo(json.dumps(each.as_dict(), ensure_ascii=False))
        return
    _show(found)


def _tell_left_out(given: Any, error: KerasllmError) -> None:
    """Says that a text of a file is not explained."""
    from kerasllm.explain.safe_text import safe

    text = " | ".join([given] if isinstance(given, str) else given)
    shown = safe(" ".join(text.split())[:60])
    click.echo(f"not explained: {shown!r}: {safe(error.what)}", err=True)


def _inputs(trained: Any, texts: tuple[str, ...], files: tuple[str, ...], options: Any) -> Iterable:
    """Returns the texts of the arguments or of files, as the task predicts for them."""
    if texts and files:
        raise CommandError(
            "Texts were given both as arguments and with --input", fix="give one of the two"
        )
    if files:
        return trained.task.inputs(trained, list(files), options)
    if not texts:
        raise CommandError(
            "There are no texts to explain",
            fix='give one, as kerasllm explain RUN "A text.", or a file with --input',
        )
    for number, value in enumerate(texts, start=1):
        if not value.strip():
            raise CommandError(f"Text {number} is empty", fix="give a text with words in it")
    return trained.task.parse(trained, texts)


def _with_question(
    texts: tuple[str, ...], question: str | None, context: str | None
) -> tuple[str, ...]:
    if question is None and context is None:
        return texts
    if question is None or context is None or texts:
        raise CommandError(
            "A question needs a context, and no other text beside it",
            where="--question" if context is None else "--context",
            fix='give both: --question "..." --context "..."',
        )
    return question, context


def _output(name: str | None) -> Path | None:
    """Returns the file to write; refused before anything is computed where it cannot be."""
    if name is None:
        return None
    file = Path(name).expanduser()
    if file.suffix not in _SUFFIXES:
        raise CommandError(
            f"An explanation cannot be written as {file.suffix or 'a file without suffix'}",
            where=f"--output {name}",
            fix=f"choose one of {', '.join(_SUFFIXES)}",
        )
    if not file.parent.is_dir():
        raise CommandError(
            "There is no such folder", where=f"--output {name}", fix=f"make it: mkdir {file.parent}"
        )
    return file


def _write(file: Path, found: list) -> None:
    if file.suffix == ".png":
        from kerasllm.explain.show_png import write_png

        write_png(found, file)
        return
    if file.suffix == ".html":
        from kerasllm.explain.show_html import page_of

        text = page_of(found)
    elif file.suffix == ".jsonl":
        text = "".join(json.dumps(one.as_dict(), ensure_ascii=False) + "\n" for one in found)
    else:
        text = json.dumps([one.as_dict() for one in found], ensure_ascii=False, indent=2) + "\n"
    file.write_text(text, encoding="utf-8")


def _show_globally(trained: Any, inputs: Iterable, as_json: bool, options: dict) -> None:
    from rich.console import Console

    from kerasllm.explain.show_terminal import words_table
    from kerasllm.plurals import counted
    from kerasllm.workflows.explain import SAMPLE, explain_globally

    del options["target"], options["max_error"]
    options["limit"] = options["limit"] or SAMPLE
    shown = Console(stderr=True)
    with shown.status("opening the model") as status:
        found = explain_globally(trained, inputs, notify=status.update, **options)
    if as_json:
        for each in found.classes:
            click.echo(json.dumps(each.as_dict(), ensure_ascii=False))
        return
    console = Console(file=sys.stdout, highlight=False, markup=False)
    for each in found.classes:
        console.print(words_table(each))
        console.print()
    left = f"; {found.left_out:,} could not be explained" if found.left_out else ""
    console.print(f"of {counted(found.texts, 'text')}{left}; means of the scores of each word")


def _listed(spec: str | list[str]) -> list[str]:
    return [spec] if isinstance(spec, str) else list(spec)


def _show(found: Iterable) -> None:
    from rich.console import Console

    from kerasllm.explain.show_terminal import rendered

    console = Console(file=sys.stdout, highlight=False, markup=False)
    for number, each in enumerate(found):
        if number:
            console.print()
        console.print(rendered(each))
