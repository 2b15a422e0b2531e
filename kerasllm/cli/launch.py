"""`kerasllm launch`: run a verb in several local worker processes."""

from __future__ import annotations

import sys

import click

from kerasllm.cli import completion
from kerasllm.errors import CommandError
from kerasllm.recipe.strategy_names import check_name, is_sharded

_VERBS = ("finetune", "plan", "evaluate")


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--workers", type=int, required=True, metavar="N", help="Number of worker processes.")
@click.option(
    "--strategy",
    metavar="NAME",
    shell_complete=completion.launched_strategies,
    help="multi_worker, or sharded, sharded:fsdp or sharded:DATAxMODEL.  [default: multi_worker]",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- VERB [OPTIONS]...")
@click.pass_context
def launch(
    ctx: click.Context, workers: int, strategy: str | None, command: tuple[str, ...]
) -> None:
    """Run finetune, plan or evaluate in N local worker processes.

    \b
    kerasllm launch --workers 2 -- finetune --recipe bert_cls --output runs/two
    kerasllm launch --strategy sharded --workers 2 -- finetune --recipe bert_cls --output runs/two

    The workers find each other through TF_CONFIG and train together under --strategy multi_worker,
    or under --strategy sharded, where each holds a part of the model. The option may stand here or
    in the command. When one worker fails, all are stopped and its error is shown. Use it to
    rehearse a job for several machines: on one machine with several GPUs, --strategy mirrored needs
    no launch.
    """
    if workers < 1:
        raise CommandError(
            f"--workers must be 1 or more. Received: {workers}", where="option --workers"
        )
    from kerasllm.distribution.launch import launch as run

    debug = ["--debug"] if ctx.find_root().obj["debug"] else []
    given = _for_workers(command, strategy)
    ctx.exit(run([sys.executable, "-m", "kerasllm", *debug, *given], workers))


def _for_workers(command: tuple[str, ...], strategy: str | None) -> list[str]:
    """Returns a command with the strategy of several workers, unless it names one itself."""
    example = "kerasllm launch --workers 2 -- finetune --recipe bert_cls"
    if not command:
        raise CommandError("launch was given no command", fix=f"give one, as in: {example}")
    verb, *options = command
    if verb not in _VERBS:
        raise CommandError(
            f"{verb!r} does not run in several workers; these do: {', '.join(_VERBS)}",
            fix=f"give it without launch, or launch one of these, as in: {example}",
        )
    named = _strategy_named(options)
    if strategy is not None:
        check_name(strategy)
        if named not in (None, strategy):
            raise CommandError(
                f"launch was given --strategy {strategy}, and its command {named!r}",
                where="option --strategy",
                fix="name the strategy once",
            )
    if verb == "evaluate" and not is_sharded(strategy or named or ""):
        raise CommandError(
            "evaluate runs in several workers only where each of them holds a part of the model",
            where="launch",
            fix="give launch --strategy sharded, or give the command without launch",
        )
    _refuse_alone(strategy or named, "option --strategy" if strategy else "the command of launch")
    if named is not None:
        return list(command)
    return [verb, "--strategy", strategy or "multi_worker", *options]


def _refuse_alone(strategy: str | None, where: str) -> None:
    """Refuses a strategy under which no worker would meet another."""
    if strategy in (None, "auto", "multi_worker") or is_sharded(strategy):
        return
    raise CommandError(
        f"under strategy {strategy!r} each worker would train alone",
        where=where,
        fix="leave the strategy out, or give the command without launch",
    )


def _strategy_named(options: list[str]) -> str | None:
    """Returns the value of `--strategy`, else of `--set training.strategy`, if one is there."""
    found = {}
    for at, option in enumerate(options):
        name, equals, value = option.partition("=")
        if not equals:
            value = options[at + 1] if at + 1 < len(options) else ""
        if name == "--strategy":
            found["--strategy"] = value
        elif name == "--set" and value.startswith("training.strategy="):
            found["--set"] = value.partition("=")[2].strip("\"' ")
    return found.get("--strategy", found.get("--set"))
