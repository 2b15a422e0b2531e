"""Toy texts whose words follow from the words around them: a new BERT, and a toy preset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.tasks.toy_task import Toy

# In every text a word is told by the one before it.
_PAIRS = {"film": "great", "actor": "weak", "story": "dull", "music": "bright", "plot": "awful"}


def write_texts(file: Path, count: int, seed: int = 0) -> str:
    """Writes a csv of texts, some of which are longer than a row."""
    random = np.random.default_rng(seed)
    lines = ["text"]
    for number in range(count):
        sentences = []
        for _ in range(12 if number % 8 == 0 else random.integers(1, 4)):
            kind = str(random.choice(list(_PAIRS)))
            sentences.append(f"the {kind} is {_PAIRS[kind]} .")
        lines.append(" ".join(sentences))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def _toy(folder: Path, recipe: str, **more) -> Toy:
    return Toy(
        recipe,
        {
            "model.dropout": 0.0,
            "data.train": write_texts(folder / "train.csv", 160),
            "data.test": write_texts(folder / "test.csv", 24, seed=1),
            "data.leaks": "ignore",
            "data.max_length": 24,
            "data.buckets": 1,
            "training.epochs": 6,
            "training.batch_size": 16,
            "training.learning_rate": 0.005,
            **more,
        },
        inputs=["the film is [MASK] .", "[MASK] story is [MASK] . " * 12, "a [MASK]"],
        falls=0.8,
        refuses=frozenset({"keras", "keras_hub"}),
    )


def continued(folder: Path, preset: Path) -> Toy:
    """A toy encoder continues, with whole words hidden."""
    return _toy(folder, "mlm", **{"model.preset": str(preset), "data.masking": "whole_words"})


def from_scratch(folder: Path, preset: Path) -> Toy:
    """A new BERT with its own tokenizer, which learns the order of texts besides."""
    sizes = {"layers": 1, "heads": 2, "width": 32, "feedforward": 64, "sentence_task": "order"}
    more = {f"model.{name}": value for name, value in sizes.items()}
    return _toy(folder, "mlm_scratch", **more, **{"data.vocabulary_size": 60})


VARIANTS = {"continued": continued, "from scratch": from_scratch}
