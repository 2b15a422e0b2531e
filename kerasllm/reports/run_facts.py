"""What a report tells of a run, as plain data: read from the run directory alone, no model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.addresses import redact
from kerasllm.evaluation.outcomes import Outcomes, read_outcomes
from kerasllm.evaluation.resampling import LEVEL, RESAMPLES, bootstrap, interval
from kerasllm.export.card_facts import facts_of_run, without_folder
from kerasllm.json_files import parse_json
from kerasllm.recipe import load
from kerasllm.reports.curves import curves_of, read_log
from kerasllm.reports.slices import failing_slices
from kerasllm.run import Run, read_json, shell_word
from kerasllm.tasks.task import PARTS, Task, explains, task_of

MISTAKES = 10
SAMPLES = 12
# From so many rows on, fewer resamples say as much.
_MANY_ROWS = 1_000_000
_MOST_CLASSES = 40

_NO_TEST = (
    "the run has no test data: name it with --test or data.test to see metrics on examples not "
    "used in training"
)
_NO_ROWS = (
    "the run has no predictions for its test data (predictions.parquet): finetune writes them at "
    "the end of training, but older versions did not"
)
_NOT_OF_TASK = "models of this task are not evaluated this way"


def open_run(path: str | Path) -> Run:
    """Opens a run, finished or not.

    Raises:
        RunError: If there is no such run.
        SignatureError: If keys are trusted, and none of them has signed it.
    """
    run = Run(path)
    if run.recipe.is_file() and not run.metrics.is_file() and not run.is_search:
        return run
    return Run.open(path)


def facts_for_report(path: str | Path) -> dict[str, Any]:
    """Returns all that a report shows, as `json.dumps` takes it.

    What a run or its task lacks is `None`, and `empty` says why, by the name of the part.

    Args:
        path: The run directory.

    Returns:
        `name`, `task`, `finished`, `headline`, `data`, `balance`, `model`, `curves`, `metrics`,
        `intervals`, `per_class`, `confusion`, `calibration`, `slices`, `mistakes`, `explain`
        (the command that explains them), `samples`, `timing`, `environment`, `commands`, `recipe`
        and `empty`.

    Raises:
        KerasllmError: If there is no such run, or one of its files is damaged.
    """
    run = open_run(path)
    recipe = load(str(run.recipe))
    task = task_of(recipe)
    finished = run.metrics.is_file()
    metrics = run.read_metrics() if finished else {}
    environment = run.read_environment()
    test = metrics.get("test") or {}
    # Without what was measured of them they are those of an earlier training.
    outcomes = read_outcomes(run.predictions) if test and run.predictions.is_file() else None
    measured = test or metrics.get("validation") or {}
    headline = task.headline_of(measured)
    empty: dict[str, str] = {}
    if not finished:
        unfinished = (
            "the training did not finish: `kerasllm finetune --resume --output "
            f"{shell_word(run.path)}` continues it"
        )
        empty |= dict.fromkeys(
            ("metrics", "confusion", "calibration", "slices", "mistakes"), unfinished
        )
    facts = facts_of_run(run, recipe) if finished else {}
    intervals = intervals_of(task, outcomes, test) if outcomes and test else None
    found = {
        "name": run.path.absolute().name,
        "task": task.name,
        "finished": finished,
        "started": environment.get("started"),
        "headline": _headline(task, headline, metrics, intervals),
        "data": _data(recipe, environment, facts),
        "balance": environment.get("balance") or None,
        "model": _model(recipe, facts),
        "curves": curves_of(read_log(run.metrics_log), task.metrics, headline.metric) or None,
        "metrics": _metrics(task, metrics, intervals),
        "intervals": intervals,
        "per_class": _per_class(measured),
        "confusion": _confusion(measured),
        "calibration": _calibration(measured),
        "slices": failing_slices(outcomes) if outcomes else None,
        "mistakes": _mistakes(outcomes, run) if outcomes else None,
        "explain": _explain(run) if explains(task) else None,
        "samples": _samples(run, measured),
        "timing": metrics.get("timing") or None,
        "environment": _environment(environment),
        "commands": _commands(run, environment),
        "recipe": run.recipe.read_text(encoding="utf-8"),
    }
    why = _NOT_OF_TASK if test else _NO_TEST
    of_rows = _NOT_OF_TASK if outcomes else (_NO_ROWS if test else _NO_TEST)
    reasons = {
        "metrics": "nothing was evaluated: the run has neither validation nor test data",
        "curves": "no step was logged (metrics.jsonl is empty or missing)",
        "per_class": why,
        "confusion": why,
        "calibration": why,
        "intervals": of_rows,
        "slices": of_rows,
        "mistakes": of_rows,
    }
    found["empty"] = {
        part: empty.get(part, reason) for part, reason in reasons.items() if found[part] is None
    }
    return found


def intervals_of(task: Task, outcomes: Outcomes, test: Mapping[str, Any]) -> dict | None:
    """Returns the bootstrap intervals of the metrics that were measured on some test rows."""
    measure = task.measure(outcomes)
    if measure is None or not len(outcomes):
        return None
    whole = measure(np.ones(len(outcomes)))
    # A task that is made of another may give a name to a metric of its own.
    same = [name for name, value in whole.items() if _agrees(test.get(name), value)]
    resamples = RESAMPLES if len(outcomes) < _MANY_ROWS else RESAMPLES // 5
    values = bootstrap(measure, len(outcomes), resamples=resamples) if same else {}
    return {
        "level": LEVEL,
        "resamples": resamples,
        "method": "percentile bootstrap",
        "rows": len(outcomes),
        "noun": outcomes.noun,
        "metrics": {name: list(interval(values[name])) for name in same},
    }


def _agrees(measured: object, again: float) -> bool:
    return isinstance(measured, int | float) and math.isclose(
        measured, again, rel_tol=1e-3, abs_tol=1e-4
    )


def _headline(
    task: Task, headline: Any, metrics: Mapping, intervals: Mapping | None
) -> dict | None:
    for part in ("test", "validation"):
        value = (metrics.get(part) or {}).get(headline.metric)
        if isinstance(value, int | float):
            between = (intervals or {}).get("metrics", {}).get(headline.metric)
            return {
                "metric": headline.metric,
                "name": task.metrics.get(headline.metric, headline.metric),
                "value": value,
                "part": part,
                "higher_is_better": headline.higher_is_better,
                "interval": between if part == "test" else None,
            }
    return None


def _data(recipe: Any, environment: Mapping, facts: Mapping) -> list[dict]:
    found, tokens = facts.get("data") or {}, environment.get("tokens") or {}
    contents, prints = environment.get("contents", {}), environment.get("data", {})
    parts = [part for part in PARTS if part in found or part in contents]
    return [
        {
            "part": part,
            "files": (found.get(part) or {}).get("files") or [],
            "contents": contents.get(part),
            "fingerprint": prints.get(part),
            "tokens": tokens.get(part),
        }
        for part in parts
    ]


def _model(recipe: Any, facts: Mapping) -> list[list[str]]:
    training = recipe.training
    lines = [
        ["initialized from", facts.get("base") or str(recipe.model.preset or "a new model")],
        ["epochs", f"{training.epochs}"],
        ["batch size", f"{training.batch_size}"],
        ["learning rate", f"{training.learning_rate:g}"],
        ["optimizer", str(training.optimizer)],
        ["seed", f"{training.seed}"],
    ]
    if (longest := getattr(recipe.data, "max_length", None)) is not None:
        lines.insert(1, ["max. length", f"{longest:,} tokens"])
    if facts.get("licence"):
        lines.append(["licence of the weights", facts["licence"]])
    return lines


def _metrics(task: Task, metrics: Mapping, intervals: Mapping | None) -> list[dict] | None:
    between = (intervals or {}).get("metrics", {})
    parts = [part for part in PARTS if metrics.get(part)]
    found = []
    for key, name in task.metrics.items():
        values = {part: metrics[part].get(key) for part in parts}
        if any(isinstance(value, int | float) for value in values.values()):
            row = {"metric": key, "name": name, "values": values, "interval": between.get(key)}
            found.append(row)
    return found or None


def _per_class(measured: Mapping) -> list[dict] | None:
    """Returns the scores of each class, those with the most rows first."""
    classes = measured.get("per_class") or {}
    rows = [{"name": name, **scores} for name, scores in classes.items()]
    rows.sort(key=lambda row: -(row.get("support") or 0))
    return rows or None


def _confusion(measured: Mapping) -> dict | None:
    """Returns the confusion matrix where it can be read, and the pairs most often confused."""
    matrix = measured.get("confusion_matrix")
    if not matrix:
        return None
    names = list(measured.get("confused") or measured.get("per_class") or ())
    counts = np.asarray(matrix)
    if len(names) != len(counts):
        return None
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:20]
    pairs = [
        {
            "expected": names[true],
            "predicted": names[said],
            "rows": int(wrong[true, said]),
            "share": float(wrong[true, said] / max(counts[true].sum(), 1)),
        }
        for true, said in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[true, said]
    ]
    shown = counts.tolist() if len(names) <= _MOST_CLASSES else None
    return {"names": names, "matrix": shown, "pairs": pairs}


def _calibration(measured: Mapping) -> dict | None:
    if not measured.get("reliability"):
        return None
    return {"ece": measured["ece"], "reliability": measured["reliability"]}


def _mistakes(outcomes: Outcomes, run: Run) -> list[dict]:
    """Returns the most confident mistakes; of scores, the largest errors."""
    error, confident = outcomes["error"].astype(np.float64), "confidence" in outcomes
    sure = np.nan_to_num(outcomes["confidence"]) if confident else error
    # Rows that are half right are no mistakes, unless none is quite wrong.
    quite = error >= 1 if confident and (error >= 1).any() else error > 0
    wrong = np.flatnonzero(quite)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    columns = {
        name: outcomes.values(name, worst)
        if name == "text" or name in outcomes
        else [None] * len(worst)
        for name in ("file", "line", "text", "expected", "predicted")
    }
    explained = _explanations(run)
    found = []
    for number, row in enumerate(worst):
        one = {name: values[number] for name, values in columns.items()}
        one["place"] = f"{without_folder(one['file'])}:{one['line']}"
        one["error"] = float(error[row])
        one["confidence"] = float(sure[row]) if confident else None
        one["explained"] = explained.get(f"{one['file']}:{one['line']}", [])
        found.append(one)
    return found


def _explain(run: Run) -> str:
    return f"kerasllm explain {shell_word(run.path)} --mistakes"


def _explanations(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Returns the explanations of mistakes by `file:line`, where something has written them.

    `explanations.json` holds for each a list with a `target`, such as an entity or the label that
    was predicted, and `words`: `[text, weight]` each, whose texts together are that of the row, and
    whose weights, from -1 to 1, tell how much each speaks for the target.
    """
    if not run.explanations.is_file():
        return {}
    found = {}
    for place, outputs in read_json(run.explanations).items():
        with suppress(TypeError, ValueError, KeyError):
            found[place] = [
                {
                    "target": str(output["target"]),
                    "words": [[str(text), float(weight)] for text, weight in output["words"]],
                }
                for output in outputs
            ]
    return found


def _samples(run: Run, measured: Mapping) -> list[dict] | None:
    """Returns texts that the model wrote, the last first."""
    found = []
    if run.samples.is_file():
        for line in _end_of(run.samples).split("\n"):
            with suppress(ValueError, KeyError, TypeError):
                one = parse_json(line)
                found.append({name: one[name] for name in ("step", "prompt", "text")})
    found = found[::-1][:SAMPLES]
    for one in measured.get("examples") or ():
        if isinstance(one, dict) and "output" in one:
            pair = {"prompt": one.get("source", ""), "text": one["output"]}
            found.append({**pair, "target": one.get("target")})
    return found or None


def _end_of(path: Path, most: int = 1_000_000) -> str:
    """Returns the end of a file, which may have grown for weeks."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - most))
        return file.read(most).decode("utf-8", "replace")


def _environment(environment: Mapping) -> list[list[str]]:
    versions = ", ".join(f"{name} {each}" for name, each in environment.get("versions", {}).items())
    names = {
        "platform": environment.get("platform"),
        "processors": environment.get("cpus"),
        "devices": ", ".join(map(str, environment.get("devices") or ())),
        "strategy": environment.get("strategy"),
        "precision": environment.get("precision"),
        "versions": versions,
    }
    return [[name, str(value)] for name, value in names.items() if value not in (None, "")]


def _commands(run: Run, environment: Mapping) -> list[list[str]]:
    again = f"kerasllm finetune --recipe {shell_word(run.path / 'recipe.yaml')} --output again"
    typed = environment.get("command")
    commands = [["the original command", redact(str(typed))]] if typed else []
    return [*commands, ["reproduces the run exactly on the same kind of machine", again]]
