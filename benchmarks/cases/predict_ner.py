"""Entities in 4,000 posts by a trained tagger, against a pipeline of transformers.

Both get the texts in the order of the files. Loading and a first round are not counted. What both
find is compared with what transformers finds in float32.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import sys
from pathlib import Path

from benchmarks.inputs import KERASLLM
from benchmarks.measure import run_measured
from benchmarks.suite import OURS, PEERS, Case, SuiteOptions, Target, Way
from kerasllm.data.starters import find_starter

PEER = "transformers"
ROWS = 4000
STEPS = 150


class PredictNer(Case):
    name = "predict_ner"
    description = "finds the entities of 4,000 posts"
    figure = "rows_per_second"
    unit = "texts/s"
    more_is_better = True
    targets = (Target("rows_per_second", PEER, 1.5),)
    recipe = "ner"
    key = "spans"
    script = "huggingface_tag_texts.py"

    def rows(self) -> list:
        """Returns what is predicted for."""
        texts = []
        for part in ("train", "test"):
            path = find_starter("starter:entities", part)[1]
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                # What separates sentences may hold a tab.
                for blank, group in itertools.groupby(lines, lambda line: not line.strip()):
                    if not blank:
                        texts.append(" ".join(line.split("\t")[0].strip() for line in group))
        return texts

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        steps = 4 if options.quick else STEPS
        train = [*KERASLLM, "finetune", "--recipe", self.recipe, "--output", str(folder / "run")]
        run_measured([*train, "--set", f"training.max_steps={steps}"])
        export = [*KERASLLM, "export", str(folder / "run"), "--rows", "32"]
        run_measured([*export, "--format", "transformers", "--output", str(folder / "model")])
        rows = self.rows()
        random.Random(0).shuffle(rows)
        rows = rows[: 64 if options.quick else ROWS]
        path = folder / "rows.json"
        path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
        found = folder / "found.json"
        run_measured(
            [*self._peer(folder, options), "float32", "--rounds", "0", "--found", str(found)]
        )
        expected = json.loads(found.read_text(encoding="utf-8"))
        path.write_text(json.dumps({"rows": rows, "expected": expected}), encoding="utf-8")

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        ours = [sys.executable, "-m", "benchmarks.workers.predict_rows", str(folder / "run")]
        ours += ["--rows", str(folder / "rows.json"), "--key", self.key]
        peer = self._peer(folder, options)
        theirs = (Way(PEER, precision, [*peer, precision]) for precision in ("bfloat16", "float32"))
        return [Way(OURS, "auto", ours), *theirs]

    def _peer(self, folder: Path, options: SuiteOptions) -> list[str]:
        """The peer's command, up to its precision."""
        command = [options.peer_python, str(PEERS / self.script)]
        command += ["--model", str(folder / "model"), "--rows", str(folder / "rows.json")]
        return [*command, "--precision"]


CASE = PredictNer()
