"""`kerasllm generate`: write what follows prompts with a trained model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from kerasllm.cli.generation_options import generation_options, settings_of
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.startup import import_tensorflow
from kerasllm.errors import CommandError
from kerasllm.plurals import counted


@click.command()
@click.argument("run", metavar="RUN|PRESET", type=RUN)
@click.option("--prompt", "texts", multiple=True, metavar="TEXT", help="A prompt; repeatable.")
@click.option(
    "--input", metavar="FILE", help="Prompts: .txt, one a line, or .jsonl (prompt or messages)."
)
@click.option("--output", metavar="FILE", help="Write a .jsonl file, not stdout.")
@click.option(
    "--chat/--no-chat",
    default=None,
    help="Whether a prompt is a user's message, to which the chat template is applied.  "
    "[default: of a run that was trained on conversations]",
)
@generation_options(max_new_tokens=128)
@click.option("--beams", type=int, default=1, help="The beams of beam search.")
@click.option("--length-penalty", type=float, default=1.0, help="Above 0: longer texts win beams.")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Prompts at a time.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a prompt, a line each."
)
def generate(
    run: str,
    texts: tuple[str, ...],
    input: str | None,
    output: str | None,
    chat: bool | None,
    batch_size: int,
    as_json: bool,
    adapter: str | None,
    **options,
) -> None:
    """Write what follows prompts with a trained model.

    \b
    kerasllm generate my_run --prompt "Call me" --top-p 0.9
    kerasllm generate smollm2_135m_instruct --chat --prompt "Name three whales."
    kerasllm generate my_run --input prompts.txt --output texts.jsonl

    Without --temperature, --top-k, --top-p and --min-p, the most likely token is taken each time.

    A run that was trained on conversations answers a prompt, by its chat template; --no-chat
    continues the text instead. Any other model, a preset with a chat template too, continues the
    text unless --chat is given: nothing in its files tells what it was tuned on.
    """
    settings = settings_of(**options)
    if batch_size < 1:
        raise CommandError(f"--batch-size must be 1 or more. Received: {batch_size}")
    from kerasllm.workflows import generate as workflow

    prompts = _prompts(texts, input)
    with _writer(output, as_json, many=len(texts) != 1) as write:
        import_tensorflow()
        told = {"chat": chat, "adapter": adapter, "notify": _tell}
        if len(texts) == 1 and not (as_json or output) and sys.stdout.isatty():
            _show(workflow.stream(run, prompts[0], settings, **told))
            return
        made = workflow.generate(run, prompts, settings, batch_size=batch_size, **told)
        for each in made:
            write(each)


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


def _prompts(texts: tuple[str, ...], input: str | None) -> list:
    from kerasllm.data.chat.messages import without_mark
    from kerasllm.workflows.generate import Prompt, read_prompts

    if bool(texts) == bool(input):
        what = "both --prompt and --input" if texts else "neither --prompt nor --input"
        raise CommandError(f"Prompts come from one place. Received: {what}", fix="give one of them")
    if input:
        return list(read_prompts(input))
    texts = tuple(map(without_mark, texts))
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise CommandError(f"Prompt {number} is empty", where="--prompt", fix="leave it out")
    return [Prompt(text, f"--prompt {number}") for number, text in enumerate(texts, start=1)]


@contextmanager
def _writer(output: str | None, as_json: bool, many: bool) -> Iterator:
    """Gives a function that writes a text; a file is written whole or not at all."""
    if output is None:
        yield lambda made: _print(made, as_json, many)
        return
    path = Path(output)
    if path.suffix != ".jsonl":
        raise CommandError(
            f"Texts are not written to {path.suffix!r} files",
            where=output,
            fix="end --output with .jsonl",
        )
    if not path.parent.is_dir():
        raise CommandError("The directory is not there", where=str(path.parent), fix="make it")
    if path.is_dir():
        raise CommandError("This is a directory", where=output, fix="name a file with --output")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with open(temporary, "w", encoding="utf-8") as file:

            def write(made: dict) -> None:
                nonlocal count
                count += 1
                file.write(_json_line(made) + "\n")

            yield write
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    click.echo(f"{counted(count, 'text')} in {path}", err=True)


def _json_line(made: dict) -> str:
    return json.dumps(made, ensure_ascii=False)


def _print(made: dict, as_json: bool, many: bool) -> None:
    if as_json:
        click.echo(_json_line(made))
    elif many:
        prompt = made["prompt"]
        prompt = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        click.echo(f"{click.style(prompt, bold=True)}\n{made['text'].strip() or '(no text)'}\n")
    elif made["text"].strip():
        click.echo(made["text"])
