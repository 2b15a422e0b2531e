"""The results of a search: the best recipe, a table of its trials, plots, JSON for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.reports.run_groups import write_seeds
from kerasllm.run import Run, read_json, shell_word, write_json, write_text
from kerasllm.tuning.folder import SearchFolder, as_recipe
from kerasllm.tuning.study import FrozenTrial, TrialState
from kerasllm.tuning.verdict import mean_and_spread, verdict

if TYPE_CHECKING:
    from kerasllm.workflows.tune_search import Retraining, Search


def write_results(
    folder: SearchFolder, search: Search, runs: Sequence[Retraining], name: str
) -> dict[str, Any]:
    """Writes what was found into the folder of a search.

    Args:
        folder: The folder.
        search: The search, with a finished trial.
        runs: What was trained at the end.
        name: Name of the recipe.

    Returns:
        What `result.json` holds.
    """
    study, best = search.study, search.study.best
    metric = best.user_attrs["metric"]
    result: dict[str, Any] = {
        "metric": metric,
        "higher_is_better": search.higher_is_better,
        "best": {
            "trial": best.number,
            "validation": best.value,
            "settings": best.params,
            "recipe": str(folder.best),
        },
        "trials": [_row(trial) for trial in study.trials if trial.state != TrialState.WAITING],
        "importance": study.importances(),
    }
    retrained = _measured(folder, runs, metric)
    if retrained:
        result["retrained"] = retrained
    if len(retrained) == 2:
        result["verdict"] = _verdict(retrained, search.higher_is_better)
    write_text(folder.best, _best_recipe(search, best, metric, result, name))
    write_text(folder.table, _csv(search, study.trials, metric))
    _draw(folder, search, result)
    write_json(folder.result, result)
    return result


def _row(trial: FrozenTrial) -> dict[str, Any]:
    steps = trial.intermediate_values
    shown = trial.value if trial.state == TrialState.COMPLETE else steps.get(trial.last_step)
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "value": shown,
        "step": trial.last_step,
        "seconds": trial.user_attrs.get("seconds"),
        "settings": trial.params,
        **({"reason": trial.user_attrs["reason"]} if "reason" in trial.user_attrs else {}),
    }


def _measured(folder: SearchFolder, runs: Sequence[Retraining], metric: str) -> dict[str, Any]:
    """Returns what the runs of the end measured, by the name of their recipe."""
    found: dict[str, Any] = {}
    for each in runs:
        run = Run(folder.retrained(each.name, each.seed))
        metrics = read_json(run.metrics)
        one = found.setdefault(each.name, {"runs": [], "seeds": [], "validation": [], "test": []})
        one["runs"].append(str(run.path))
        one["seeds"].append(each.seed)
        for part in ("validation", "test"):
            value = metrics.get(part, {}).get(metric)
            if isinstance(value, float):
                one[part].append(value)
    for one in found.values():
        # What makes a folder of seeds, for `kerasllm compare`.
        write_seeds(Path(one["runs"][0]).parent, [Run(path) for path in one["runs"]])
        for part in ("validation", "test"):
            if one[part]:
                one[f"{part}_mean"], one[f"{part}_spread"] = mean_and_spread(one[part])
            else:
                del one[part]
    return found


def _verdict(retrained: dict[str, Any], higher_is_better: bool) -> dict[str, Any]:
    """Compares the best trial's settings with the recipe's own, seed by seed."""
    default = retrained["default"]
    new = next(one for name, one in retrained.items() if name != "default")
    # The validation data chose the settings; the test data have not seen them.
    part = "test" if "test" in new and "test" in default else "validation"
    found = verdict(new[part], default[part], higher_is_better=higher_is_better)
    return {
        "measured_on": part,
        "difference": found.difference,
        "margin": found.margin if math.isfinite(found.margin) else None,
        "beats_default": found.is_better,
        "worse_than_default": found.is_worse,
    }


def _best_recipe(
    search: Search, best: FrozenTrial, metric: str, result: dict[str, Any], name: str
) -> str:
    """Returns the recipe of the best trial, opened by the command that runs it and its figures."""
    words = search.task.metrics.get(metric, metric)
    changes = search.recipe_of(best).changes_from(search.space.recipe)
    lines = [
        f"The best settings found by a search over {name}",
        "",
        f"  kerasllm finetune --recipe {shell_word(search.folder.best)}",
        "",
        f"Trial {best.number} of {len(result['trials'])}: validation {words} {best.value:.4f}"
        + ("; the recipe's own settings" if not changes else ". Changed:"),
    ]
    lines += [f"  {key}: {now}  (was {old})" for key, (now, old) in changes.items()]
    for each, found in result.get("retrained", {}).items():
        for part in ("validation", "test"):
            if part in found:
                lines.append(
                    f"{each}, {len(found['seeds'])} seeds: {part} {words} "
                    f"{found[f'{part}_mean']:.4f} ± {found[f'{part}_spread']:.4f}"
                )
    return as_recipe(search.recipe_of(best), lines)


def _csv(search: Search, trials: Sequence[FrozenTrial], metric: str) -> str:
    keys = [dimension.key for dimension in search.space.dimensions]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", f"validation_{metric}", "step", "seconds", *keys])
    for row in map(_row, trials):
        cells = [row["settings"].get(key, "") for key in keys]
        head = [row[name] for name in ("trial", "state", "value", "step", "seconds")]
        writer.writerow(["" if each is None else each for each in [*head, *cells]])
    return text.getvalue()


def _draw(folder: SearchFolder, search: Search, result: dict[str, Any]) -> None:
    # Here, and not above: it takes a second and memory, which a search should not hold.
    from kerasllm.tuning import plots

    points = [
        plots.Point(row["trial"], row["value"], row["state"] == "pruned")
        for row in result["trials"]
        if row["state"] in ("complete", "pruned") and row["value"] is not None
    ]
    words = search.task.metrics.get(result["metric"], result["metric"])
    plots.history(points, words, folder.history, higher_is_better=search.higher_is_better)
    if result["importance"]:
        plots.importance(result["importance"], folder.importance)
    else:
        Path(folder.importance).unlink(missing_ok=True)
