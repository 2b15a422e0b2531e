"""`model.fit(texts, labels)` in Python against the command, on the same job: is it the same engine?

    python -m benchmarks.fit_texts [--turns N]

Both fine-tune MiniLM-L6 on the bundled movie reviews for an epoch, in turn, each in a fresh
process, after one of each to fill the caches. Seconds of training are compared, and of the whole
process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_IN_PYTHON = """
import json, sys, time
import keras
import kerasllm

keras.utils.set_random_seed(0)
data = kerasllm.Dataset.from_files("starter:movie_reviews")
rows = data.head(len(data))
texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
model = kerasllm.TextClassifier.from_preset(
    "minilm_l6_en_uncased", labels=["negative", "positive"], pooling="cls", max_length=128
)
model.compile()
began = time.perf_counter()
model.fit(texts, labels, validation_split=0.1, verbose=0)
print(json.dumps(time.perf_counter() - began))
"""


def main() -> int:
    """Measures, prints a table and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3, help="turns of each (default: 3)")
    turns = parser.parse_args().turns
    found: dict[str, list[tuple[float, float]]] = {"command": [], "python": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns + 1):
            for name, measure in (("command", _command), ("python", _python)):
                seconds = measure(Path(folder) / f"run-{turn}")
                if turn:
                    found[name].append(seconds)
                    fit, whole = seconds
                    print(
                        f"{turn}/{turns} {name}: fit {fit:.1f} s, whole {whole:.1f} s", flush=True
                    )
    for place, what in enumerate(("fit", "whole process")):
        command, python = (statistics.median(each[place] for each in found[name]) for name in found)
        ratio = python / command
        print(f"{what}: command {command:.1f} s, Python {python:.1f} s, {ratio:.3f} times")
    return 0


def _command(output: Path) -> tuple[float, float]:
    began = time.perf_counter()
    arguments = ["finetune", "--recipe", "bert_cls", "--output", str(output)]
    _run("-m", "kerasllm", *arguments, "--set", "data.test=null")
    whole = time.perf_counter() - began
    timing = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["timing"]
    return timing["total_seconds"] - timing["ready_seconds"], whole


def _python(output: Path) -> tuple[float, float]:
    began = time.perf_counter()
    fit = float(_run("-c", _IN_PYTHON).splitlines()[-1])
    return fit, time.perf_counter() - began


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
