"""Tokenizing with byte-level BPE, SmolLM2's, against Hugging Face; see `tokenize_word_piece`."""

from __future__ import annotations

import re

from benchmarks.cases.tokenize_word_piece import PEER, Tokenize
from benchmarks.inputs import language_model, make_language_model
from benchmarks.suite import AtLeast, Target
from kerasllm.data.starters import find_starter


class BytePairs(Tokenize):
    name = "tokenize_bpe"
    description = "tokenizes Moby Dick, by paragraphs, with SmolLM2's byte-level BPE"
    targets = (Target("mb_per_second", PEER, 1.0), AtLeast("equal_rows", 1.0))

    def prepare(self, folder, options):
        make_language_model(options)
        super().prepare(folder, options)

    def texts(self, options):
        book = find_starter("starter:moby_dick", "train")[1].read_text(encoding="utf-8")
        return [text for text in re.split(r"\n\s*\n", book) if text.strip()]

    def tokenizer(self, options):
        folder = language_model(options)
        return folder / "tokenizer.json", ["--folder", str(folder)]


CASE = BytePairs()
