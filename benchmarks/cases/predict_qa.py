"""Answers to 2,000 questions, against batches of transformers, which has no pipeline for it.

As `predict_ner`.
"""

from __future__ import annotations

import gzip
import json

from benchmarks.cases.predict_ner import PredictNer
from kerasllm.data.starters import find_starter

ROWS = 2000


class PredictQa(PredictNer):
    name = "predict_qa"
    description = "answers 2,000 questions in their contexts"
    unit = "questions/s"
    recipe = "qa"
    key = "answer"
    script = "huggingface_answer.py"

    def rows(self) -> list:
        path = find_starter("starter:questions", "test")[1]
        with gzip.open(path, "rt", encoding="utf-8") as file:
            articles = json.load(file)["data"]
        pairs = [
            (one["question"], paragraph["context"])
            for article in articles
            for paragraph in article["paragraphs"]
            for one in paragraph["qas"]
        ]
        return pairs[:ROWS]


CASE = PredictQa()
