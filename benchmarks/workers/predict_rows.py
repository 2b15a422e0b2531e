"""Predicts for rows of any task with kerasllm, and prints one JSON object as the suite wants it.

    python -m benchmarks.workers.predict_rows RUN --rows rows.json --key spans

`rows.json` has `rows`, what the task predicts for, and `expected`, what a peer found: for each row
lists `[start, end, label]` of spans, or a text.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from kerasllm.runtime.startup import import_tensorflow

# As the commands do, before anything else imports it.
import_tensorflow(lean=True)

import tensorflow as tf

from kerasllm.workflows.trained import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--rows", type=Path, required=True, help="JSON, see above")
    parser.add_argument("--key", required=True, help="of a prediction, what is compared")
    parser.add_argument("--rounds", type=int, default=1)
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    given = json.loads(options.rows.read_text(encoding="utf-8"))
    rows = [tuple(row) if isinstance(row, list) else row for row in given["rows"]]
    opened = open_run(options.run)
    model = opened.open()
    seconds, found = [], []
    # The first round, which traces, is left out.
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        predicted = opened.task.predict(model, rows, buckets=opened.buckets)
        found = [comparable(each[options.key]) for each in predicted]
        seconds.append(time.perf_counter() - started)
    same = sum(a == b for a, b in zip(found, given["expected"], strict=True)) / len(rows)
    return {
        "rows_per_second": len(rows) / min(seconds[1:]),
        "work": {"rows": len(found), "rounds": options.rounds},
        "quality": {"same": same},
        "versions": {"tensorflow": tf.__version__},
    }


def comparable(found: str | list[dict]) -> str | list[list]:
    """Returns an answer as it is, and spans as `[start, end, label]`."""
    if isinstance(found, str):
        return found
    return [[span["start"], span["end"], span["label"]] for span in found]


if __name__ == "__main__":
    main()
