"""Runs `kerasllm finetune` as a user does, and prints its numbers as the suite wants them.

    python -m benchmarks.workers.finetune --recipe bert_cls [OPTION OF FINETUNE ...]

This process only waits for it: between the two is the start of an interpreter, some hundredths of a
second. `--cache FOLDER` begins with a copy of a cache, as another run left it. `--work KEY ...`
names what the peer's work must be equal to, of `steps` and `real_tokens` (default: both);
`--quality` the metrics of the test data that are told (default: accuracy).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WORK = ["steps", "real_tokens"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--quality", nargs="+", default=["accuracy"], metavar="METRIC")
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        if options.cache:
            shutil.copytree(options.cache, Path(folder) / "cache", symlinks=True)
            os.environ["KERASLLM_CACHE"] = str(Path(folder) / "cache")
        command = [sys.executable, "-m", "kerasllm", "finetune", *arguments]
        status = subprocess.run([*command, "--output", str(run)], stdout=sys.stderr).returncode
        if status:
            return status
        metrics = json.loads((run / "metrics.json").read_text())
        environment = json.loads((run / "environment.json").read_text())
    timing = metrics["timing"]
    print(
        json.dumps(
            {
                "seconds": timing["train_seconds"],
                # From the command, whose interpreter has started.
                "first_step_seconds": timing["ready_seconds"] + timing["first_step_seconds"],
                "real_token_share": timing["real_tokens"] / timing["processed_tokens"],
                "work": {key: timing[key] for key in options.work},
                "quality": {name: metrics["test"][name] for name in options.quality},
                "timing": timing,
                "versions": environment["versions"],
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
