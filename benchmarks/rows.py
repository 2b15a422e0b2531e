"""Shows that a training's memory does not grow with its rows: 50 thousand against 5 million.

    python -m benchmarks.rows [--rows 50000 5000000] [--steps 250] [--recipe gpt_lm]

The files are the movie reviews over and over, as csv. `kerasllm finetune --recipe bert_cls` (or
another recipe that reads texts) trains on each twice, in processes of their own: the first reads
the file and tokenizes it, the second finds the tokens. A training is stopped by SIGTERM when
everything that it needs of all rows (lengths, labels, the held-out part, the plan of the epoch) is
there, and all lengths of batches are compiled.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from kerasllm.data.readers.sources import Source
from kerasllm.environment import store_dir, versions

HERE = Path(__file__).parent
_STOPPED = 128 + signal.SIGTERM


def main() -> None:
    options = parse_arguments()
    console = Console(stderr=True)
    runs, kept = [], set(store_dir().glob("*.arrow"))
    with tempfile.TemporaryDirectory(prefix="kerasllm-rows-", dir=options.folder) as folder:
        try:
            for rows in options.rows:
                file = Path(folder) / f"{rows}.csv"
                write_rows(file, rows)
                for tokens in ("made", "found"):
                    console.print(f"{rows:,} rows, tokens to be {tokens} ...")
                    output = Path(folder) / f"{rows}-{tokens}"
                    measured = train(options.recipe, file, output, options.steps)
                    runs.append({"rows": rows, "tokens": tokens, **measured})
                file.unlink()
        finally:
            # The tokens of 5 million rows take 0.7 GB.
            for store in set(store_dir().glob("*.arrow")) - kept:
                store.unlink()
    result = {
        "benchmark": "rows",
        "recipe": options.recipe,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "steps": options.steps,
        "runs": runs,
        "peak_ratio": peak_ratio(runs),
    }
    path = options.output or HERE / "results" / f"rows-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    Console(width=130).print(table(result))
    console.print(f"Written to {path}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows")
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 5_000_000])
    parser.add_argument("--recipe", choices=["bert_cls", "gpt_lm"], default="bert_cls")
    parser.add_argument("--steps", type=int, default=250, help="steps to train (default: 250)")
    parser.add_argument("--folder", type=Path, help="where files are made (default: temporary)")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    return parser.parse_args()


def write_rows(file: Path, count: int) -> None:
    """Writes so many rows of the bundled reviews, over and over."""
    lines = []
    for batch in Source("starter:movie_reviews", split="train").batches():
        for row in zip(batch.texts, batch.labels, strict=True):
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow(row)
            lines.append(line.getvalue())
    times, rest = divmod(count, len(lines))
    with open(file, "w", encoding="utf-8", newline="") as stream:
        stream.write("text,label\n")
        for _ in range(times):
            stream.writelines(lines)
        stream.writelines(lines[:rest])


def train(recipe: str, file: Path, output: Path, steps: int) -> dict:
    """Trains for some steps and returns what it took.

    Raises:
        SystemExit: If the training ends by itself, or not as it is asked to.
    """
    command = [sys.executable, "-m", "kerasllm", "finetune", "--recipe", recipe]
    command += ["--train", str(file), "--output", str(output)]
    started, first = time.perf_counter(), None
    with tempfile.TemporaryFile("w+") as shown:
        process = subprocess.Popen(command, stderr=shown)
        while (step := last_step(output / "metrics.jsonl")) < steps and not has_ended(process.pid):
            if step and first is None:
                first = time.perf_counter() - started
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (_STOPPED, -signal.SIGTERM) or first is None:
            shown.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{shown.read()[-4000:]}")
    kilobytes = 1 if platform.system() == "Darwin" else 1024
    return {
        "first_step_seconds": round(first, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory": usage.ru_maxrss * kilobytes,
    }


def has_ended(process: int) -> bool:
    """Tells whether a process has ended; it still waits for `os.wait4`."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def last_step(log: Path) -> int:
    """Returns the number of the last step that a run has logged, 0 before the first."""
    if not log.is_file():
        return 0
    lines = log.read_text(encoding="utf-8").split("\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else 0


def peak_ratio(runs: list[dict]) -> float:
    """Returns the peak with the most rows over that with the fewest."""
    found = [run for run in runs if run["tokens"] == "found"]
    few, many = min(found, key=_rows), max(found, key=_rows)
    return round(many["peak_memory"] / few["peak_memory"], 3)


def _rows(run: dict) -> int:
    return run["rows"]


def table(result: dict) -> Table:
    shown = Table(
        title=f"{result['recipe']}: most rows in {result['peak_ratio']} times the fewest's memory"
    )
    for name in ("rows", "tokens", "peak memory", "to the end of the first step"):
        shown.add_column(name, justify="left" if name == "tokens" else "right")
    for run in result["runs"]:
        shown.add_row(
            f"{run['rows']:,}",
            run["tokens"],
            f"{run['peak_memory'] / 1e6:,.0f} MB",
            f"{run['first_step_seconds']:.1f} s",
        )
    return shown


if __name__ == "__main__":
    main()
