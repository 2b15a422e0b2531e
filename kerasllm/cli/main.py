"""The `kerasllm` command: its verbs are imported when they run, and errors are shown as a block."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback

import click
from click.shell_completion import CompletionItem

from kerasllm import __version__
from kerasllm.addresses import redact
from kerasllm.cli.characters import escape_what_cannot_be_written
from kerasllm.errors import (
    MEMORY_RAN_OUT,
    CommandError,
    Interrupted,
    JobError,
    KerasllmError,
    cut,
)

# The help lines are here so that `kerasllm --help` imports no verb.
_VERBS = {
    "finetune": "Fine-tune a model from a recipe.",
    "tune": "Search for the best hyperparameters of a recipe.",
    "plan": "Check a training run before it starts: steps, memory, errors.",
    "evaluate": "Evaluate a trained model on a dataset.",
    "report": "Write the report of a run: metrics, errors, curves.",
    "compare": "Compare runs and test whether differences are significant.",
    "runs": "List runs and their metrics.",
    "watch": "Follow runs in a browser, during and after training.",
    "benchmark": "Measure a pretrained model on GLUE or SuperGLUE.",
    "predict": "Predict with a trained model: labels, scores, spans, answers.",
    "explain": "Show which words a prediction depends on.",
    "generate": "Generate text from prompts with a trained model.",
    "chat": "Chat with a trained model.",
    "export": "Export a trained model for TensorFlow Serving, ONNX and others.",
    "serve": "Serve a trained model over HTTP.",
    "track": "Send runs to an experiment tracker: MLflow, W&B, Trackio.",
    "compress": "Quantize, prune or distill a trained model.",
    "sign": "Sign a run, an export or a preset with your key.",
    "verify": "Verify the signature, checksums and audit trail of a run.",
    "data": "Inspect, clean, convert and tokenize data.",
    "recipes": "List, show, copy and validate recipes.",
    "presets": "List and download pretrained models.",
    "launch": "Run finetune in several local worker processes.",
    "doctor": "Check the installation: versions, devices, what works.",
}


class Verbs(click.Group):
    """A group whose commands are modules of `kerasllm.cli`, loaded when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        return getattr(importlib.import_module(f"kerasllm.cli.{name}"), name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # A group of click's would import each verb for its line of help.
        verbs = [
            CompletionItem(name, help=line)
            for name, line in _VERBS.items()
            if name.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(self, ctx: click.Context, args: list[str]):
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            from kerasllm import aliases
            from kerasllm.cli.suggestions import command_for

            if command := command_for(args[0], args[1:]):
                note = aliases.VERBS[args[0].lower()].note
                what = f"There is no command {args[0]!r}" + (f": {note}" if note else "")
                raise CommandError(what, fix=f"type: {command}") from error
            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            if near:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from error
            raise

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader has all it needs, as in `| head -1`: not a failure, although
            # click would make it one. Writing at exit would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kerasllm")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors, and TensorFlow's log.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Fine-tune language models with Keras and TensorFlow.

    To start, on bundled data: kerasllm finetune --recipe bert_cls

    \b
    Shell completion, in ~/.bashrc (zsh, fish: zsh_source, fish_source):
      eval "$(_KERASLLM_COMPLETE=bash_source kerasllm)"
    """
    ctx.obj = {"debug": debug}
    if not debug:
        # TensorFlow reads it when it is imported, which no verb has done yet.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with its status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    escape_what_cannot_be_written()
    debug = "--debug" in arguments[:1]
    try:
        status = cli.main(arguments, prog_name="kerasllm", standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and (ours := _suggestion(error, arguments)):
            error = ours
        error.message = cut(redact(error.message))  # type: ignore[misc]
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted.", err=True)
        status = 130
    except Exception as error:  # noqa: BLE001 - the one place where all errors end
        if debug:
            click.echo(redact(traceback.format_exc()), err=True, nl=False)
        shown = _as_shown(error)
        title = "Stopped:" if isinstance(shown, Interrupted) else "Error:"
        click.echo(f"{click.style(title, fg='red', bold=True)} {shown}", err=True)
        status = shown.exit_status
    sys.exit(status or 0)


def _suggestion(error: click.NoSuchOption, arguments: list[str]) -> click.UsageError | None:
    """Returns the refusal of another tool's options with the command to type; `None`: not known."""
    from kerasllm.cli.suggestions import in_our_options

    context = error.ctx
    verb = context.command.name if context and context.command else None
    found = in_our_options(verb, arguments, _options_of(context)) if verb in arguments else None
    if found is None:
        return None
    command, notes = found
    text = f"No such option: {error.option_name}{''.join(f' ({note})' for note in notes)}"
    return click.UsageError(f"{text}\n  do:    type: kerasllm {command}", context)


def _options_of(context: click.Context) -> dict[str, bool]:
    """Returns the options of a command and whether each takes a value."""
    return {
        name: not getattr(option, "is_flag", False)
        for option in context.command.params
        for name in (*option.opts, *option.secondary_opts)
    }


def _as_shown(error: Exception) -> KerasllmError:
    """Returns the error that the user sees for any exception."""
    if isinstance(error, KerasllmError):
        return error
    if _is_disk_full(error):
        file = getattr(error, "filename", None)
        return JobError(
            "No space left on the disk",
            where=str(file) if file else None,
            fix="free some space, or choose another location with --output or KERASLLM_CACHE",
        )
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return CommandError("The name is too long for a file", where=str(error.filename))
    if isinstance(error, OSError) and error.filename:
        return JobError(f"{error.strerror}", where=str(error.filename))
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return JobError(
            MEMORY_RAN_OUT,
            fix="lower training.batch_size or data.max_length, or raise training.accumulate",
        )
    first_line = str(error).strip().partition("\n")[0][:300]
    return JobError(
        f"{type(error).__name__}: {first_line}",
        fix="this is an unexpected error; `kerasllm --debug ...` shows where it occurred",
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether TensorFlow's or JAX's error says so, of a device: neither may be imported."""
    name = type(error).__name__
    of_jax = name == "JaxRuntimeError" and str(error).startswith("RESOURCE_EXHAUSTED")
    return of_jax or name == "ResourceExhaustedError"


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether an error or its cause is a full disk; h5py and TensorFlow only say so in words."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
