"""The SavedModel of a classifier and a transformers pipeline of the same weights.

Both classify the same texts in batches of 32, as a server would: strings in, labels out, in the
order in which they come. Told is the share of the labels that `kerasllm predict` gives.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from benchmarks.inputs import (
    KERASLLM,
    attention_operations,
    classifier,
    encoder_weights,
    make_classifier,
    movie_reviews,
    read_config,
)
from benchmarks.measure import run_measured
from benchmarks.suite import OURS, PEERS, Case, SuiteOptions, Target, Way

PEER = "transformers"
PRECISIONS = ("float32", "bfloat16")
ROWS = 512


class SavedModel(Case):
    name = "saved_model"
    description = "classifies strings with an exported classifier, batches of 32"
    figure = "texts_per_second"
    unit = "texts/s"
    more_is_better = True
    targets = (Target("texts_per_second", PEER, 1.2),)

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        make_classifier(options)
        run = str(classifier(options))
        export = [*KERASLLM, "export", run, "--rows", "32", "--output"]
        run_measured([*export, str(folder / "transformers"), "--format", "transformers"])
        for precision in PRECISIONS:
            run_measured([*export, str(folder / precision), "--precision", precision])
        self._config = read_config(folder / "transformers")
        texts = movie_reviews("test", options, rows=64 if options.quick else ROWS)
        predict = [*KERASLLM, "predict", run, "--input", str(texts)]
        run_measured([*predict, "--output", str(folder / "labels.jsonl")])
        with open(texts, encoding="utf-8", newline="") as file:
            rows = [row["text"] for row in csv.DictReader(file)]
        lines = (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()
        given = {"texts": rows, "labels": [json.loads(line)["label"] for line in lines]}
        (folder / "texts.json").write_text(json.dumps(given), encoding="utf-8")

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        texts = ["--texts", str(folder / "texts.json"), "--rounds", "1" if options.quick else "3"]
        ours = [sys.executable, "-m", "benchmarks.workers.saved_model", *texts]
        theirs = [options.peer_python, str(PEERS / "huggingface_classify.py"), *texts]
        theirs += ["--model", str(folder / "transformers")]
        return [
            *(Way(OURS, name, [*ours, "--model", str(folder / name)]) for name in PRECISIONS),
            *(Way(PEER, name, [*theirs, "--precision", name]) for name in PRECISIONS),
        ]

    def floor(self, results, ceilings):
        peers = [r for r in results.ways if r.way.side == PEER and r.runs]
        if not peers:
            return None
        tokens, squared = (peers[0].median(key) for key in ("tokens", "squared_lengths"))
        best = results.best(OURS, self.figure, self.more_is_better)
        operations = 2 * encoder_weights(self._config) * tokens
        operations += attention_operations(self._config, squared)
        seconds = operations / ceilings[best.way.name]
        texts = results.work["texts"]
        return {
            "seconds": seconds,
            "share": seconds * best.median(self.figure) / texts,
            "how": f"{operations / 1e12:.2f} trillion operations of the layers for {texts} texts, "
            f"at the measured rate of {best.way.name}",
        }


CASE = SavedModel()
