"""Tokenizing with WordPiece, as a file to train on is tokenized, against Hugging Face.

Both turn the same reviews, in memory, into rows of ids on all cores; each row's ids are compared.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from benchmarks.inputs import movie_reviews
from benchmarks.measure import run_measured
from benchmarks.suite import OURS, PEERS, AtLeast, Case, SuiteOptions, Target, Way
from kerasllm import recipe as recipes
from kerasllm.models.presets import resolve

PEER = "tokenizers"
# So that a side works for some seconds.
TIMES = 16


class Tokenize(Case):
    """What both kinds of tokenizers have in common."""

    figure = "mb_per_second"
    unit = "MB/s"
    more_is_better = True

    def texts(self, options: SuiteOptions) -> list[str]:
        """Returns the texts, without repetitions."""
        raise NotImplementedError

    def tokenizer(self, options: SuiteOptions) -> tuple[Path, list[str]]:
        """Returns the peer's `tokenizer.json`, and what names the tokenizer for kerasllm."""
        raise NotImplementedError

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        texts = self.texts(options)
        texts = texts[:64] if options.quick else texts * TIMES
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        with open(folder / "texts.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in texts)])
        run_measured([*self._peer(folder, options), "--save", str(folder / "expected.json")])

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        ours = [sys.executable, "-m", "benchmarks.workers.tokenize", *self.tokenizer(options)[1]]
        ours += ["--texts", str(folder / "texts.json"), "--file", str(folder / "texts.csv")]
        ours += ["--expected", str(folder / "expected.json")]
        peer = self._peer(folder, options)
        theirs = (
            Way(PEER, method, [*peer, "--method", method])
            for method in ("encode_batch", "encode_batch_fast")
        )
        return [Way(OURS, "encode", ours), *theirs]

    def _peer(self, folder: Path, options: SuiteOptions) -> list[str]:
        command = [options.peer_python, str(PEERS / "huggingface_tokenize.py")]
        command += ["--tokenizer", str(self.tokenizer(options)[0])]
        return [*command, "--texts", str(folder / "texts.json")]


class WordPiece(Tokenize):
    name = "tokenize_word_piece"
    description = "tokenizes movie reviews with BERT's WordPiece"
    targets = (Target("mb_per_second", PEER, 4.0), AtLeast("equal_rows", 1.0))

    def texts(self, options):
        texts = []
        for part in ("train", "test"):
            with open(movie_reviews(part, options), encoding="utf-8", newline="") as file:
                texts += [row["text"] for row in csv.DictReader(file)]
        return texts

    def tokenizer(self, options):
        preset = recipes.load("bert_cls").model.preset
        return Path(resolve(preset)) / "tokenizer.json", ["--preset", preset]


CASE = WordPiece()
