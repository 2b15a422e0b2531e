"""`kerasllm chat`: chat with a trained model."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from kerasllm.cli.generation_options import generation_options, settings_of
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.startup import import_tensorflow
from kerasllm.errors import DataError

_HELP = "/reset forgets the conversation, /system TEXT sets the system message, /undo removes the\n\
last message, /quit or Ctrl-D ends; Ctrl-C stops an answer."


@click.command()
@click.argument("run", metavar="RUN|PRESET", type=RUN)
@click.option("--system", metavar="TEXT", help="System message.")
@generation_options(max_new_tokens=512)
def chat(run: str, system: str | None, adapter: str | None, **options) -> None:
    """Chat with a trained model.

    \b
    kerasllm chat my_run
    kerasllm chat smollm2_135m_instruct --system "Answer in one sentence." --temperature 0.7
    """
    settings = settings_of(**options)
    import_tensorflow()
    from kerasllm.workflows.chat import Conversation

    conversation = Conversation(run, settings, system=system, adapter=adapter)
    if sys.stdin.isatty():
        click.echo(_HELP, err=True)
    for line in _lines():
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        if command.startswith("/"):
            click.echo(_obey(conversation, command, rest.strip()), err=True)
        elif line.strip():
            _answer(conversation, line)


def _lines() -> Iterator[str]:
    """Yields what the user types, or what is piped in, until its end."""
    typed = sys.stdin.isatty()
    while True:
        try:
            line = input("> ") if typed else sys.stdin.readline()
        except EOFError:
            click.echo(err=True)
            return
        except KeyboardInterrupt:
            click.echo("\nCtrl-D or /quit ends.", err=True)
            continue
        if not typed and not line:
            return
        # A file that is piped in may begin with a byte-order mark.
        yield line.rstrip("\r\n").lstrip("\ufeff")


def _obey(conversation, command: str, rest: str) -> str:
    """Does what a line that begins with `/` says, and returns what to tell the user."""
    if command == "/reset":
        conversation.reset()
        return "The conversation is forgotten."
    if command == "/system":
        conversation.system = rest or None
        return "The system message is set." if rest else "There is no system message now."
    if command == "/undo":
        undone = conversation.undo()
        return "The last message was removed." if undone else "There is no message to remove."
    return f"There is no command {command}.\n{_HELP}"


def _answer(conversation, message: str) -> None:
    """Shows the model's answer as it comes; Ctrl-C ends it, and not the conversation."""
    pieces = conversation.answer(message)
    told = shown = False
    try:
        for piece in pieces:
            if conversation.dropped and not told:
                told = True
                click.echo(
                    "The conversation is longer than the model's context: the oldest "
                    f"{conversation.dropped} messages were dropped.",
                    err=True,
                )
            click.echo(piece, nl=False)
            shown = shown or bool(piece.strip())
        if shown:
            click.echo()
        else:
            click.echo("The answer is empty: the model generated no text.", err=True)
    except KeyboardInterrupt:
        click.echo()
        click.echo("Stopped.", err=True)
    except DataError as error:
        click.echo(f"{error}", err=True)
    finally:
        pieces.close()
