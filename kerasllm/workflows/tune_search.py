"""The trials of a search and the trainings at its end: their recipes, and how they end."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasllm import recipe as recipes
from kerasllm.errors import MEMORY_RAN_OUT, JobError, KerasllmError
from kerasllm.recipe import WholeRecipe
from kerasllm.tasks.task import task_of
from kerasllm.tuning.folder import SearchFolder
from kerasllm.tuning.space import Space
from kerasllm.tuning.study import FrozenTrial, Study, TrialState
from kerasllm.tuning.trial_run import TrialRun
from kerasllm.workflows.report import Report
from kerasllm.workflows.tune_summary import TuneProgress

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


class Search:
    """The trials of a search, and what they share."""

    def __init__(
        self, folder: SearchFolder, space: Space, study: Study, metric: str | None, report: Report
    ):
        self.folder, self.space, self.study, self.report = folder, space, study, report
        self.task = task_of(space.recipe)
        self.stopped, self.failures = False, 0
        self.higher_is_better = higher_is_better(self.task, metric)
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
        found = self.measured_early(metrics)
        if found is None:
            known = [key for key, each in metrics.items() if isinstance(each, float)]
            name = self._metric or self.task.headline.metric
            raise JobError(
                f"There is no validation metric {name!r} to optimize",
                where="--metric",
                fix=f"choose one of {', '.join(known)}, and another --output" if known else None,
            )
        return found

    def measured_early(self, metrics: Mapping[str, Any]) -> tuple[str, float] | None:
        """Returns the same of a validation within a training, which may lack the metric.

        What takes long to measure, as texts that are written, is measured once, at the end.
        """
        name, higher = self._metric, self.higher_is_better
        if name is None:
            headline = self.task.headline_of(metrics)
            name, higher = headline.metric, headline.higher_is_better
        value = metrics.get(name)
        if not isinstance(value, float) or higher != self.higher_is_better:
            return None
        return name, value

    def recipe_of(self, trial: FrozenTrial) -> WholeRecipe:
        """Returns the recipe of a trial; in smaller micro-batches where memory ran out."""
        noted = trial.user_attrs
        more = [f"training.accumulate={noted['accumulate']}"] if "accumulate" in noted else []
        return self.space.recipe_of(trial.params, *more)

    def trial(self, most: int, progress: TuneProgress) -> _TrialWork | None:
        """Returns the next trial to work at, or `None` where there is none now."""
        taken = self.study.take(most, self.folder.lock_of)
        return taken and _TrialWork(self, *taken, progress)

    def default(self) -> list[Retraining]:
        """Returns the training of the recipe as it is."""
        recipe = self.space.recipe
        return [Retraining("default", recipe.training.seed, recipe)]

    def retrainings(self, best: FrozenTrial, seeds: int) -> list[Retraining]:
        """Returns what is trained at the end: once, where the recipe's own settings were best."""
        found = self.recipe_of(best)
        trained = {"default": self.space.recipe}
        if found != self.space.recipe:
            trained = {f"trial-{best.number:04}": found, **trained}
        first = self.space.recipe.training.seed
        return [
            Retraining(name, seed, _with_seed(recipe, seed))
            for seed in range(first, first + seeds)
            for name, recipe in trained.items()
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

    def __init__(self, search: Search, trial: FrozenTrial, lock: Any, progress: TuneProgress):
        self._search, self._progress = search, progress
        self.number, self.params = trial.number, trial.params
        self.title = f"trial {trial.number}"
        self.run = TrialRun(search.folder.trial(trial.number), lock)
        self.recipe = self._recipe()
        self._restarts = 0
        self._before = trial.user_attrs.get("seconds", 0.0)

    def _recipe(self) -> str:
        found = self._search.recipe_of(self._search.study.trial(self.number))
        self._training = found.training
        # The test data are for what the search has found.
        return recipes.load(found, ["data.test=null"]).to_yaml()

    def look(self) -> None:
        for row in self.run.rows():
            if "validation" not in row or self.run.is_pruned:
                continue
            found = self._search.measured_early(row["validation"])
            if found is None or not math.isfinite(found[1]):
                continue
            is_bad = self._search.study.report(self.number, row["step"], found[1])
            if is_bad and not self._is_last(row["step"]):
                self.run.prune()

    def _is_last(self, step: int) -> bool:
        """Whether a step is the last one of the trial, which an end would save nothing of."""
        training = self._training
        is_whole = self.run.last.get("epoch", 0.0) >= training.epochs
        return step == training.max_steps or (self.run.last.get("step") == step and is_whole)

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
        elif self.run.last_words().startswith(MEMORY_RAN_OUT) and self._accumulates_more():
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

    def _accumulates_more(self) -> bool:
        """Begins again with half the rows at a time: the batch, and what it teaches, stay."""
        training = self._search.recipe_of(self._search.study.trial(self.number)).training
        twice = 2 * training.accumulate
        if training.batch_size % twice:
            return False
        self._search.study.note(self.number, accumulate=twice)
        shutil.rmtree(self.run.run.path, ignore_errors=True)
        self.recipe = self._recipe()
        self._search.report.line(
            f"{self.title}: out of memory; restarting with training.accumulate={twice}"
        )
        return True

    def _failed(self, status: int) -> None:
        search = self._search
        words = self.run.last_words()
        search.study.note(self.number, reason=words.partition("\n")[0][:200], status=status)
        search.study.finish(self.number, TrialState.FAIL)
        recent = search.study.trials[-_MOST_FAILURES:]
        if len(recent) == _MOST_FAILURES and all(t.state == TrialState.FAIL for t in recent):
            raise RunFailed(
                f"{_MOST_FAILURES} trials failed in a row, the last one with:\n{_indented(words)}",
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
        self, search: Search, retraining: Retraining, run: TrialRun, progress: TuneProgress
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
                fix="finished work is kept: correct the command and run it again",
            )
        self._progress.retrained(self.title, self.run.metrics())
        return False

    def left(self) -> None:
        """It is continued from its checkpoint."""


def _with_seed(recipe: WholeRecipe, seed: int) -> WholeRecipe:
    return recipes.load(recipe, [f"training.seed={seed}"])


def higher_is_better(task: Any, metric: str | None) -> bool:
    """Whether more of the metric of a search is better; `None`: of the task's headline."""
    if metric is None:
        return task.headline.higher_is_better
    return metric not in task.lower_is_better


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
