"""Answers that begin with one word against answers that do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.tasks.toy_task import Toy
from tests.toy_language_model import write_chats

_WORDS = "the sea is a wide and cold thing of ships".split()


def pairs(folder: Path, preset: Path) -> Toy:
    """An adapter learns which answers to prefer."""
    return Toy(
        "gpt_dpo",
        {
            "model.preset": str(preset),
            "data.train": str(_write(folder / "train.jsonl", 40)),
            "data.test": str(_write(folder / "test.jsonl", 8)),
            # There are few different ones.
            "data.leaks": "warn",
            "data.chat_template": "plain",
            "data.max_length": 32,
            "data.buckets": 1,
            "training.epochs": 3,
            "training.beta": 0.5,
            "training.learning_rate": 0.01,
        },
        falls=0.8,
        # What a tuned model is measured on afterwards: it is a language model then.
        data=str(write_chats(folder / "chats.jsonl", 8)),
        measures_test=False,
    )


def _write(path: Path, count: int) -> Path:
    random = np.random.default_rng(count)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            said = [" ".join(random.choice(_WORDS, 2)) for _ in range(2)]
            row = {"prompt": "The sea?", "chosen": f"Aye {said[0]}", "rejected": said[1]}
            file.write(json.dumps(row) + "\n")
    return path


VARIANTS = {"pairs": pairs}
