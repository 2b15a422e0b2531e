"""`kerasllm benchmark`: measure a pretrained model on the tasks of GLUE or SuperGLUE."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

_OPTIONS = (
    click.option("--preset", required=True, metavar="NAME|FOLDER", help="The pretrained model."),
    click.option(
        "--data", required=True, metavar="FOLDER", help="Folder that contains one folder per task."
    ),
    click.option(
        "--tasks",
        multiple=True,
        metavar="NAMES",
        help="Tasks to train, e.g. CoLA,RTE.  [default: all in the folder]",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(1),
        default=3,
        show_default=True,
        metavar="N",
        help="Seeds per task.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(1),
        metavar="N",
        help="Epochs of each training.  [default: 3]",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a key of all recipes, e.g. training.learning_rate=5e-5. Repeatable.",
    ),
    click.option(
        "--output",
        metavar="FOLDER",
        help="Folder for the runs; finished ones are kept.  [default: runs/BENCHMARK-PRESET]",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Trainings run in parallel.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object."),
)


def _options(command: Callable) -> Callable:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def benchmark() -> None:
    """Measure a pretrained model on standard tasks."""


@benchmark.command()
@_options
def glue(**options) -> None:
    """Train a model on GLUE's tasks and measure it on their development sets.

    \b
    kerasllm benchmark glue --preset bert_base_en_uncased --data glue_data
    kerasllm benchmark glue --preset my_encoder --data glue_data --tasks RTE,MRPC

    Prints the median and spread over several seeds next to published figures. FOLDER contains CoLA,
    SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE and WNLI, or some of them. The same command resumes an
    interrupted benchmark.
    """
    _run("glue", **options)


@benchmark.command()
@_options
def superglue(**options) -> None:
    """Train a model on the tasks of SuperGLUE that are pairs of texts.

    \b
    kerasllm benchmark superglue --preset bert_base_en_uncased --data superglue_data

    Like `kerasllm benchmark glue`, for BoolQ, CB, RTE and WiC; other tasks are named and skipped.
    """
    _run("superglue", **options)


def _run(
    name: str, preset: str, data: str, tasks: tuple[str, ...], as_json: bool, **options
) -> None:
    from kerasllm.workflows.benchmark_glue import benchmark as run_benchmark
    from kerasllm.workflows.benchmark_glue import refuse_failed

    names = [each.strip() for given in tasks for each in given.split(",") if each.strip()]
    result = run_benchmark(name, preset, data, tasks=names, **options)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    refuse_failed(result)
