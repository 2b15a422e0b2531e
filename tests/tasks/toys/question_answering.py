"""Toy questions: which thing is of a kind, in contexts of which some are longer than a window."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.tasks.toy_task import Toy

# Of the vocabulary of the toy preset: the question tells the first word, the answer is two words.
_KINDS = {"film": ("great story", "dull scene"), "actor": ("bright music", "weak plot")}
_FILLER = "the a very quite it was is and of with".split()


def always_answered(folder: Path, preset: Path) -> Toy:
    """Each question has an answer, as in SQuAD 1.1."""
    return _toy(folder, preset, share_without=0.0)


def some_unanswered(folder: Path, preset: Path) -> Toy:
    """Every third question has none, as in SQuAD 2.0."""
    return _toy(folder, preset, share_without=1 / 3)


def _toy(folder: Path, preset: Path, share_without: float) -> Toy:
    files, pairs = [], []
    for seed, (name, count) in enumerate((("train", 192), ("test", 24))):
        random = np.random.default_rng(seed)
        articles = []
        for number in range(count):
            kind = ("film", "actor")[number % 2]
            words = list(random.choice(_FILLER, 40 if number % 8 == 0 else random.integers(3, 9)))
            question, answers = f"the {kind} ?", []
            if random.random() >= share_without:
                answer = str(random.choice(_KINDS[kind]))
                place = int(random.integers(len(words) + 1))
                words[place:place] = [answer]
                start = sum(len(word) + 1 for word in words[:place])
                answers = [{"text": answer, "answer_start": start}]
            context = " ".join(words) + " ."
            asked = {
                "id": f"{name}{number}",
                "question": question,
                "answers": answers,
                "is_impossible": not answers,
            }
            articles.append({"paragraphs": [{"context": context, "qas": [asked]}]})
            pairs.append((question, context))
        file = folder / f"{name}.json"
        file.write_text(json.dumps({"version": "2.0", "data": articles}), encoding="utf-8")
        files.append(str(file))
    return Toy(
        "qa",
        {
            "model.preset": str(preset),
            "model.dropout": 0.0,
            "data.train": files[0],
            "data.test": files[1],
            "data.leaks": "warn",
            "data.max_length": 24,
            "data.max_question_length": 8,
            "data.buckets": 1,
            "training.epochs": 5,
            "training.batch_size": 16,
            "training.learning_rate": 0.005,
        },
        inputs=[*pairs[-3:], ("the film ?", "great story \U0001f3d9\r\n" * 20), ("?", "x")],
        refuses=frozenset({"keras", "keras_hub"}),
    )


VARIANTS = {"always answered": always_answered, "some unanswered": some_unanswered}
