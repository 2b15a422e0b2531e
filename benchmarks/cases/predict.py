"""`kerasllm predict` on a file of texts of all lengths, against a pipeline of transformers.

Both get the texts as they stand in the file. Loading and a first round are not counted. The labels
of both are compared with those that transformers gives in float32.
"""

from __future__ import annotations

import csv
import json
import random
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
from benchmarks.suite import OURS, PEERS, AtLeast, Case, SuiteOptions, Target, Way

PEER = "transformers"
TEXTS = 4000


class Predict(Case):
    name = "predict"
    description = "classifies an unsorted file of 4,000 reviews"
    figure = "texts_per_second"
    unit = "texts/s"
    more_is_better = True
    targets = (
        Target("texts_per_second", PEER, 2.0),
        Target("command_seconds", PEER, 2.0, more_is_better=False),
        AtLeast("same_labels", 0.99),
    )

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        make_classifier(options)
        export = [*KERASLLM, "export", str(classifier(options)), "--rows", "32"]
        run_measured([*export, "--format", "transformers", "--output", str(folder / "model")])
        self._config = read_config(folder / "model")
        texts = []
        for part in ("train", "test"):
            with open(movie_reviews(part, options), encoding="utf-8", newline="") as file:
                texts += [" ".join(row["text"].split()) for row in csv.DictReader(file)]
        random.Random(0).shuffle(texts)
        texts = texts[: 64 if options.quick else TEXTS]
        (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        path = folder / "texts.json"
        path.write_text(json.dumps({"texts": texts}), encoding="utf-8")
        peer = [*self._peer(folder, options), "float32", "--rounds", "0", "--labels"]
        run_measured([*peer, str(folder / "labels.json")])
        labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        path.write_text(json.dumps({"texts": texts, "labels": labels}), encoding="utf-8")

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        ours = [sys.executable, "-m", "benchmarks.workers.predict", str(classifier(options))]
        ours += ["--texts", str(folder / "texts.json"), "--input", str(folder / "texts.txt")]
        peer = self._peer(folder, options)
        rounds = ["--rounds", "1"]
        theirs = (
            Way(PEER, precision, [*peer, precision, *rounds])
            for precision in ("bfloat16", "float32")
        )
        return [Way(OURS, "auto", [*ours, *rounds]), *theirs]

    def floor(self, results, ceilings):
        ours = results.best(OURS, self.figure, self.more_is_better)
        tokens, squared = (ours.median(name) for name in ("tokens", "squared_lengths"))
        operations = 2 * encoder_weights(self._config) * tokens
        operations += attention_operations(self._config, squared)
        seconds = operations / ceilings["bfloat16"]
        taken = results.work["texts"] / ours.median(self.figure)
        return {
            "seconds": seconds,
            "share": seconds / taken,
            "how": f"{operations / 1e12:.1f} trillion operations of the layers on real tokens, "
            "at the measured rate of bfloat16",
        }

    def _peer(self, folder: Path, options: SuiteOptions) -> list[str]:
        """The peer's command, up to its precision."""
        command = [options.peer_python, str(PEERS / "huggingface_classify.py")]
        command += ["--model", str(folder / "model"), "--texts", str(folder / "texts.json")]
        return [*command, "--precision"]


CASE = Predict()
