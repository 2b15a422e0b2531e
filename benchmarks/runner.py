"""Runs the ways of a case in turn, and puts together what was measured."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import cases
from benchmarks.measure import machine, run_measured
from benchmarks.suite import (
    OURS,
    Case,
    NotBelow,
    Results,
    SuiteOptions,
    WayResult,
    number,
    ratio,
)
from kerasllm import __version__
from kerasllm.environment import cache_dir
from kerasllm.errors import KerasllmError

# Cores kept busy by others. Threads that wait for each other lose far more time than others take.
QUIET = 0.1
_CACHE = "KERASLLM_CACHE"
# What the numbers of turns with an emptied cache begin with.
_OTHER_SEEDS = 100

Say = Callable[[str], None]


class Refused(Exception):
    """The ways of a case did not do the same work, or do not say what they did."""


@dataclass
class Measurement:
    """What the turns of a case gave, and why they ended early, if they did."""

    results: Results
    failure: str | None = None
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        return self.failure is None and not self.interrupted


def find_cases() -> dict[str, Case]:
    """Returns the cases by name: every module of `benchmarks.cases` has one."""
    names = sorted(module.name for module in pkgutil.iter_modules(cases.__path__))
    found = (importlib.import_module(f"benchmarks.cases.{name}").CASE for name in names)
    return {case.name: case for case in found}


def measure(case: Case, folder: Path, options: SuiteOptions, repeats: int, say: Say) -> Measurement:
    """Runs every way once, and all of them again, A B A B, so that a slow minute falls on all.

    Args:
        case: The case.
        folder: Where it prepares its inputs.
        options: What the command line says.
        repeats: How many turns each way gets.
        say: Called with a line before and after each process.

    Returns:
        What was measured until all was done, a process failed or the user interrupted.

    Raises:
        Refused: The ways did not do the same work.
    """
    found = Measurement(Results([]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        case.prepare(folder, options)
        found.results.ways = [WayResult(way) for way in case.ways(folder, options)]
        cache = options.inputs / "cache" if options.cold else None
        for repeat in range(repeats):
            for result in found.results.ways:
                ours = result.way.side == OURS and cache is not None
                if ours and repeat < options.cold:
                    empty(cache)
                    # With another seed, so that the warm turn finds the cache of another one.
                    run = _measured(result, found.results, repeat + _OTHER_SEEDS, cache)
                    result.cold.append(run)
                    say(_told(case, result, run, f"{repeat + 1}/{options.cold}", ", cold"))
                run = _measured(result, found.results, repeat, cache if ours else None)
                result.runs.append(run)
                say(_told(case, result, run, f"{repeat + 1}/{repeats}"))
    except (SystemExit, KerasllmError) as failed:
        # The first is what run_measured raises, with the command and the end of its stderr.
        found.failure = str(failed)
    except KeyboardInterrupt:
        found.interrupted = True
    return found


def _measured(result: WayResult, results: Results, repeat: int, cache: Path | None) -> dict:
    env = result.way.env if cache is None else {**result.way.env, _CACHE: str(cache)}
    run = _run(result.way.command_of(repeat), env)
    refuse_different_work(run, results, result.way.label)
    return run


def _told(case: Case, result: WayResult, run: dict, turn: str, cold: str = "") -> str:
    figure = f"{number(run[case.figure])} {case.unit}"
    return f"{turn} {result.way.label}{cold}: {figure}{_busy(run)}"


def empty(cache: Path) -> None:
    """Empties a cache of kerasllm's: nothing is tokenized or compiled. It has all weights."""
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    weights = cache_dir() / "presets"
    weights.mkdir(parents=True, exist_ok=True)
    (cache / "presets").symlink_to(weights)


def _run(command: list[str], env: Mapping[str, str]) -> dict:
    measured = run_measured(command, env=env)
    lines = measured.stdout.strip().splitlines()
    try:
        printed = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        raise SystemExit(
            f"{' '.join(command)}\nended without a JSON object as the last line of its stdout"
        ) from None
    return {
        **printed,
        "whole_seconds": measured.seconds,
        "cpu_seconds": measured.cpu_seconds,
        "peak_memory": measured.peak_memory,
        "cores_of_others": measured.cores_of_others,
    }


def refuse_different_work(run: dict, results: Results, label: str) -> None:
    """Refuses a run that did other work than those before it."""
    if not run.get("work"):
        raise Refused(f"{label} does not say what work it did")
    if results.work and run["work"] != results.work:
        raise Refused(
            f"{label} did other work than the runs before it: {run['work']}, not {results.work}"
        )


def _busy(run: dict) -> str:
    others = run["cores_of_others"] or 0
    return f" (others kept {others:.2f} cores busy)" if others > QUIET else ""


def result(
    case: Case, measurement: Measurement, ceilings: Mapping[str, dict], options: SuiteOptions
) -> dict:
    """Returns what is printed and kept of a case.

    Args:
        case: The case.
        measurement: What was measured.
        ceilings: What `benchmarks.ceilings` found, `before` the turns and `after` them.
        options: What the command line said.

    Returns:
        What JSON takes.
    """
    results = measurement.results
    highest = {
        name: max(found[name] for found in ceilings.values())
        for name in ("float32", "bfloat16", "bandwidth")
    }
    ours = results.best(OURS, case.figure, case.more_is_better)
    floor = case.floor(results, highest) if ours else None
    others = [c for found in results.ways for c in found.values("cores_of_others")]
    return {
        "benchmark": case.name,
        "description": case.description,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": measurement.complete,
        "quick": options.quick,
        "kerasllm": __version__,
        "machine": machine(),
        "figure": case.figure,
        "unit": case.unit,
        "more_is_better": case.more_is_better,
        "work": results.work,
        "ceilings": ceilings,
        "floor": floor,
        "quiet": all(c <= QUIET for c in others) if others else None,
        "targets": [asdict(target.judge(case, results, floor)) for target in case.targets],
        "ways": [_summary(case, found, results) for found in results.ways if found.runs],
        "runs": [
            {"side": found.way.side, "way": found.way.name, "cold": cold, **run}
            for found in results.ways
            for cold, runs in ((False, found.runs), (True, found.cold))
            for run in runs
        ],
    }


def _other_figures(case: Case) -> list[str]:
    """Returns what targets are about that is neither the case's figure nor told of every case."""
    told = {case.figure, "whole_seconds", "share"}
    figures = (t.figure for t in case.targets if not isinstance(t, NotBelow))
    return [figure for figure in dict.fromkeys(figures) if figure not in told]


def _summary(case: Case, found: WayResult, results: Results) -> dict:
    values = found.values(case.figure)
    sides = dict.fromkeys(each.way.side for each in results.ways)
    best = {side: results.best(side, case.figure, case.more_is_better) for side in sides}
    return {
        "side": found.way.side,
        "way": found.way.name,
        "best_of_side": best[found.way.side] is found,
        "median": found.median(case.figure),
        "from_to": [min(values), max(values)],
        "other_figures": {name: found.median(name) for name in _other_figures(case)},
        "ratio_to_best_of": {
            side: ratio(found.median(case.figure), other.median(case.figure), case.more_is_better)
            for side, other in best.items()
            if other is not None and side not in (OURS, found.way.side)
        },
        "cold": {name: found.median(name, cold=True) for name in (case.figure, "whole_seconds")}
        if found.cold
        else {},
        "whole_seconds": found.median("whole_seconds"),
        "cpu_seconds": found.median("cpu_seconds"),
        "peak_memory": max(found.values("peak_memory")),
        "cores_of_others": max(found.values("cores_of_others"), default=None),
        "quality": {name: found.mean(name) for name in found.runs[0].get("quality", {})},
        "versions": found.runs[0].get("versions", {}),
        "note": found.runs[0].get("note"),
    }
