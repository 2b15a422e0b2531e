"""How long the report of a run takes, and how much memory: `python -m benchmarks.report`.

A run of a classifier with so many test rows is made up, without a training, and `kerasllm report` is
run on it in a process of its own. The limits are 20 s and 1 GB for 100,000 rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

LIMIT_SECONDS, LIMIT_BYTES = 20.0, 1e9


def measure(rows: int) -> dict[str, float]:
    """Returns the seconds, those of a processor, and the peak memory of a report."""
    from tests.reports.made_run import make_run

    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", rows=rows)
        began = time.perf_counter()
        command = [sys.executable, "-m", "kerasllm", "report", str(run.path)]
        child = os.posix_spawn(sys.executable, command, os.environ)
        _, status, used = os.wait4(child, 0)
        seconds = time.perf_counter() - began
        if status:
            raise SystemExit("the report failed")
        return {
            "rows": rows,
            "seconds": round(seconds, 2),
            "processor_seconds": round(used.ru_utime, 2),
            "peak_bytes": used.ru_maxrss * 1024,
            "page_bytes": run.report.stat().st_size,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    found = measure(parser.parse_args().rows)
    print(json.dumps(found))
    if found["seconds"] > LIMIT_SECONDS or found["peak_bytes"] > LIMIT_BYTES:
        sys.exit(1)


if __name__ == "__main__":
    main()
