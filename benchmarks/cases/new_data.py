"""Data that kerasllm has never seen, with what XLA compiled for another file: as users have them.

5,000 texts of one to three movie reviews with the same label, so that their lengths are others than
those of `bert_cls`, whose run made the cache that each turn begins with a copy of.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

from benchmarks.cases import bert_cls
from benchmarks.inputs import KERASLLM, movie_reviews
from benchmarks.measure import run_measured
from benchmarks.runner import empty
from benchmarks.suite import OURS, REPEAT, Case, NotBelow, SuiteOptions, Target, Way

PEER = bert_cls.PEER
ROWS = {"train": 5000, "test": 1000}
_MOST_REVIEWS = 3


class NewData(Case):
    name = "new_data"
    description = "fine-tunes MiniLM-L6 on 5,000 new rows, after bert_cls"
    targets = (Target("seconds", PEER, 1.4), NotBelow("accuracy", PEER, 0.005))

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        for part, rows in ROWS.items():
            rows = bert_cls.QUICK_ROWS if options.quick else rows
            self._write(self._file(folder, part), movie_reviews(part, options), rows)
        empty(folder / "cache")
        env = {"KERASLLM_CACHE": str(folder / "cache")}
        arguments = bert_cls.recipe_arguments(options, bert_cls.rows(options))
        run = ["--output", str(folder / "run")]
        run_measured([*KERASLLM, "finetune", *arguments, "--seed", "100", *run], env=env)
        run_measured(self._peer(folder, options, "0"))

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        worker = [sys.executable, "-m", "benchmarks.workers.finetune"]
        worker += ["--cache", str(folder / "cache"), "--recipe", "bert_cls", "--seed", REPEAT]
        for override in bert_cls.OVERRIDES:
            worker += ["--set", override]
        for part in ROWS:
            worker += [f"--{part}", str(self._file(folder, part))]
        peer = self._peer(folder, options, REPEAT)
        return [Way(OURS, "auto", worker), Way(PEER, bert_cls.peer_precision(), peer)]

    def _peer(self, folder: Path, options: SuiteOptions, seed: str) -> list[str]:
        command = bert_cls.peer_command(options, None, seed)
        for part in ROWS:
            command[command.index(f"--{part}") + 1] = str(self._file(folder, part))
        return command

    @staticmethod
    def _file(folder: Path, part: str) -> Path:
        return folder / f"{part}.csv"

    @staticmethod
    def _write(path: Path, reviews: Path, rows: int) -> None:
        with open(reviews, encoding="utf-8", newline="") as file:
            header, *found = csv.reader(file)
        text, label = header.index("text"), header.index("label")
        of_label: dict[str, list[str]] = {}
        for row in found:
            of_label.setdefault(row[label], []).append(row[text])
        drawn = random.Random(0)
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for number in range(rows):
                name = sorted(of_label)[number % len(of_label)]
                parts = drawn.sample(of_label[name], drawn.randint(1, _MOST_REVIEWS))
                writer.writerow([" ".join(parts), name])


CASE = NewData()
