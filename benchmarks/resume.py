"""Measures how soon a resumed run is at work again, and what checkpoints cost a run.

    python -m benchmarks.resume [--repeats 5] [--every 20] [--pairs 2]

All with the recipe bert_cls on the movie reviews, each run in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine, run_measured

HERE = Path(__file__).parent
# Shares of the epoch.
PLACES = {"early": 0.05, "middle": 0.5, "late": 0.95}
# The limits: seconds beyond a fresh run, and share of the run.
LATER, COST = 2.0, 0.02
# Cores kept busy by others, above which times mean little.
QUIET = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume")
    parser.add_argument("--repeats", type=int, default=5, help="of each start (default: 5)")
    parser.add_argument(
        "--every", type=int, default=20, help="steps between checkpoints (default: 20)"
    )
    parser.add_argument("--pairs", type=int, default=2, help="whole runs, 0 for none (default: 2)")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    options = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "benchmark": "resume",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "starts": starts(Path(folder), options.repeats, console),
            "every": options.every,
            "runs": runs(Path(folder), options.every, options.pairs, console),
        }
    path = options.output or HERE / "results" / f"resume-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    Console().print(table_of_starts(result))
    if options.pairs:
        Console().print(table_of_costs(result))
    console.print(f"Written to {path}")


def starts(folder: Path, repeats: int, console: Console) -> list[dict]:
    """Stops a run at each place, and then starts a fresh one and those in turn."""
    at, stopped = folder / "stopped", {}
    for name, share in PLACES.items():
        console.print(f"training until {name} in the epoch ...")
        child("stop", at, share=share)
        stopped[name] = shutil.copytree(at, folder / name)
    found = []
    for repeat in range(repeats):
        for name in ("fresh", *PLACES):
            output = stopped.get(name, folder / f"fresh-{repeat}")
            start = {"name": name, **child("start", output)}
            console.print(f"{repeat + 1}/{repeats} {name}: {start['begins']:.2f} s")
            found.append(start)
    return found


def runs(folder: Path, every: int, pairs: int, console: Console) -> list[dict]:
    """Trains whole runs, with checkpoints and without, in turn."""
    found = []
    for pair in range(pairs):
        for steps in (every, None):
            run = {"every": steps, **child("run", folder / f"run-{pair}-{steps}", every=steps)}
            console.print(f"{pair + 1}/{pairs} every={steps}: {run['train_seconds']:.1f} s")
            found.append(run)
    return found


def child(what: str, output: Path, **options) -> dict:
    """Runs one of the functions below in a new process; returns what it tells."""
    request = {"what": what, "output": str(output), "began": time.time(), **options}
    measured = run_measured([sys.executable, "-m", "benchmarks.resume", json.dumps(request)])
    told = json.loads(measured.stdout.splitlines()[-1])
    return {**told, "cores_of_others": measured.cores_of_others}


def table_of_starts(result: dict) -> Table:
    shown = Table(title="From the start of the process (medians)", title_justify="left")
    for column in ("", "first new step begins", "later", "processor time", "later", "it is done"):
        shown.add_column(column, justify="right" if column else "left")
    fresh = None
    for name in ("fresh", *PLACES):
        group = [start for start in result["starts"] if start["name"] == name]
        keys = ("begins", "cpu", "ends")
        begins, cpu, ends = (median(start[key] for start in group) for key in keys)
        fresh = fresh or (begins, cpu)
        step = f" at step {group[0]['step']}" if group[0]["step"] else ""
        later = [f"{now - then:+.2f} s" * bool(step) for now, then in zip((begins, cpu), fresh)]
        times = f"{begins:.2f} s", later[0], f"{cpu:.2f} s", later[1], f"{ends:.2f} s"
        shown.add_row(f"{name}{step}", *times)
    parts = {
        part: median(start["parts"][part] for start in result["starts"] if start["step"])
        for part in ("read", "restore")
    }
    shown.caption = (
        f"Of a resumed start, reading the checkpoint took {parts['read']:.2f} s and putting it "
        f"into the model {parts['restore']:.2f} s. Limit: {LATER:g} s later than fresh."
        + busy(result["starts"])
    )
    return shown


def table_of_costs(result: dict) -> Table:
    every, trained = result["every"], [run for run in result["runs"] if run["every"]]
    without = [run for run in result["runs"] if not run["every"]]
    saves = [save for run in trained for save in run["saves"]]
    step, cpu_step = (median(run[key] for run in trained) for key in ("step", "cpu_step"))
    blocking = median(save["blocking"] for save in saves)
    cpu = median(save["cpu"] for save in saves)
    shown = Table(title="A checkpoint every 100 steps", title_justify="left")
    for column in ("", "one checkpoint", "100 steps", "share of the run"):
        shown.add_column(column, justify="right" if column else "left")

    def row(name: str, one: float, steps: float) -> None:
        shown.add_row(name, f"{one:.3f} s", f"{steps:.1f} s", f"{one / steps:.2%}")

    row("training stands still (wall time)", blocking, 100 * step)
    row("processor time, background included", cpu, 100 * cpu_step)
    if without:
        seconds, base = (
            median(run["train_seconds"] for run in group) for group in (trained, without)
        )
        count = median(len(run["saves"]) for run in trained)
        row(f"whole runs, one every {every} against none", (seconds - base) / count, 100 * step)
    size = median(run["bytes"] for run in trained)
    shown.caption = (
        f"Medians of {len(saves)} checkpoints of {size / 2**20:.0f} MiB. "
        f"Limit: {COST:.0%}.{busy(result['runs'])}"
    )
    return shown


def busy(measured: list[dict]) -> str:
    if max(one["cores_of_others"] or 0 for one in measured) <= QUIET:
        return ""
    return "\nThe machine was busy with other work: measure again before you believe this."


# What follows runs in the processes that are measured.


def stop(output: Path, share: float, **_: object) -> dict:
    """Trains until a share of the epoch, and stops with a checkpoint."""
    from kerasllm.errors import Interrupted

    def at_step(number: int, steps: int) -> None:
        if number == round(share * steps):
            signal.raise_signal(signal.SIGTERM)

    try:
        train(output, at_step)
    except Interrupted:
        return {}
    raise SystemExit("The run was not stopped.")


def start(output: Path, began: float, **_: object) -> dict:
    """Starts or resumes a run, until its first new step is done."""
    from kerasllm.training.checkpointing import Checkpoints
    from kerasllm.training.checkpoints import CheckpointStore
    from kerasllm.training.monitor import StepMonitor

    times = {"read": 0.0, "restore": 0.0}
    timed(CheckpointStore, "newest", lambda seconds: times.update(read=seconds))
    timed(Checkpoints, "restore", lambda seconds: times.update(restore=seconds))
    begins = {}

    def begin() -> None:
        begins.setdefault("begins", time.time() - began)
        begins.setdefault("cpu", time.process_time())

    before(StepMonitor, "on_train_batch_begin", begin)

    def at_step(number: int, steps: int) -> None:
        told = {"step": number - 1, **begins, "ends": time.time() - began, "parts": times}
        print(json.dumps(told), flush=True)
        # At once, so that the run stays as it was.
        os._exit(0)

    train(output, at_step)


def run(output: Path, every: int | None, **_: object) -> dict:
    """Trains a whole run; tells what each checkpoint took, and what a step took beside them."""
    from kerasllm.training.checkpointing import Checkpoints
    from kerasllm.training.checkpoints import CheckpointStore

    blocking, main_cpu, background, at = [], [], [], []
    timed(Checkpoints, "save", blocking.append)
    timed(Checkpoints, "save", main_cpu.append, time.thread_time)
    timed(CheckpointStore, "_save", background.append, time.thread_time)

    def at_step(number: int, steps: int) -> None:
        at.append((time.perf_counter(), time.process_time()))

    made = train(output, at_step, every)
    saves = [
        {"blocking": wall, "cpu": main + behind}
        for wall, main, behind in zip(blocking, main_cpu, background, strict=True)
    ]
    # Without the first steps, which trace and warm up.
    warm = 5
    steps = len(at) - 1 - warm
    seconds, cpu = (at[-1][i] - at[warm][i] for i in (0, 1))
    # The last save comes after the last step.
    inside = saves[:-1]
    newest = max(made.checkpoints.iterdir(), key=lambda path: path.stat().st_mtime)
    return {
        "train_seconds": made.read_metrics()["timing"]["train_seconds"],
        "step": (seconds - sum(save["blocking"] for save in inside)) / steps,
        "cpu_step": (cpu - sum(save["cpu"] for save in inside)) / steps,
        "saves": saves,
        "bytes": sum(file.stat().st_size for file in newest.iterdir()),
    }


def train(output: Path, at_step, every: int | None = None):
    from kerasllm.recipe import load
    from kerasllm.workflows.finetune import finetune
    from kerasllm.workflows.report import Report

    class Watching(Report):
        @contextmanager
        def training(self, steps: int, done: int = 0):
            with super().training(steps, done) as progress:
                progress.step = lambda number: at_step(number, steps)
                yield progress

    checkpoints = f"training.checkpoint_every={every or 'null'}"
    recipe = load("bert_cls", [checkpoints, "data.test=null"])
    return finetune(recipe, output=output, resume=True, report=Watching())


def timed(owner: type, name: str, tell, clock=time.perf_counter) -> None:
    """Makes a method tell how long it took."""
    method = getattr(owner, name)

    def measured(*arguments, **options):
        began = clock()
        try:
            return method(*arguments, **options)
        finally:
            tell(clock() - began)

    setattr(owner, name, measured)


def before(owner: type, name: str, tell) -> None:
    """Makes a method tell when it is called."""
    method = getattr(owner, name)

    def told(*arguments, **options):
        tell()
        return method(*arguments, **options)

    setattr(owner, name, told)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        request = json.loads(sys.argv[1])
        request["output"] = Path(request["output"])
        function = {"stop": stop, "start": start, "run": run}[request.pop("what")]
        print(json.dumps(function(**request)))
    else:
        main()
