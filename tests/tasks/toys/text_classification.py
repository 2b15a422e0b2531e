"""Toy reviews: one label, a pair of texts, several labels, or a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.tasks.toy_task import Toy
from tests.toy import toy_rows, write_csv

_LABELS = ("negative", "positive", "mixed")
# Of the vocabulary of the toy preset.
_WORDS = {"negative": "dull awful", "positive": "good bright", "mixed": "uneven"}


def single_label(folder: Path, preset: Path) -> Toy:
    """One label of a text."""
    rows = [toy_rows(192, _LABELS), toy_rows(24, _LABELS, seed=1)]
    return _toy("bert_cls", folder, preset, rows, ("text", "label"))


def pair(folder: Path, preset: Path) -> Toy:
    """Whether the second text has a word that the first one tells."""
    rows = []
    for seed, count in enumerate((192, 24)):
        texts = toy_rows(count, ("negative", "positive"), seed=seed)
        rows.append([("the film .", text, label) for text, label in texts])
    return _toy("pair_cls", folder, preset, rows, ("text", "text_pair", "label"))


def several_labels(folder: Path, preset: Path) -> Toy:
    """One to three labels."""
    return _toy(
        "multi_label_cls",
        folder,
        preset,
        [_sets(192, 0), _sets(24, 1)],
        ("text", "labels"),
        **{"data.label_separator": "|"},
    )


def score(folder: Path, preset: Path) -> Toy:
    """The number of good words of four."""
    rows = []
    for seed, count in enumerate((96, 24)):
        random = np.random.default_rng(seed)
        points = random.integers(0, 5, count)
        texts = [["good"] * one + ["bad"] * (4 - one) for one in points]
        rows.append(
            [(" ".join(random.permutation(text)), one / 4) for text, one in zip(texts, points)]
        )
    return _toy("text_regression", folder, preset, rows, ("text", "score"))


def _toy(recipe, folder: Path, preset: Path, rows, header, **settings) -> Toy:
    train, test = (
        write_csv(folder / f"{name}.csv", some, header)
        for name, some in zip(("train", "test"), rows)
    )
    texts = [row[:-1] if len(row) > 2 else row[0] for row in rows[1][:5]]
    return Toy(
        recipe,
        {
            "model.preset": str(preset),
            "model.dropout": 0.0,
            "data.train": str(train),
            "data.test": str(test),
            # There are few different ones.
            "data.leaks": "warn",
            "data.max_length": 32,
            "data.buckets": 1,
            "training.epochs": 6,
            "training.batch_size": 16,
            "training.learning_rate": 0.005,
            **settings,
        },
        inputs=texts,
    )


def _sets(count: int, seed: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        labels = [label for bit, label in enumerate(_LABELS) if (1 + number % 7) >> bit & 1]
        words = ["the", "film", "was"] + " ".join(_WORDS[label] for label in labels).split()
        rows.append((" ".join(random.permutation(words)), "|".join(labels)))
    return rows


VARIANTS = {
    "single label": single_label,
    "pair": pair,
    "several labels": several_labels,
    "score": score,
}
