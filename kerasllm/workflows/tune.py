"""Search for the settings of a recipe that train the best model."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm.errors import CommandError, Interrupted, JobError, KerasllmError
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.run import shell_word
from kerasllm.tasks.task import task_of
from kerasllm.tuning.folder import SearchFolder
from kerasllm.tuning.space import Space, space_of
from kerasllm.tuning.study import FrozenTrial, Study, TrialState
from kerasllm.tuning.trial_run import TrialRun
from kerasllm.tuning.workers import Workers
from kerasllm.workflows.report import Report
from kerasllm.workflows.signals import asked_to_stop
from kerasllm.workflows.tune_results import write_results
from kerasllm.workflows.tune_summary import TuneProgress, show_results, show_search

TRIALS, SEEDS = 20, 3

# Of one trial; and of trials one after the other, after which the next would fail as well.
_MOST_RESTARTS = 2
_MOST_FAILURES = 3
_REFUSED = 2


class RunFailed(KerasllmError):
    """A run of the search was refused, or several have failed.

    Args:
        what: What it said.
        exit_status: That of the run.
    """

    def __init__(self, what: str, *, exit_status: int, **kwargs: str | None):
        super().__init__(what, **kwargs)
        self.exit_status = exit_status


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
        metric: What the search goes by, of the validation. Defaults to `None`: the headline of
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
    search = _Search(
        folder,
        searched,
        Study(
            folder.path,
            searched,
            higher_is_better=_higher_is_better(task, metric),
            pruner=pruner,
            storage=storage,
            seed=searched.recipe.training.seed,
        ),
        metric,
        report,
    )
    # Of a space that can be counted, each setting is tried once.
    most = int(min(trials, searched.count))
    show_search(report, folder, searched, search.study, most, continued=continued)
    pool = Workers(workers)
    with asked_to_stop(search.on_signal) as caught:
        began = time.monotonic()
        late = math.inf if budget is None else began + budget - search.seconds() / workers
        progress = TuneProgress(report, search, most, workers, late)
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
        with progress.retraining(len(runs)):
            pool.work(
                lambda: search.retraining(runs, progress),
                lambda: all(run.is_finished(folder) for run in runs),
                lambda: search.stopped,
                progress.show,
            )
        _refuse_interrupted(caught.signal, search, most)
    result = write_results(folder, search, runs, name)
    show_results(report, folder, result)
    return result


@dataclass(frozen=True)
class Retraining:
    """A recipe that is trained with a seed, to know what chance does.

    Attributes:
        name: `"trial-0007"`, or `"default"` for the recipe as it is.
        seed: The seed.
        recipe: The recipe.
    """

    name: str
    seed: int
    recipe: WholeRecipe

    def is_finished(self, folder: SearchFolder) -> bool:
        """Whether it was trained."""
        return (folder.retrained(self.name, self.seed) / "metrics.json").is_file()


class _Search:
    """The trials of a search, and what they share."""

    def __init__(
        self, folder: SearchFolder, space: Space, study: Study, metric: str | None, report: Report
    ):
        self.folder, self.space, self.study, self.report = folder, space, study, report
        self.task = task_of(space.recipe)
        self.stopped, self.failures = False, 0
        self.higher_is_better = _higher_is_better(self.task, metric)
        self._metric = metric

    def on_signal(self, signal: Any) -> None:
        self.stopped = True

    def seconds(self) -> float:
        """Returns how long all trials have taken, those before a resume included."""
        return sum(trial.user_attrs.get("seconds", 0.0) for trial in self.study.trials)

    def measured(self, metrics: Mapping[str, Any]) -> tuple[str, float]:
        """Returns the metric of a validation that the search goes by, and its value.

        Raises:
            JobError: If the validation has no such metric.
        """
        name, higher = self._metric, self.higher_is_better
        if name is None:
            headline = self.task.headline_of(metrics)
            name, higher = headline.metric, headline.higher_is_better
        value = metrics.get(name)
        if not isinstance(value, float) or higher != self.higher_is_better:
            known = [key for key, each in metrics.items() if isinstance(each, float)]
            raise JobError(
                f"The validation has no metric {name!r} to search by",
                where="--metric",
                fix=f"choose one of {', '.join(known)}, and another --output" if known else None,
            )
        return name, value

    def trial(self, most: int, progress: TuneProgress) -> _TrialWork | None:
        """Returns the next trial to work at, or `None` where there is none now."""
        taken = self.study.take(most, self.folder.lock_of)
        return taken and _TrialWork(self, *taken, progress)

    def retrainings(self, best: FrozenTrial, seeds: int) -> list[Retraining]:
        """Returns what is trained at the end: once, where the recipe's own settings were best."""
        found = self.space.recipe_of(best.params)
        recipes = {"default": self.space.recipe}
        if found != self.space.recipe:
            recipes = {f"trial-{best.number:04}": found, **recipes}
        first = self.space.recipe.training.seed
        return [
            Retraining(name, seed, _with_seed(recipe, seed))
            for seed in range(first, first + seeds)
            for name, recipe in recipes.items()
        ]

    def retraining(
        self, runs: Sequence[Retraining], progress: TuneProgress
    ) -> _RetrainingWork | None:
        """Returns the next run of the end to work at, or `None` where there is none now."""
        for each in runs:
            if not each.is_finished(self.folder):
                run = self.folder.take(self.folder.retrained(each.name, each.seed))
                if run is not None:
                    return _RetrainingWork(self, each, run, progress)
        return None


class _TrialWork:
    """A trial that is being trained."""

    def __init__(self, search: _Search, trial: FrozenTrial, lock: Any, progress: TuneProgress):
        self._search, self._progress = search, progress
        self.number, self.params = trial.number, trial.params
        self.title = f"trial {trial.number}"
        self.run = TrialRun(search.folder.trial(trial.number), lock)
        # The test data are for what the search has found.
        self.recipe = search.space.recipe_of(trial.params, "data.test=null").to_yaml()
        self._restarts = 0
        self._before = trial.user_attrs.get("seconds", 0.0)

    def look(self) -> None:
        for row in self.run.rows():
            if "validation" not in row or self.run.is_pruned:
                continue
            name, value = self._search.measured(row["validation"])
            if math.isfinite(value) and self._search.study.report(self.number, row["step"], value):
                self.run.prune()

    def ended(self, status: int) -> bool:
        search, number = self._search, self.number
        if status == _REFUSED:
            raise RunFailed(
                f"{self.title} was refused:\n{_indented(self.run.last_words())}",
                exit_status=_REFUSED,
                where=str(self.run.log),
            )
        self._note_seconds()
        if self.run.is_finished:
            metrics = self.run.metrics()["validation"]
            name, value = search.measured(metrics)
            search.study.note(number, metric=name)
            search.study.finish(number, TrialState.COMPLETE, value)
        elif self.run.is_pruned:
            search.study.finish(number, TrialState.PRUNED)
        elif status >= 128 and self._restarts < _MOST_RESTARTS:
            self._restarts += 1
            return True
        else:
            self._failed(status)
        if not self.run.is_finished or search.study.trial(number).state == TrialState.COMPLETE:
            # What a finished or pruned run does not continue from is most of its size.
            shutil.rmtree(self.run.run.checkpoints, ignore_errors=True)
        self._progress.ended(search.study.trial(number))
        return False

    def left(self) -> None:
        self._note_seconds()

    def _failed(self, status: int) -> None:
        search = self._search
        words = self.run.last_words()
        search.study.note(self.number, reason=words.partition("\n")[0][:200], status=status)
        search.study.finish(self.number, TrialState.FAIL)
        recent = search.study.trials[-_MOST_FAILURES:]
        if len(recent) == _MOST_FAILURES and all(t.state == TrialState.FAIL for t in recent):
            raise RunFailed(
                f"{_MOST_FAILURES} trials failed one after the other, the last one by:\n"
                f"{_indented(words)}",
                exit_status=1,
                where=str(self.run.log),
                fix="correct the recipe, or narrow the space, and choose another --output",
            )

    def _note_seconds(self) -> None:
        seconds = round(self._before + self.run.seconds, 1)
        self._search.study.note(self.number, seconds=seconds)


class _RetrainingWork:
    """A recipe that is being trained with a seed, and measured on the test data."""

    def __init__(
        self, search: _Search, retraining: Retraining, run: TrialRun, progress: TuneProgress
    ):
        self._search, self._progress = search, progress
        self.run, self._restarts = run, 0
        self.title = f"{retraining.name}, seed {retraining.seed}"
        self.recipe = retraining.recipe.to_yaml()
        self.run.run.path.parent.mkdir(parents=True, exist_ok=True)

    def look(self) -> None:
        for _ in self.run.rows():
            pass

    def ended(self, status: int) -> bool:
        if status >= 128 and self._restarts < _MOST_RESTARTS:
            self._restarts += 1
            return True
        if status:
            raise RunFailed(
                f"{self.title}: the training failed:\n{_indented(self.run.last_words())}",
                exit_status=min(status, 2),
                where=str(self.run.log),
                fix="the trials are kept: the same command continues here",
            )
        self._progress.retrained(self.title, self.run.metrics())
        return False

    def left(self) -> None:
        """It is continued from its checkpoint."""


def _with_seed(recipe: WholeRecipe, seed: int) -> WholeRecipe:
    from kerasllm import recipe as recipes

    return recipes.load(recipe, [f"training.seed={seed}"])


def _higher_is_better(task: Any, metric: str | None) -> bool:
    if metric is None:
        return task.headline.higher_is_better
    return metric not in task.lower_is_better


def _refuse_without_validation(space: Space) -> None:
    data = space.recipe.data
    if not (data.validation or getattr(data, "validation_split", 0)):
        raise CommandError(
            "A search goes by the validation data, and there are none",
            where="data.validation",
            fix="give --validation FILE, or set data.validation_split above 0",
        )


def _refuse_interrupted(signal: Any, search: _Search, most: int) -> None:
    if signal is None:
        return
    done = len(search.study.counted)
    raise Interrupted(
        f"{signal.name} after {done} of {counted(most, 'trial')}; those under way have saved a "
        "checkpoint",
        where=str(search.folder.path),
        fix="continue with the same command, or with `kerasllm tune --resume --output "
        f"{shell_word(search.folder.path)}`",
        signal=signal,
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
