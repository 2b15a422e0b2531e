"""Makes smaller models of a run by every method, and has `keras_hub` alone load those in integers.

    python -m benchmarks.compress RUN [--methods int8 distill ...] [--keep FOLDER]

Size, speed and quality are what `kerasllm compress` measures, both models in turn. Of a quantized
classifier it is also measured how often `keras_hub` by itself, which computes with the integers,
gives the label of the model that there was.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine, run_measured
from kerasllm.recipe.compression import METHODS

HERE = Path(__file__).parent
QUANTIZED = ("int8", "int4", "gptq", "awq")
ALONE = """
import sys
import keras_hub
from pathlib import Path
from kerasllm.compression.run_model import subject_of
from kerasllm.data.labels import Labels
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.run import Run

subject = subject_of(Run.open(sys.argv[1]))
labels = []
for folder in (Run(path).model for path in sys.argv[1:]):
    task = keras_hub.models.TextClassifier.from_preset(str(folder))
    labels.append(subject.evaluate(TextClassifier(task, Labels.load(folder)))[1])
print((labels[0] == labels[1]).mean())
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compress")
    parser.add_argument("run", type=Path)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--keep", type=Path, help="a folder for the new runs (default: none)")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        results = {name: measure(options.run, name, folder) for name in options.methods}
    now = datetime.now(UTC)
    report = {"when": now.isoformat(timespec="seconds"), "machine": machine(), "methods": results}
    output = options.output or HERE / "results" / f"compress-{now:%Y-%m-%d-%H%M}.json"
    output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    Console().print(table(results))


def measure(run: Path, method: str, folder: Path) -> dict:
    """Returns what one method makes of a run."""
    target = folder / method
    # The numbers are wanted of a model that lost much as well.
    command = [sys.executable, "-m", "kerasllm", "compress", str(run), "--method", method]
    measured = run_measured([*command, "--limit", "0.99", "--output", str(target)])
    facts = json.loads((target / "metrics.json").read_text(encoding="utf-8"))["compression"]
    facts |= {"seconds": measured.seconds, "cores_of_others": measured.cores_of_others}
    if method in QUANTIZED and facts["agreement"] is not None:
        alone = run_measured([sys.executable, "-c", ALONE, str(run), str(target)])
        facts["agreement_in_keras_hub"] = float(alone.stdout.split()[-1])
    return facts


def table(results: dict[str, dict]) -> Table:
    """Returns the ratios of after to before, and the quality."""
    shown = Table()
    columns = ("method", "size", "gzipped", "speed", "quality", "same label", "in keras_hub")
    for column in columns:
        shown.add_column(column)
    for method, facts in results.items():
        before, after = facts["before"], facts["after"]
        ratios = (
            f"{after[key] / before[key]:.3f}"
            for key in ("bytes", "gzipped_bytes", "rows_per_second")
        )
        quality = " to ".join(f"{one['quality'][facts['metric']]:.4f}" for one in (before, after))
        agreements = (facts.get("agreement"), facts.get("agreement_in_keras_hub"))
        same = ("-" if share is None else f"{share:.2%}" for share in agreements)
        shown.add_row(method, *ratios, quality, *same)
    return shown


if __name__ == "__main__":
    main()
