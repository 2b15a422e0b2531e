"""How long explaining one text takes, once the model is open, by its number of words.

    python -m benchmarks.explain RUN [--words 10,20,30,60] [--output FILE]

RUN is a run directory of a classifier. Each number of words is measured in a fresh process, as the
first text after loading costs what is done once: tracing, and setting up kernels. `later` is a
second text of the same process, of other words. All checks are included.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.measure import machine, run_measured

_CHILD = """
import json, sys, time
from kerasllm.runtime.startup import prepare_process
prepare_process(lean=True)
from kerasllm.workflows.trained import open_trained
run, count = sys.argv[1], int(sys.argv[2])
words = ("A film to remember : the actors were wonderful , the story was slow at times , and the "
         "ending made up for all of it , which is more than most of them do .").split()
found = []
explainer = open_trained(run).explainer()
for first in (0, 7):
    text = " ".join(words[(first + place) % len(words)] for place in range(count))
    began, used = time.perf_counter(), time.process_time()
    one = next(explainer.explain([text]))
    found.append({"seconds": time.perf_counter() - began,
                  "cpu_seconds": time.process_time() - used, "steps": one.steps})
print(json.dumps(found))
"""


def main() -> int:
    """Measures, prints a table and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run directory of a classifier")
    parser.add_argument("--words", default="10,20,30,60", help="numbers of words, with commas")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    rows = []
    print("words   first: s, CPU s   later: s, CPU s   steps   cores of others", flush=True)
    for words in map(int, options.words.split(",")):
        done = run_measured([sys.executable, "-c", _CHILD, options.run, str(words)])
        first, later = json.loads(done.stdout.splitlines()[-1])
        rows.append(
            {"words": words, "first": first, "later": later, "others": done.cores_of_others}
        )
        times = "".join(
            f"{one['seconds']:10.2f}{one['cpu_seconds']:8.2f}" for one in (first, later)
        )
        others = "?" if done.cores_of_others is None else f"{done.cores_of_others:.2f}"
        print(f"{words:5}{times}{first['steps']:8}{others:>18}", flush=True)
    if options.output:
        found = {"machine": machine(), "run": Path(options.run).name, "rows": rows}
        options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
