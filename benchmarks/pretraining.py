"""Does pretraining on in-domain text improve a classifier? The same, with and without it.

    python -m benchmarks.pretraining [CASE]... [--labels 1000] [--seeds 0 1] [--epochs 3]
                                     [--pooling mean]

Each case makes an encoder, and then trains the recipe bert_cls from it on some labelled film
reviews, with several seeds; accuracy is on the bundled test reviews. The text that is pretrained on
is all bundled training reviews without their labels (`minilm_...`), or these and Moby Dick
(`scratch...`). The classifier reads the mean of all tokens; with `--pooling auto` the first token,
where a sentence task has trained it.

    minilm            MiniLM-L6 as it is
    minilm_continued  the recipe mlm first; minilm_whole_words, minilm_spans: likewise
    scratch_random    a new BERT (2 layers, 128 wide) that was not pretrained
    scratch           the recipe mlm_scratch first; scratch_whole_words, scratch_spans: likewise
    scratch_next      with next sentence prediction besides; scratch_order: with sentence order
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.measure import machine

HERE = Path(__file__).parent
_REVIEWS = "starter:movie_reviews"
_SMALL = {
    "model.layers": 2,
    "model.width": 128,
    "model.heads": 2,
    "data.train": f'["{_REVIEWS}", "starter:moby_dick"]',
    "data.max_length": 64,
    "training.batch_size": 64,
    "training.learning_rate": 2e-3,
}
_VARIANTS = {
    "": {},
    "_whole_words": {"data.masking": "whole_words"},
    "_spans": {"data.masking": "spans"},
    "_next": {"model.sentence_task": "next"},
    "_order": {"model.sentence_task": "order"},
}
# The recipe that makes the encoder, and what is set over it.
CASES = {
    "minilm": None,
    "minilm_continued": ("mlm", {}),
    "minilm_whole_words": ("mlm", _VARIANTS["_whole_words"]),
    "minilm_spans": ("mlm", _VARIANTS["_spans"]),
    "scratch_random": (
        "mlm_scratch",
        {**_SMALL, "training.max_steps": 1, "training.learning_rate": 1e-12},
    ),
    **{f"scratch{name}": ("mlm_scratch", {**_SMALL, **more}) for name, more in _VARIANTS.items()},
}


def main() -> None:
    options = parse_arguments()
    results = []
    for name in options.cases:
        with tempfile.TemporaryDirectory() as made:
            results.append(run(name, options, Path(made)))
        print(json.dumps(results[-1]), file=sys.stderr)
    result = {
        "benchmark": "pretraining",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "labels": options.labels,
        "pretraining_epochs": options.epochs,
        "pooling": options.pooling,
        "cases": results,
    }
    path = HERE / "results" / f"pretraining-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    (options.output or path).write_text(json.dumps(result, indent=2) + "\n")
    print(f"{'case':<20} {'masked loss':>11} {'masked acc.':>11} {'accuracy':>9} {'spread':>7}")
    for one in results:
        found = one.get("pretraining") or {}
        loss, hits = found.get("masked_lm_loss", found.get("loss")), found.get("accuracy")
        shown = [f"{each:.4f}" if each is not None else "" for each in (loss, hits)]
        accuracy, spread = statistics.mean(one["accuracy"]), np.ptp(one["accuracy"])
        print(f"{one['case']:<20} {shown[0]:>11} {shown[1]:>11} {accuracy:>9.4f} {spread:>7.4f}")


def run(name: str, options: argparse.Namespace, folder: Path) -> dict:
    """Makes the encoder of a case and returns what classifiers on it reach, by seed."""
    preset, found = "minilm_l6_en_uncased", {"case": name}
    if CASES[name] is not None:
        recipe, settings = CASES[name]
        made = train(recipe, {"training.epochs": options.epochs, **settings}, folder / "encoder")
        preset, found["pretraining"] = str(made.path), made.read_metrics()["validation"]
        found["pretraining_seconds"] = made.read_metrics()["timing"]["train_seconds"]
    rows = write_labelled(folder / "labelled.csv", options.labels)
    found["accuracy"] = []
    for seed in options.seeds:
        settings = {
            "model.preset": preset,
            "model.pooling": options.pooling,
            "data.train": str(rows),
            "data.test": _REVIEWS,
            "data.validation_split": 0,
            "data.max_length": 64,
            "training.epochs": 3 if name.startswith("minilm") else 6,
            "training.learning_rate": 1e-4 if name.startswith("minilm") else 5e-4,
            "training.seed": seed,
        }
        classifier = train("bert_cls", settings, folder / f"classifier{seed}")
        found["accuracy"].append(classifier.read_metrics()["test"]["accuracy"])
    return found


def train(recipe: str, settings: dict, output: Path):
    """Trains by a recipe, and returns the run."""
    from kerasllm import recipe as recipes
    from kerasllm.workflows.finetune import finetune
    from kerasllm.workflows.report import Report

    lines = [f"{key}={value}" for key, value in settings.items()]
    return finetune(recipes.load(recipe, lines), output=output, report=Report.silent())


def write_labelled(file: Path, count: int) -> Path:
    """Writes some of the bundled training reviews with their labels, always the same ones."""
    from kerasllm.data.starters import find_starter

    _, source, _ = find_starter(_REVIEWS, "train")
    with open(source, encoding="utf-8", newline="") as opened:
        header, *rows = csv.reader(opened)
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    with open(file, "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([header, *(rows[number] for number in chosen)])
    return file


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--labels", type=int, default=1000, help="labelled reviews")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of pretraining")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--pooling", choices=["mean", "auto", "cls"], default="mean")
    parser.add_argument("--output", type=Path, help="JSON file  [default: in benchmarks/results]")
    options = parser.parse_args()
    options.cases = options.cases or list(CASES)
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
