"""`kerasllm generate`: generate text from prompts with a trained model."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from kerasllm.cli.generation_options import generation_options, settings_of
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
from kerasllm.errors import CommandError

if TYPE_CHECKING:
    from kerasllm.data.answer_files import Answer
    from kerasllm.data.readers.whole_rows import WholeRow
    from kerasllm.workflows.partial_output import Output
    from kerasllm.workflows.predict_file import Predictor
    from kerasllm.workflows.trained import Trained


@click.command()
@click.argument("run", metavar="RUN|PRESET", type=RUN)
@click.option("--prompt", "texts", multiple=True, metavar="TEXT", help="A prompt. Repeatable.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="FILE",
    help="Prompts: .txt (one per line), or csv, tsv, jsonl, parquet with `prompt` or `messages`.",
)
@click.option("--text", metavar="COLUMN", help="Column of the prompts in FILE.")
@row_options
@click.option("--output", metavar="FILE", help=OUTPUT_HELP)
@click.option(
    "--chat/--no-chat",
    default=None,
    help="Apply the chat template to the prompt, as a user message.  [default: for a run trained "
    "on conversations]",
)
@generation_options(max_new_tokens=128)
@click.option("--beams", type=int, default=1, help="Number of beams for beam search.")
@click.option(
    "--length-penalty", type=float, default=1.0, help="Above 0, beam search favours longer texts."
)
@click.option("--batch-size", type=int, default=8, show_default=True, help="Prompts per batch.")
@sharded_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line, one per prompt."
)
def generate(
    run: str,
    texts: tuple[str, ...],
    inputs: tuple[str, ...],
    text: str | None,
    keep: tuple[str, ...],
    identifier: str | None,
    on_bad_row: str,
    resume: bool,
    output: str | None,
    chat: bool | None,
    batch_size: int,
    as_json: bool,
    adapter: str | None,
    strategy: str | None,
    **options,
) -> None:
    """Generate text from prompts with a trained model.

    \b
    kerasllm generate my_run --prompt "Call me" --top-p 0.9
    kerasllm generate smollm2_135m_instruct --chat --prompt "Name three whales."
    kerasllm generate my_run --input prompts.jsonl --output texts.jsonl --resume

    Without --temperature, --top-k, --top-p or --min-p, decoding is greedy.

    A run that was trained on conversations answers the prompt, using its chat template; --no-chat
    continues the text instead. Any other model, even a preset with a chat template, continues the
    text unless --chat is given: its files do not tell what it was tuned on.

    With --output, the file has one row for each row of FILE, in order, as with `kerasllm predict`.
    """
    from kerasllm.workflows.trained import open_generator_source

    if batch_size < 1:
        raise CommandError(f"--batch-size must be 1 or more. Received: {batch_size}")
    if bool(texts) == bool(inputs):
        what = "both --prompt and --input" if texts else "neither --prompt nor --input"
        raise CommandError(
            f"Prompts must come from one source. Received: {what}", fix="give one of them"
        )
    target = output_of(output, resume, inputs)
    kept = columns_to_keep(identifier, keep, of_files=bool(inputs))
    if target is not None and options["seed"] is None:
        # What is resumed draws as it began.
        options["seed"] = target.noted().get("seed")
    settings = settings_of(**options)
    told: dict[str, Any] = {"chat": chat, "adapter": adapter, "notify": _tell}
    trained = open_generator_source(run).under(strategy)
    if inputs:
        how = (settings, chat, batch_size)
        _generate_files(trained, inputs, text, kept, on_bad_row, target, as_json, how, told)
        return
    rows = _rows_of_arguments(texts)
    if len(texts) == 1 and not (as_json or output) and sys.stdout.isatty():
        import_tensorflow(strategy)
        from kerasllm.workflows.generate import stream

        _show(stream(trained, rows[0].input, settings, **told))
        return
    predictor = _predictor(trained, settings, batch_size, told, refuse=True)
    show = None if as_json else functools.partial(_shown, many=len(texts) != 1)
    answer_texts(rows, predictor, target, show, noun="text", errors=False)


def _generate_files(
    trained: Trained,
    inputs: Sequence[str],
    text: str | None,
    keep: Sequence[str] | None,
    on_bad_row: str,
    target: Output | None,
    as_json: bool,
    how: tuple,
    told: Mapping[str, Any],
) -> None:
    """Generates for the rows of files."""
    from kerasllm.workflows.predict_file import fingerprint_of
    from kerasllm.workflows.prompt_rows import files_of_prompts, prompt_rows

    files, (settings, _, batch_size) = files_of_prompts(inputs), how
    if target is not None:
        target.check([file.path for file in files])
        asked = (on_bad_row, text, target.path.suffix, how)
    refuse = on_bad_row == "error"
    answer_files(
        prompt_rows(files, text, keep),
        f"prompts in '{text}'" if text else "`prompt` or `messages`",
        lambda columns: _predictor(trained, settings, batch_size, told, refuse, columns),
        target,
        None if as_json else functools.partial(_shown, many=True),
        on_bad_row=on_bad_row,
        noun="text",
        fingerprint=lambda columns: {
            "the input": " ".join(file.sha256() for file in files),
            "the model": fingerprint_of(trained.folder),
            "the adapter": fingerprint_of(told["adapter"]) if told["adapter"] else "",
            "the options": repr((*asked, columns)),
        },
        noted={"seed": settings.seed},
    )


def _predictor(
    trained: Trained,
    settings,
    batch_size: int,
    told: Mapping[str, Any],
    refuse: bool,
    columns: bool = False,
) -> Predictor:
    """Returns what generates texts; the prompt is no part of them where a row has it."""
    from kerasllm.workflows.generate import PROMPTS_PER_ROW
    from kerasllm.workflows.predict_file import Predictor

    def compute(prompts: Iterator[Any]) -> Iterator[Mapping[str, Any]]:
        import_tensorflow(trained.strategy)
        from kerasllm.workflows import generate as workflow

        yield from workflow.generate(
            trained, prompts, settings, batch_size=batch_size, refuse=refuse, **told
        )

    forms: dict[str, Any] = {"raw": dict, "flat": dict, "typed": _typed}
    shared = ("prompt",) if columns else ()
    return Predictor(compute, PROMPTS_PER_ROW * batch_size, forms, shared)


def _typed(made: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a text as columns with types: a conversation is JSON."""
    prompt = made.get("prompt")
    return {**made, "prompt": json.dumps(prompt)} if isinstance(prompt, list) else dict(made)


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _show(pieces: Iterator[str]) -> None:
    """Shows a text as it comes, and ends its line; of an empty one nothing is shown."""
    shown = False
    for piece in pieces:
        shown = shown or bool(piece)
        click.echo(piece, nl=False)
    if shown:
        click.echo()


def _rows_of_arguments(texts: Sequence[str]) -> list[WholeRow]:
    from kerasllm.data.chat.messages import without_mark
    from kerasllm.data.readers.whole_rows import WholeRow
    from kerasllm.workflows.generate import Prompt

    rows = []
    for number, text in enumerate(map(without_mark, texts), start=1):
        if not text.strip():
            raise CommandError(f"Prompt {number} is empty", where="--prompt", fix="leave it out")
        where = f"--prompt {number}"
        rows.append(WholeRow(number - 1, where, Prompt(text, where), {}, None))
    return rows


def _shown(answer: Answer, many: bool) -> str:
    """Returns what is printed of a text: with its prompt above, if there are many."""
    if answer.predicted is None:
        return f"({answer.error})\n"
    made = answer.predicted
    if not many:
        return made["text"] if made["text"].strip() else ""
    prompt = made["prompt"]
    prompt = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return f"{click.style(prompt, bold=True)}\n{made['text'].strip() or '(no text)'}\n"
