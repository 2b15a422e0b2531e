"""In the place of `kerasllm` in a benchmark: leaves the metrics of a training, without one."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

if sys.argv[1] == "evaluate":
    print(json.dumps({"accuracy": 0.25}))
    sys.exit()
output = Path(sys.argv[sys.argv.index("--output") + 1])
recipe = Path(sys.argv[sys.argv.index("--recipe") + 1]).read_text()
if (output.parent.parent / f"fail-{output.parent.name}").exists():
    print("Error: The data are not read\n  do:    read them", file=sys.stderr)
    sys.exit(2)
if (output.parent.parent / f"stop-{output.parent.name}").exists():
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
(output / "checkpoints").mkdir(parents=True)
(output / "recipe.yaml").write_text(recipe)
score = 0.5 + int(re.search(r"^  seed: (\d+)", recipe, re.MULTILINE)[1]) / 10
test = dict.fromkeys(("accuracy", "mcc", "pearson", "spearman", "macro_f1"), score)
test["per_class"] = {"0": {"f1": 0.0}, "1": {"f1": score}}
(output / "metrics.json").write_text(json.dumps({"test": test}))
with open(output.parent.parent / "trained.txt", "a") as file:
    file.write(f"{output.parent.name}/{output.name}\n")
