"""Runs side by side: metrics with the significance of their differences, recipes, rows, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.errors import RunError
from kerasllm.evaluation.outcomes import Outcomes, read_outcomes
from kerasllm.evaluation.resampling import (
    LEVEL,
    RESAMPLES,
    bootstrap,
    interval,
    mcnemar,
    paired_p,
    welch_p,
)
from kerasllm.export.card_facts import without_folder
from kerasllm.recipe import load
from kerasllm.reports.curves import curves_of, read_log
from kerasllm.reports.run_groups import Group, groups_of
from kerasllm.run import Run
from kerasllm.tasks.task import PARTS, Task, task_of

ALPHA = 0.05
_MOST_KEYS = 6
_ADVICE = ": train both with the same --test FILE, or several seeds of each with --seeds 5"


@dataclass(frozen=True, eq=False)
class Compared:
    """A run that is compared.

    Attributes:
        name: What it is called beside the others.
        run: The run.
        recipe: Its recipe.
        metrics: By the part of the data.
    """

    name: str
    run: Run
    recipe: Any
    metrics: Mapping[str, Any]

    @classmethod
    def open(cls, name: str, path: Path) -> Compared:
        run = Run.open(path)
        return cls(name, run, load(str(run.recipe)), run.read_metrics())

    @property
    def fingerprint(self) -> str | None:
        """What tells its test data from others; `None` if it has none."""
        return self.run.read_environment().get("data", {}).get("test")

    @cached_property
    def outcomes(self) -> Outcomes | None:
        """What became of its test rows, if that was kept."""
        return read_outcomes(self.run.predictions) if self.run.predictions.is_file() else None


def compare(paths: Sequence[str | Path]) -> dict[str, Any]:
    """Compares runs with the first of them.

    Args:
        paths: Run directories, or folders of runs that `finetune --seeds` wrote; two or more.

    Returns:
        As `json.dumps` takes it: `runs` (with `name`, `path`, `seeds`), `part`, `headline`,
        `metrics` (for each `metric`, `name`, `values`, `spreads` and `differences` from the first
        run), `verdicts` (of the main metric, a sentence for each other run), `recipes` (keys that
        differ, with each run's value), `rows` (where the runs disagree) and `curves`.

    Raises:
        RunError: If a run is missing or did not finish, they are of different tasks, or their test
            data differ.
    """
    groups = groups_of(paths)
    runs = [[Compared.open(group.name, path) for path in group.runs] for group in groups]
    firsts = [group[0] for group in runs]
    every = [run for group in runs for run in group]
    task = _one_task(every)
    part = _one_test(every)
    measured = [[run.metrics.get(part) or {} for run in group] for group in runs]
    headline = task.headline_of(measured[0][0])
    pairing = _Pairing(task, firsts) if part == "test" else None
    metrics = _metrics(task, measured, pairing)
    return {
        "runs": [
            {"name": group.name, "path": str(group.path), "seeds": len(group.runs)}
            for group in groups
        ],
        "task": task.name,
        "part": part,
        "headline": headline.metric,
        "higher_is_better": headline.higher_is_better,
        "resamples": RESAMPLES,
        "level": LEVEL,
        "metrics": metrics,
        "verdicts": _verdicts(metrics, headline, groups, pairing),
        "not_tested": pairing.why if pairing else _without_test(every),
        "recipes": _recipes(firsts),
        "rows": pairing.disagreements() if pairing else None,
        "curves": _curves(task, firsts, headline.metric),
    }


class _Pairing:
    """The same test rows of several runs, row by row."""

    def __init__(self, task: Task, runs: Sequence[Compared]):
        self._runs = runs
        self.outcomes = [run.outcomes for run in runs]
        self.why = self._unpaired()
        self._drawn: list[Mapping[str, np.ndarray]] | None = None
        if self.why is None:
            self._measures = [task.measure(outcomes) for outcomes in self.outcomes]

    def _unpaired(self) -> str | None:
        """Returns why the rows cannot be paired; `None` if they can."""
        if self._runs[0].fingerprint is None:
            return "the runs do not record which test data they were evaluated on"
        without = [run.name for run, rows in zip(self._runs, self.outcomes) if rows is None]
        if without:
            return f"{', '.join(without)} keeps no predictions of its test rows"
        first = self.outcomes[0]
        for run, rows in zip(self._runs, self.outcomes):
            if len(rows) != len(first) or not np.array_equal(rows["line"], first["line"]):
                return f"{run.name} was evaluated on other rows of the same files"
        return None

    def difference(self, name: str, number: int) -> dict[str, Any] | None:
        """Returns interval and p-value of a metric of a run less that of the first run."""
        if self.why is not None or None in self._measures:
            return None
        if self._drawn is None:
            rows = len(self.outcomes[0])
            self._drawn = [bootstrap(measure, rows) for measure in self._measures]
        values = [drawn.get(name) for drawn in (self._drawn[0], self._drawn[number])]
        if any(each is None for each in values):
            return None
        apart = values[1] - values[0]
        found = {"interval": list(interval(apart)), "p": paired_p(apart)}
        found["test"] = "paired bootstrap"
        wrong = [self.outcomes[0], self.outcomes[number]]
        if self._is_share_right(name, 0) and self._is_share_right(name, number):
            one, other = (rows["error"] > 0 for rows in wrong)
            found["p"] = mcnemar(int((~one & other).sum()), int((one & ~other).sum()))
            found["test"] = "McNemar, exact"
        return found

    def _is_share_right(self, name: str, number: int) -> bool:
        """Whether a metric is the share of rows that are right."""
        outcomes = self.outcomes[number]
        if outcomes.is_graded:
            return False
        measured = self._measures[number](np.ones(len(outcomes))).get(name)
        right = 1 - float(outcomes["error"].mean())
        return measured is not None and abs(measured - right) < 1e-9

    def disagreements(self) -> dict[str, Any] | None:
        """Returns how many rows the runs disagree on, and these, those furthest apart first."""
        if self.why is not None:
            return None
        errors = np.stack([rows["error"].astype(np.float64) for rows in self.outcomes])
        right = errors == 0
        apart = errors.max(0) - errors.min(0)
        differ = apart > 0
        shown = all("predicted" in rows for rows in self.outcomes)
        if shown:
            said = [_codes(rows.columns["predicted"]) for rows in self.outcomes]
            differ |= np.any([each != said[0] for each in said[1:]], axis=0)
        order = np.flatnonzero(differ)
        order = order[np.argsort(-apart[order], kind="stable")]
        first = self.outcomes[0]
        columns = {
            name: first.values(name, order)
            for name in ("file", "line", "text", "expected")
            if name == "text" or name in first
        }
        predicted = [rows.values("predicted", order) for rows in self.outcomes] if shown else None
        listed = []
        for place in range(len(order)):
            row = {name: values[place] for name, values in columns.items()}
            row["place"] = f"{without_folder(row['file'])}:{row['line']}"
            row["errors"] = errors[:, order[place]].tolist()
            row["predicted"] = [each[place] for each in predicted] if predicted else None
            listed.append(row)
        names = [run.name for run in self._runs]
        return {
            "noun": first.noun,
            "all": errors.shape[1],
            "all_right": int(right.all(0).sum()),
            "all_wrong": int((~right).all(0).sum()),
            "right_alone": {
                name: int((right[number] & ~np.delete(right, number, 0).any(0)).sum())
                for number, name in enumerate(names)
            },
            "disagree": listed,
        }


def _codes(values: Any) -> np.ndarray:
    """Returns a column of predictions as what can be compared between runs."""
    return values if isinstance(values, np.ndarray) else np.array(values.to_pylist(), object)


def _metrics(
    task: Task, measured: Sequence[Sequence[Mapping]], pairing: _Pairing | None
) -> list[dict]:
    found = []
    for key, name in task.metrics.items():
        values = [[one.get(key) for one in group] for group in measured]
        if not all(_is_number(value) for group in values for value in group):
            continue
        means = [float(np.mean(group)) for group in values]
        row: dict[str, Any] = {
            "metric": key,
            "name": name,
            "higher_is_better": key not in task.lower_is_better,
            "values": [
                group[0] if len(group) == 1 else mean
                for group, mean in zip(values, means, strict=True)
            ],
            "spreads": [
                float(np.std(group, ddof=1)) if len(group) > 1 else None for group in values
            ],
            "differences": [None],
        }
        for number in range(1, len(values)):
            row["differences"].append(_difference(key, values, number, pairing))
        found.append(row)
    return found


def _difference(
    key: str, values: Sequence[Sequence[float]], number: int, pairing: _Pairing | None
) -> dict[str, Any]:
    """Returns the difference of a run, or the mean of its seeds, from the first."""
    one, other = np.array(values[0], float), np.array(values[number], float)
    found: dict[str, Any] = {"difference": float(other.mean() - one.mean())}
    if len(one) > 1 or len(other) > 1:
        return {**found, "p": welch_p(one, other), "test": "seeds, Welch"}
    return found | ((pairing.difference(key, number) if pairing else None) or {})


def _verdicts(
    metrics: Sequence[Mapping], headline: Any, groups: Sequence[Group], pairing: _Pairing | None
) -> list[str]:
    """Returns a sentence on the main metric of each run but the first."""
    row = next((one for one in metrics if one["metric"] == headline.metric), None)
    if row is None:
        return []
    first, found = groups[0], []
    for group, one in zip(groups[1:], row["differences"][1:], strict=True):
        apart, p = one["difference"], one.get("p")
        by = f"{row['name']} {apart:+.4f}"
        better = (apart > 0) == headline.higher_is_better
        than = f"{group.name} is {'better' if better else 'worse'} than {first.name}"
        seeds = len(first.runs) > 1 or len(group.runs) > 1
        if p is None:
            unknown = "significance unknown" + (_ADVICE if pairing is None else "")
            found.append(f"{group.name} against {first.name}: {by}; {unknown}")
        elif p >= ALPHA:
            chance = "is within the variation between seeds" if seeds else "may be chance"
            found.append(f"{group.name} against {first.name}: {by}, which {chance} (p = {p:.2g})")
        else:
            found.append(f"{than}: {by} (p = {p:.2g}, {one['test']})")
    if all(len(group.runs) == 1 for group in groups) and pairing and pairing.why is None:
        found.append(
            "Each run is a single seed, and the variation between seeds may be larger: measure it "
            "with `kerasllm finetune --seeds 5`"
        )
    return found


def _recipes(runs: Sequence[Compared]) -> list[dict]:
    """Returns the keys of the recipes that differ."""
    flat = [_flat(run.recipe.model_dump(mode="json")) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    return [
        {"key": key, "values": [one.get(key) for one in flat]}
        for key in keys
        if any(one.get(key) != flat[0].get(key) for one in flat)
    ]


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {key: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _flat(inner, f"{key}.{name}" if key else name)
    return found


def _curves(task: Task, runs: Sequence[Compared], headline: str) -> list[dict]:
    """Returns the curves of all runs, a chart for each metric and part of the data."""
    found: dict[tuple[str, str], dict] = {}
    for number, run in enumerate(runs):
        curves = curves_of(read_log(run.run.metrics_log), task.metrics, headline)
        for curve in curves[:_MOST_KEYS]:
            for series in curve["series"]:
                part = series["name"]
                chart = found.setdefault(
                    (curve["key"], part), {"name": f"{curve['name']}, {part}", "series": []}
                )
                chart["series"].append({**series, "name": run.name, "colour": number})
    return list(found.values())


def _one_task(runs: Sequence[Compared]) -> Task:
    tasks = [task_of(run.recipe) for run in runs]
    for run, task in zip(runs, tasks, strict=True):
        if task.name != tasks[0].name:
            raise RunError(
                f"The runs are of different tasks: {runs[0].name} of {tasks[0].name}, {run.name} "
                f"of {task.name}",
                where=str(run.run.path),
                fix="compare runs of one task",
            )
    return tasks[0]


def _one_test(runs: Sequence[Compared]) -> str:
    """Returns the part of the data that is compared, the test data where there are some."""
    first = runs[0]
    for run in runs[1:]:
        if run.fingerprint != first.fingerprint:
            raise RunError(
                f"The test data differ: {first.name} {_shown(first)}, {run.name} {_shown(run)}",
                where=str(run.run.path),
                fix="train both with the same --test FILE (language models also with one tokenizer "
                "and data.max_length); or evaluate both on the same data, `kerasllm evaluate RUN "
                "--data FILE`",
            )
    parts = [part for part in PARTS[::-1] if all(run.metrics.get(part) for run in runs)]
    if not parts:
        raise RunError(
            "The runs have no evaluation data in common",
            where=str(first.run.path),
            fix="train them with validation or test data",
        )
    return parts[0]


def _without_test(runs: Sequence[Compared]) -> str:
    """Returns why rows are not compared, and whether the validation data are the same."""
    told = "the runs have no test data"
    if any(_validated_on(run) != _validated_on(runs[0]) for run in runs):
        told += ", and their validation data differ, so a difference may come from the data"
    return told


def _validated_on(run: Compared) -> tuple:
    """Returns what tells the validation data of a run from others."""
    noted, data = run.run.read_environment().get("data", {}), run.recipe.data
    if (own := noted.get("validation")) is not None:
        return (own,)
    split = getattr(data, "validation_split", None)
    return (data.validation, noted.get("train"), split, run.recipe.training.seed)


def _shown(run: Compared) -> str:
    return f"has {run.fingerprint[:12]}" if run.fingerprint else "has none"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
