"""How long the report of a run takes, and how much memory: `python -m benchmarks.report`.

A run of a classifier with so many test rows is made up, without a training, and `kerasllm report`
is run on it in a process of its own. The limits are 20 s and 1 GB for 100,000 rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The peak of a process as the parent is told it may be that of the parent.
_CHILD = """
import json, re, resource, sys
from kerasllm.cli.main import main
try:
    main(["report", sys.argv[1]])
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    print(json.dumps({"seconds": used, "bytes": int(peak) * 1024}))
"""

LIMIT_SECONDS, LIMIT_BYTES = 20.0, 1e9


def measure(rows: int) -> dict[str, float]:
    """Returns the seconds, those of a processor, and the peak memory of a report."""
    from tests.reports.made_run import make_run

    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", rows=rows)
        began = time.perf_counter()
        command = [sys.executable, "-c", _CHILD, str(run.path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        used = json.loads(done.stdout.splitlines()[-1])
        return {
            "rows": rows,
            "seconds": round(seconds, 2),
            "processor_seconds": round(used["seconds"], 2),
            "peak_bytes": used["bytes"],
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
