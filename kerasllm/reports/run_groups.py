"""Runs in folders: one run, or several seeds of one recipe, and all runs below a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.errors import KerasllmError, RunError
from kerasllm.reports.damaged import damaged_run_refused
from kerasllm.run import Run, read_json, write_json

SEEDS = "seeds.json"
# Below a folder with a run there are files of that run.
_DEEPEST = 6


@dataclass(frozen=True)
class Group:
    """What is compared as one: a run, or the runs of several seeds.

    Attributes:
        name: What it is called beside the others.
        path: The folder.
        runs: The run directories, at least one.
    """

    name: str
    path: Path
    runs: tuple[Path, ...]


def groups_of(paths: Sequence[str | Path]) -> list[Group]:
    """Opens what is to be compared.

    Raises:
        RunError: If one of them is no run and no folder of seeds.
    """
    folders = [Path(path) for path in paths]
    names = names_apart(folders)
    return [
        Group(name, path, tuple(seeds_in(path)) or (path,))
        for name, path in zip(names, folders, strict=True)
    ]


def seeds_in(folder: Path) -> list[Path]:
    """Returns the runs of a folder that `finetune --seeds` wrote; none of another folder."""
    if not (folder / SEEDS).is_file() or (folder / "recipe.yaml").is_file():
        return []
    names = read_json(folder / SEEDS).get("runs")
    if not isinstance(names, list) or not names:
        raise RunError(
            "The folder of seeds does not list any runs",
            where=str(folder / SEEDS),
            fix="run the same `kerasllm finetune --seeds N` again with --resume",
        )
    # A name is that of a folder within, and no path or link that leads out of it.
    runs = [folder / Path(str(name)).name for name in names]
    for run in runs:
        if run.name in ("", "..") or run == folder or run.is_symlink():
            raise RunError(
                f"A run listed by the folder of seeds is missing: {run.name!r}",
                where=str(folder / SEEDS),
                fix="run the same `kerasllm finetune --seeds N` again with --resume",
            )
    return runs


def write_seeds(folder: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """Writes `seeds.json`: the runs, and mean and spread of what was measured of them.

    Returns:
        What was written: `runs`, and `metrics` by part and name, each with `mean`, `std`, `least`,
        `most` and `values`.
    """
    metrics = [run.read_metrics() for run in runs]
    found: dict[str, dict] = {}
    for part in ("validation", "test"):
        first = metrics[0].get(part) or {}
        for name in first:
            values = [(one.get(part) or {}).get(name) for one in metrics]
            if all(isinstance(each, int | float) for each in values):
                found.setdefault(part, {})[name] = {
                    "mean": float(np.mean(values)),
                    "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
                    "least": min(values),
                    "most": max(values),
                    "values": values,
                }
    summary = {"runs": [run.path.name for run in runs], "metrics": found}
    write_json(folder / SEEDS, summary)
    return summary


def runs_below(folder: Path) -> Iterator[Path]:
    """Yields the run directories in a folder and the folders in it, without following links."""
    if not folder.is_dir():
        return
    level = [folder]
    for _ in range(_DEEPEST):
        deeper = []
        for each in level:
            run = Run(each)
            if run.recipe.is_file() and not run.is_search:
                yield each
            else:
                deeper += _folders_in(each)
        level = deeper


def no_folder(folder: Path, verb: str) -> RunError:
    """Returns the error for a folder of runs that is missing, and where there are runs instead.

    Args:
        folder: The folder.
        verb: The command that was to read it.
    """
    fix = "name the folder that contains the runs; `kerasllm finetune` creates runs/"
    here = [each.name for each in _folders_in(Path(".")) if Run(each).recipe.is_file()]
    if here:
        more = f" and {len(here) - 1} more" if len(here) > 1 else ""
        fix = f"the current folder contains {here[0]}{more}: `kerasllm {verb} .` shows these runs"
    return RunError(f"There is no folder {str(folder)!r}", fix=fix)


def summary_of(path: Path) -> dict[str, Any]:
    """Returns the short facts of a run, also of one that is damaged: then `problem` says how."""
    run = Run(path)
    found: dict[str, Any] = {"path": str(path), "finished": run.metrics.is_file()}
    try:
        with damaged_run_refused(path):
            found |= _summary(run, finished=found["finished"])
    except (KerasllmError, OSError) as error:
        found["problem"] = error.what if isinstance(error, KerasllmError) else str(error)
    return found


def _summary(run: Run, *, finished: bool) -> dict[str, Any]:
    from kerasllm.recipe import load
    from kerasllm.tasks.task import task_of

    recipe = load(str(run.recipe))
    task = task_of(recipe)
    metrics = run.read_metrics() if finished else {}
    part = next((one for one in ("test", "validation") if metrics.get(one)), None)
    headline = task.headline_of(metrics.get(part) or {})
    value = (metrics.get(part) or {}).get(headline.metric)
    return {
        "task": task.name,
        "preset": recipe.model.preset,
        "seed": recipe.training.seed,
        "started": run.read_environment().get("started"),
        "part": part,
        "metric": headline.metric,
        "name": task.metrics.get(headline.metric, headline.metric),
        "value": value if isinstance(value, int | float) else None,
        "metrics": {
            one: {
                key: metrics[one].get(key)
                for key in task.metrics
                if isinstance(metrics[one].get(key), int | float)
            }
            for one in ("train", "validation", "test")
            if metrics.get(one)
        },
    }


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(
            each
            for each in folder.iterdir()
            if each.is_dir() and not each.is_symlink() and not each.name.startswith(".")
        )
    except OSError:  # It may not be read.
        return []


def names_apart(folders: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of paths that tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, 1)]
