"""Toy translations: words of one language are words of another, the last one first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.tasks.toy_task import Toy

_WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}


def new_model(folder: Path, preset: Path | None) -> Toy:
    """A model from scratch, with a tokenizer of its own, on two text files."""
    files = {}
    for seed, (part, count) in enumerate((("train", 192), ("test", 12))):
        random = np.random.default_rng(seed)
        rows = [list(random.choice([*_WORDS], random.integers(1, 5))) for _ in range(count)]
        pairs = [(" ".join(row), " ".join(_WORDS[word] for word in reversed(row))) for row in rows]
        files[part] = []
        for side, suffix in enumerate(("en", "de")):
            file = folder / f"{part}.{suffix}"
            file.write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
            files[part].append(str(file))
    return Toy(
        "translate",
        {
            "model.layers": 1,
            "model.width": 32,
            "model.heads": 2,
            "model.dropout": 0.0,
            "data.train": files["train"],
            "data.test": files["test"],
            "data.leaks": "ignore",
            "data.vocabulary_size": 300,
            "data.max_length": 24,
            "data.max_target_length": 24,
            "data.buckets": 1,
            "training.epochs": 4,
            "training.batch_size": 32,
            "training.learning_rate": 0.02,
            "training.warmup": 0.1,
            "generation.beams": 2,
            "generation.max_new_tokens": 12,
        },
        inputs=["one two three", "five", "two \U0001f3d9\r\nfour", "?", "one " * 60],
        refuses=frozenset({"litert", "onnx", "keras", "keras_hub"}),
    )


VARIANTS = {"new model": new_model}
