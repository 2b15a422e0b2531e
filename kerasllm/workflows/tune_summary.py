"""What a search prints: its trials as they end, and the result."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kerasllm.plurals import counted
from kerasllm.run import shell_word
from kerasllm.tuning.folder import SearchFolder
from kerasllm.tuning.space import Space
from kerasllm.tuning.study import FrozenTrial, Study, TrialState
from kerasllm.workflows.live_runs import LiveRuns
from kerasllm.workflows.report import duration

if TYPE_CHECKING:
    from kerasllm.workflows.report import Report
    from kerasllm.workflows.tune_search import Search

_COLUMNS = "{:>5}  {:>8}  {:>8}  {:>8}  "
_INDENT = len(_COLUMNS.format("", "", "", ""))
_STATES = {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def show_search(
    report: Report,
    name: str,
    folder: SearchFolder,
    space: Space,
    study: Study,
    most: int,
    *,
    continued: bool,
) -> None:
    """Shows what is searched, before the first trial."""
    report.heading(f"Search over {counted(len(space.dimensions), 'key')} of {name}")
    report.facts([(dimension.key, str(dimension)) for dimension in space.dimensions])
    done = len(study.counted)
    if continued:
        report.line(f"continuing: {done} of {counted(most, 'trial')} are done")
    elif math.isfinite(space.count) and space.count <= most:
        report.line(f"the space has {counted(most, 'setting')}: all are tried")


class TuneProgress:
    """The trials of a search, a line each as they end; what is under way below, on a terminal.

    Args:
        report: Where to.
        search: The search.
        most: How many trials there are.
        workers: How many at a time.
    """

    def __init__(self, report: Report, search: Search, most: int, workers: int):
        self._report, self._search = report, search
        self._most, self._workers, self._late = most, workers, math.inf
        self._live = LiveRuns(report)
        self._headed = False

    def __enter__(self) -> TuneProgress:
        self._live.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._live.__exit__(*reason)

    def begin(self, late: float) -> None:
        """Begins with the trials, which end by `time.monotonic` at the latest."""
        self._late = late

    def ended(self, trial: FrozenTrial) -> None:
        """Shows the end of a trial."""
        study = self._search.study
        if not self._headed:
            metric = trial.user_attrs.get("metric", "value")
            name = self._search.task.metrics.get(metric, metric)
            name = name if len(name) <= 8 else "value"
            self._line(_COLUMNS.format("trial", name, "best", "left") + "settings")
            self._headed = True
        best = study.best
        self._line(
            _COLUMNS.format(
                trial.number,
                _STATES.get(trial.state) or _number(trial.value),
                _number(best.value) if best else "",
                self._left(),
            )
            + self._settings(trial.params)
        )
        if "reason" in trial.user_attrs:
            self._line(f"trial {trial.number} failed: {trial.user_attrs['reason']}")

    def retrained(self, title: str, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Shows the end of a run of the end."""
        shown = []
        measured = [("validation", self._search.measured(metrics["validation"]))]
        # The test data may be measured by other metrics.
        measured.append(("test", self._search.measured_early(metrics.get("test") or {})))
        for part, found in measured:
            if found is not None:
                name, value = found
                shown.append(f"{part} {self._search.task.metrics.get(name, name)} {value:.4f}")
        self._line(f"{title}: {', '.join(shown)}")

    def show(self, active: Mapping[int, Any]) -> None:
        """Shows what is under way, on a terminal."""
        self._live.show(active.values())

    def _line(self, text: str) -> None:
        self._report.console.print(text, markup=False, soft_wrap=True)

    def _left(self) -> str:
        """Returns how long the trials that are left take, by those that are done."""
        trials = self._search.study.trials
        took = [trial.user_attrs["seconds"] for trial in trials if "seconds" in trial.user_attrs]
        left = self._most - len(self._search.study.counted)
        seconds = sum(took) / max(len(took), 1) * left / self._workers
        return duration(max(min(seconds, self._late - time.monotonic()), 0))

    def _settings(self, params: Mapping[str, Any]) -> str:
        """Returns the values of a trial, on lines of their own where one is too short."""
        text = ", ".join(f"{key}\0{value}" for key, value in short_names(params).items())
        width = max(self._report.console.width - _INDENT, 20)
        lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        return ("\n" + " " * _INDENT).join(lines).replace("\0", " ")


def short_names(params: Mapping[str, Any]) -> dict[str, str]:
    """Returns the values of a trial in words, by the last part of their keys where it is enough."""
    last = [key.rpartition(".")[2] for key in params]
    return {
        name if last.count(name) == 1 else key: value if isinstance(value, str) else f"{value:.3g}"
        for (key, value), name in zip(params.items(), last)
    }


def show_results(report: Report, folder: SearchFolder, result: dict[str, Any]) -> None:
    """Shows what a search found."""
    best, states = result["best"], [row["state"] for row in result["trials"]]
    report.heading("Result")
    report.line(
        f"{counted(states.count('complete'), 'trial')} finished, {states.count('pruned')} pruned"
        + (f", {states.count('fail')} failed" if "fail" in states else "")
        + f"; the best is trial {best['trial']}: validation {result['metric']} "
        f"{best['validation']:.4f}"
    )
    report.facts([(key, str(value)) for key, value in best["settings"].items()])
    for name, found in result.get("retrained", {}).items():
        shown = ", ".join(
            f"{part} {result['metric']} {found[f'{part}_mean']:.4f} ± {found[f'{part}_spread']:.4f}"
            for part in ("validation", "test")
            if part in found
        )
        report.line(f"{name}, {counted(len(found['seeds']), 'seed')}: {shown}")
    report.line(in_words(result))
    report.heading("Files")
    files = [("recipe", folder.best), ("trials", folder.table), ("history", folder.history)]
    if folder.importance.is_file():
        files.append(("importance", folder.importance))
    report.facts([(name, str(path)) for name, path in files])
    report.heading("Next")
    report.line(f"kerasllm finetune --recipe {shell_word(folder.best)} --output my_run")
    if len(retrained := result.get("retrained", {})) > 1:
        # What is compared with comes first.
        names = sorted(retrained, key=lambda name: name != "default")
        both = " ".join(shell_word(folder.path / "retrained" / name) for name in names)
        report.line(f"kerasllm compare {both}")


def in_words(result: Mapping[str, Any]) -> str:
    """Returns whether the settings that were found beat the recipe's own, in a sentence."""
    found = result.get("verdict")
    if found is None:
        if "default" in result.get("retrained", {}):
            return "No trial beat the recipe's own settings."
        return "The best settings were not compared with the recipe's own: use --seeds 3."
    where, metric = found["measured_on"], result["metric"]
    size = f"{abs(found['difference']):.4f}"
    if found["margin"] is None:
        return f"With one seed, a difference of {size} in {where} {metric} may be chance."
    margin = f"{size} ± {found['margin']:.4f} (95%, seed by seed)"
    if found["beats_default"]:
        return f"The best settings beat the recipe's own in {where} {metric}, by {margin}."
    if found["worse_than_default"]:
        return f"The best settings are worse than the recipe's own in {where} {metric}: {margin}."
    return (
        "The best settings do not beat the recipe's own by more than the variation between seeds: "
        "the "
        f"difference in {where} {metric} is {found['difference']:+.4f} ± {found['margin']:.4f} "
        "(95%)."
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
