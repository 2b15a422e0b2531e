"""Fine-tunes a small encoder on standard tasks, beside what Hugging Face reaches on the same rows.

    python -m benchmarks.glue --data FOLDER [stsb mrpc cola rte goemotions wnut17 qamr policyqa]
        [--seeds 0 1]

FOLDER holds the files in their original layouts: those of GLUE as `kerasllm benchmark glue` finds
them (mrpc/train.tsv.gz, dev.tsv.gz; the same for rte and cola; stsb/stsb-en-train.csv.gz,
stsb-en-dev.csv.gz of stsb-multi-mt);
goemotions/train.tsv.gz, dev.tsv.gz, test.tsv.gz, labels.txt; wnut17/train.conll.gz, dev.conll.gz;
qamr/train.json.gz, test.json.gz and policyqa/ alike (SQuAD JSON).

Each task is trained by a recipe with all-MiniLM-L6, on all of its training rows, with the epochs,
learning rate, batch size (32) and length that the Hugging Face figures were measured with: AdamW
with weight decay 0.01, 10% warm-up, a linear schedule, clipping at 1.0, bfloat16 on a CPU. Those
figures are the better one of transformers' stock [CLS] head and of mean pooling with one linear
layer, of one seed. The spread is the distance between the best and the worst seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine, run_measured
from kerasllm.workflows.benchmark_files import find_tasks, settings_of
from kerasllm.workflows.benchmark_tasks import GLUE

HERE = Path(__file__).parent
KERASLLM = (sys.executable, "-m", "kerasllm")


@dataclass(frozen=True)
class Case:
    """A standard task.

    Attributes:
        recipe: The recipe; `None` of a task of GLUE, which names it.
        files: The files of each part, by the part's name; those of GLUE's tasks are found.
        settings: What is set over the recipe.
        peer: What Hugging Face reaches, by metric.
        below: How far below that the mean of the seeds may be.
        also: Metrics that are shown beside them.
    """

    recipe: str | None
    files: dict[str, str]
    settings: dict[str, object]
    peer: dict[str, float]
    below: float = 0.01
    also: tuple[str, ...] = ()


CASES = {
    "stsb": Case(
        None,
        {},
        {"training.epochs": 2, "training.learning_rate": 1e-4, "data.max_length": 128},
        {"pearson": 0.8552, "spearman": 0.8540},
    ),
    "mrpc": Case(
        None,
        {},
        {"training.epochs": 3, "training.learning_rate": 1e-4, "data.max_length": 128},
        {"accuracy": 0.7990, "mcc": 0.5088},
    ),
    "cola": Case(
        None,
        {},
        {
            "training.epochs": 3,
            "training.learning_rate": 1e-4,
            "data.max_length": 64,
            "model.pooling": "auto",
        },
        {"mcc": 0.2864, "accuracy": 0.7306},
        below=0.02,
    ),
    "rte": Case(
        None,
        {},
        {"training.epochs": 3, "training.learning_rate": 1e-4, "data.max_length": 192},
        {"accuracy": 0.6029},
        below=0.02,
    ),
    "goemotions": Case(
        "multi_label_cls",
        {
            "train": "goemotions/train.tsv.gz",
            "validation": "goemotions/dev.tsv.gz",
            "test": "goemotions/test.tsv.gz",
        },
        {
            "training.epochs": 2,
            "training.learning_rate": 3e-4,
            "data.max_length": 64,
            "data.label_names": "goemotions/labels.txt",
        },
        # With one threshold of 0.5 for all labels.
        {"micro_f1_at_0.5": 0.3388},
        also=("micro_f1", "macro_f1"),
    ),
    "wnut17": Case(
        "ner",
        {"train": "wnut17/train.conll.gz", "test": "wnut17/dev.conll.gz"},
        {"training.epochs": 3, "training.learning_rate": 3e-4, "data.max_length": 128},
        {"f1": 0.5360},
        also=("partial_f1", "token_accuracy"),
    ),
    "qamr": Case(
        "qa",
        {"train": "qamr/train.json.gz", "test": "qamr/test.json.gz"},
        {"training.epochs": 2, "training.learning_rate": 3e-4, "data.max_length": 384},
        {"exact_match": 0.6892, "f1": 0.7944},
    ),
    "policyqa": Case(
        "qa",
        {"train": "policyqa/train.json.gz", "test": "policyqa/test.json.gz"},
        {"training.epochs": 2, "training.learning_rate": 3e-4, "data.max_length": 384},
        {"exact_match": 0.1497, "f1": 0.3861},
    ),
}


def main() -> None:
    options = parse_arguments()
    results = []
    for name in options.tasks:
        for seed in options.seeds:
            found = run(name, CASES[name], options.data, seed)
            results.append({"task": name, "seed": seed, **found})
            print(json.dumps(results[-1]), file=sys.stderr)
    result = {
        "benchmark": "glue",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "runs": results,
    }
    path = HERE / "results" / f"glue-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    (options.output or path).write_text(json.dumps(result, indent=2) + "\n")
    Console().print(table(results))


def run(name: str, case: Case, data: Path, seed: int) -> dict:
    """Trains a task with one seed and returns its metrics on the rows that are measured."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        recipe, settings = case.recipe, dict(case.settings)
        if recipe is None:
            ((found,), _) = find_tasks(GLUE, data, [name])
            recipe, settings = found.task.recipe, {**settings_of(found, data), **settings}
        command = [*KERASLLM, "finetune", "--recipe", recipe, "--output", str(output)]
        for part, file in case.files.items():
            command += [f"--{part}", str(data / file)]
        if "validation" not in case.files:
            # All rows train, as at the peer.
            settings["data.validation_split"] = 0
        if names := settings.get("data.label_names"):
            settings["data.label_names"] = data / str(names)
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        run_measured([*command, "--seed", str(seed)])
        metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in metrics["test"].items() if isinstance(value, float)}
    return {"metrics": kept, "train_seconds": metrics["timing"]["train_seconds"]}


def table(results: list[dict]) -> Table:
    """Returns a row for each metric of each task: ours, Hugging Face's, and the spread."""
    shown = Table("task", "metric", box=None, pad_edge=False, header_style="bold")
    shown.columns[1].no_wrap = True
    for column in ("kerasllm", "Hugging Face", "", "seeds", "spread", ""):
        shown.add_column(column, justify="right")
    for name in dict.fromkeys(result["task"] for result in results):
        case = CASES[name]
        for metric in (*case.peer, *case.also):
            ours = [r["metrics"][metric] for r in results if r["task"] == name]
            mean, peer = sum(ours) / len(ours), case.peer.get(metric)
            shown.add_row(
                name,
                metric,
                f"{mean:.4f}",
                f"{peer:.4f}" if peer else "",
                f"{mean - peer:+.4f}" if peer else "",
                str(len(ours)),
                f"{max(ours) - min(ours):.4f}",
                "" if not peer else "reached" if mean >= peer - case.below else "below",
            )
    return shown


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(CASES)}")
    parser.add_argument("--data", type=Path, required=True, help="the folder with the files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, help="JSON file  [default: in benchmarks/results]")
    options = parser.parse_args()
    options.tasks = options.tasks or list(CASES)
    if unknown := set(options.tasks) - set(CASES):
        parser.error(f"there is no task {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
