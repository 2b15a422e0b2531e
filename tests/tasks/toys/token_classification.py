"""Toy sentences: entities of two types, or a tag for each word."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.tasks.toy_task import Toy

# Of the vocabulary of the toy preset.
_WORDS = {
    "film": ["B-thing"],
    "dull actor": ["B-person", "I-person"],
    "great": ["O"],
    "the": ["O"],
    "was": ["O"],
    "bright scene": ["B-thing", "I-thing"],
}


def entities(folder: Path, preset: Path) -> Toy:
    """Entities, in sentences of which some are longer than a window."""
    return _toy("ner", folder, preset, lambda word, tag: f"{word}\t{tag}", "\n", "\n\n", ".conll")


def plain_tags(folder: Path, preset: Path) -> Toy:
    """A tag for each word, as word/tag."""
    return _toy(
        "pos",
        folder,
        preset,
        lambda word, tag: f"{word}/{tag.strip('BIO-') or 'x'}",
        " ",
        "\n",
        ".txt",
    )


def _toy(recipe, folder: Path, preset: Path, shown, between, after, suffix) -> Toy:
    files = []
    for seed, (name, count) in enumerate((("train", 160), ("test", 24))):
        random = np.random.default_rng(seed)
        lines = []
        for number in range(count):
            pieces = random.choice(list(_WORDS), 20 if number % 8 == 0 else random.integers(2, 7))
            words = [
                shown(*pair)
                for piece in pieces
                for pair in zip(piece.split(), _WORDS[str(piece)], strict=True)
            ]
            lines.append(between.join(words))
        file = folder / f"{name}{suffix}"
        file.write_text(after.join(lines) + "\n", encoding="utf-8")
        files.append(str(file))
    return Toy(
        recipe,
        {
            "model.preset": str(preset),
            "model.dropout": 0.0,
            "data.train": files[0],
            "data.test": files[1],
            "data.leaks": "warn",
            "data.max_length": 16,
            "data.buckets": 1,
            "training.epochs": 4,
            "training.batch_size": 16,
            "training.learning_rate": 0.005,
        },
        inputs=["The dull actor was great!", "a film\r\n", "x" * 40, "the film " * 30],
        refuses=frozenset({"keras", "keras_hub"}),
    )


VARIANTS = {"entities": entities, "plain tags": plain_tags}
