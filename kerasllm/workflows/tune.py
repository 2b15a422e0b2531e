"""Search for the best hyperparameters of a recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasllm.errors import CommandError, Interrupted, JobError
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.run import shell_word
from kerasllm.tasks.task import task_of
from kerasllm.tuning.folder import SearchFolder
from kerasllm.tuning.space import Space, space_of
from kerasllm.tuning.study import Study
from kerasllm.tuning.workers import Workers
from kerasllm.workflows.report import Report
from kerasllm.workflows.signals import asked_to_stop
from kerasllm.workflows.tune_results import write_results
from kerasllm.workflows.tune_search import Retraining, Search, higher_is_better
from kerasllm.workflows.tune_summary import TuneProgress, show_results, show_search

TRIALS, SEEDS = 20, 3


def tune(
    recipe: WholeRecipe | None,
    *,
    name: str = "tune",
    space: Sequence[str] = (),
    trials: int | None = None,
    output: str | Path | None = None,
    metric: str | None = None,
    workers: int = 1,
    storage: str | None = None,
    pruner: str = "median",
    budget: float | None = None,
    seeds: int = SEEDS,
    report: Report | None = None,
) -> dict[str, Any]:
    """Trains a recipe with different settings, and finds those with the best validation metric.

    Each trial is an ordinary run in its own process; this one never imports TensorFlow. Called
    again with the same folder, it continues the search that is in it.

    Args:
        recipe: The recipe; `None`: that of the search in `output`, with its space.
        name: Name of the recipe, for the folder. Defaults to `"tune"`.
        space: What varies: `KEY=RANGE`, or files; see `kerasllm.tuning.space.space_of`. Defaults to
            none: the space of the recipe's task.
        trials: How many settings are tried. Defaults to `None`: as many as before, else 20.
        output: The folder of the search. Defaults to `None`: `runs/NAME-tune`.
        metric: What the search goes by, of the validation. Defaults to `None`: the main metric of
            the task.
        workers: Trials at a time. Defaults to `1`.
        storage: The address of a database for the trials. Defaults to `None`: a file in the folder.
        pruner: `"median"`, `"asha"` or `"none"`. Defaults to `"median"`.
        budget: Seconds of the search, after which no trial continues. Defaults to `None`: no limit.
        seeds: How many times the best settings and the recipe's own are trained at the end, with
            different seeds. Defaults to `3`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        What was found, as `result.json` holds it.

    Raises:
        KerasllmError: If the recipe, the space, the data or the folder is refused, trials fail one
            after the other, or a signal ended the search.
    """
    report = report or Report()
    folder = SearchFolder(output or Path("runs") / f"{name}-tune")
    if recipe is None:
        searched, noted = folder.read()
        name, metric, storage = noted["name"], noted["metric"], noted["storage"]
    else:
        searched = space_of(recipe, space)
    _refuse_without_validation(searched)
    continued = folder.begin(searched, {"name": name, "metric": metric, "storage": storage})
    trials = folder.trials_asked(trials, TRIALS)
    task = task_of(searched.recipe)
    search = Search(
        folder,
        searched,
        Study(
            folder.path,
            searched,
            higher_is_better=higher_is_better(task, metric),
            pruner=pruner,
            storage=storage,
            seed=searched.recipe.training.seed,
        ),
        metric,
        report,
    )
    # Of a space that can be counted, each setting is tried once.
    most = int(min(trials, searched.count))
    show_search(report, name, folder, searched, search.study, most, continued=continued)
    pool, progress = Workers(workers), TuneProgress(report, search, most, workers)
    with asked_to_stop(search.on_signal) as caught:

        def retrain(title: str, runs: Sequence[Retraining]) -> None:
            if all(run.is_finished(folder) for run in runs):
                return
            report.heading(title)
            with progress:
                pool.work(
                    lambda: search.retraining(runs, progress),
                    lambda: all(run.is_finished(folder) for run in runs),
                    lambda: search.stopped,
                    progress.show,
                )
            _refuse_interrupted(caught.signal, search, most)

        if seeds:
            # Before the trials: what is wrong with the data, those of the test too, is told now.
            retrain("Baseline: the recipe's own settings", search.default())
        late = math.inf
        if budget is not None:
            late = time.monotonic() + budget - search.seconds() / workers
        if not search.study.is_over(most):
            report.heading(f"Trials into {folder.path}")
        progress.begin(late)
        with progress:
            pool.work(
                lambda: search.trial(most, progress),
                lambda: search.study.is_over(most),
                lambda: search.stopped or time.monotonic() > late,
                progress.show,
            )
        _refuse_interrupted(caught.signal, search, most)
        best = search.study.best
        if best is None:
            raise JobError(
                "No trial was finished",
                where=str(folder.path),
                fix="give the search more time: --budget, or more --trials",
            )
        runs = search.retrainings(best, seeds)
        retrain(f"Best settings and baseline, {counted(seeds, 'seed')} each", runs)
    result = write_results(folder, search, runs, name)
    show_results(report, folder, result)
    return result


def _refuse_without_validation(space: Space) -> None:
    data = space.recipe.data
    if not (data.validation or getattr(data, "validation_split", 0)):
        raise CommandError(
            "A search needs validation data, and there is none",
            where="data.validation",
            fix="give --validation FILE, or set data.validation_split above 0",
        )


def _refuse_interrupted(signal: Any, search: Search, most: int) -> None:
    if signal is None:
        return
    done = len(search.study.counted)
    raise Interrupted(
        f"{signal.name} after {done} of {counted(most, 'trial')}; those in progress resume from "
        "their latest checkpoints",
        where=str(search.folder.path),
        fix="continue with the same command, or with `kerasllm tune --resume --output "
        f"{shell_word(search.folder.path)}`",
        signal=signal,
    )
