"""Train one recipe with several seeds, each in its own process, into one folder of runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from kerasllm.addresses import is_address
from kerasllm.distribution.launch import dies_with_us
from kerasllm.errors import CommandError, Interrupted, JobError, RunError
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe, load
from kerasllm.reports.plain import number
from kerasllm.reports.run_groups import SEEDS, write_seeds
from kerasllm.run import Run, shell_word, write_text
from kerasllm.tasks.task import task_of
from kerasllm.tuning.folder import CHANGE_NOTHING
from kerasllm.workflows.report import Report
from kerasllm.workflows.signals import asked_to_stop

COMMAND = (sys.executable, "-m", "kerasllm")
"""What a process runs, before `finetune`."""


def finetune_seeds(
    recipe: WholeRecipe,
    count: int,
    *,
    name: str = "finetune",
    output: str | Path | None = None,
    resume: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Trains a recipe with several seeds, from its own seed on.

    What differs between the runs is chance: the new weights, the order of the data, dropout, and
    the held-out validation data where the recipe splits them off. Where the results are so spread,
    a difference as large says nothing.

    Args:
        recipe: What to do.
        count: How many seeds.
        name: Name of the recipe, for the folder. Defaults to `"finetune"`.
        output: The folder, whose runs are `seed-0`, `seed-1`... Defaults to `None`:
            `runs/NAME/seeds-DATE-TIME`.
        resume: Continue in the folder: finished runs are kept. Defaults to `False`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        What `kerasllm.reports.run_groups.write_seeds` wrote.

    Raises:
        KerasllmError: If the folder is refused, a training fails, or a signal ended it.
    """
    report = report or Report()
    folder = _folder(output, name, resume)
    recipes = {
        seed: recipe.model_copy(
            update={"training": recipe.training.model_copy(update={"seed": seed})}
        )
        for seed in range(recipe.training.seed, recipe.training.seed + count)
    }
    for seed, own in recipes.items():
        _refuse_another_recipe(folder, seed, own)
    runs = []
    for seed, own in recipes.items():
        run = Run(folder / f"seed-{seed}")
        runs.append(run)
        if run.metrics.is_file():
            report.line(f"seed {seed}: {run.path} is already finished")
            continue
        file = folder / f"seed-{seed}.yaml"
        write_text(file, own.to_yaml())
        report.heading(f"Seed {seed}, {len(runs)} of {count}")
        _train(file, run)
    summary = write_seeds(folder, runs)
    show_seeds(summary, task_of(recipe).metrics, report)
    report.facts(
        [
            ("the runs", str(folder)),
            ("compare them with others", f"kerasllm compare {shell_word(folder)} OTHER"),
        ]
    )
    return summary


def show_seeds(summary: Mapping[str, Any], names: Mapping[str, str], report: Report) -> None:
    """Shows mean and spread of the metrics of several seeds.

    Args:
        summary: What `write_seeds` gave.
        names: The name of each metric, by its key.
        report: Where to.
    """
    part = next((part for part in ("test", "validation") if part in summary["metrics"]), None)
    if part is None:
        return
    measured = summary["metrics"][part]
    report.heading(f"{part.capitalize()} data, {counted(len(summary['runs']), 'seed')}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for column in ("mean", "std", "least", "most"):
        table.add_column(column, justify="right", no_wrap=True)
    for key, shown in names.items():
        if key in measured:
            cells = (number(measured[key][name]) for name in ("mean", "std", "least", "most"))
            table.add_row(shown, *cells)
    report.show(table)


def _folder(output: str | Path | None, name: str, resume: bool) -> Path:
    if is_address(output):
        raise CommandError(
            "Several seeds can only be trained into a local folder",
            where=f"--output {output}",
            fix="name a folder, and copy it there afterwards",
        )
    if output is None:
        folder = Path("runs") / name / f"seeds-{datetime.now():%Y%m%d-%H%M%S}"
    else:
        folder = Path(output)
    if folder.is_file() or (folder / "recipe.yaml").is_file():
        raise RunError(
            "The folder for the runs of several seeds is a "
            + ("file" if folder.is_file() else "run directory"),
            where=str(folder),
            fix="choose another folder with --output",
        )
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        raise RunError(
            "The folder already holds runs"
            if (folder / SEEDS).is_file() or any(folder.glob("seed-*"))
            else "The folder is not empty",
            where=str(folder),
            fix="continue with --resume, or choose another folder with --output",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _refuse_another_recipe(folder: Path, seed: int, recipe: WholeRecipe) -> None:
    """Refuses a recipe beside which a finished run of the folder is one of another recipe."""
    file = folder / f"seed-{seed}.yaml"
    if not Run(folder / f"seed-{seed}").metrics.is_file() or not file.is_file():
        return
    changes = [key for key in recipe.changes_from(load(file)) if key not in CHANGE_NOTHING]
    if changes:
        raise RunError(
            f"Seed {seed} was trained with another recipe: it differs in {', '.join(changes)}",
            where=str(folder),
            fix="give the recipe that the finished seeds have, or choose another folder with "
            "--output",
        )


def _train(file: Path, run: Run) -> None:
    """Trains in a process of its own, which shows what it does, and is told to stop as this is."""
    command: Sequence[str] = (
        *COMMAND,
        *("finetune", "--recipe", str(file), "--output", str(run.path), "--resume"),
    )
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # Ctrl-C in the terminal reaches this process alone, which passes it on once.
        start_new_session=True,
        preexec_fn=dies_with_us() if sys.platform == "linux" else None,
    )
    with asked_to_stop(process.send_signal) as caught:
        status = process.wait()
    resume = "continue with the same command and --resume"
    if caught.signal is not None:
        raise Interrupted(
            f"{caught.signal.name} stopped the training of {run.path.name}",
            where=str(run.path),
            fix=resume,
            signal=caught.signal,
        )
    if status:
        raise JobError(
            f"The training of {run.path.name} ended with status {status}, for the reason above",
            where=str(run.path),
            fix=f"correct it, then {resume}",
        )
