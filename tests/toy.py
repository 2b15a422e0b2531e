"""A toy encoder preset and toy reviews that it can learn, for tests of whole commands."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

_FILLER = "the a film story plot actor scene music very quite it was is and of with".split()
_TELLING = {
    "negative": "dull bad awful weak".split(),
    "positive": "good great bright strong".split(),
    "mixed": "uneven mixed".split(),
}


def save_toy_preset(folder: Path, hidden_dim: int = 32, num_layers: int = 2) -> Path:
    """Writes a small BERT with random weights and a vocabulary of whole words."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(3)
    words = [*_FILLER, *(word for words in _TELLING.values() for word in words), ".", "!"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=num_layers,
        num_heads=2,
        hidden_dim=hidden_dim,
        intermediate_dim=2 * hidden_dim,
        max_sequence_length=64,
    )
    # Words that differ from the start, as in a pretrained model: it learns in a few steps.
    embeddings = backbone.token_embedding.embeddings
    embeddings.assign(np.random.default_rng(3).normal(0, 1, embeddings.shape))
    backbone.save_to_preset(str(folder))
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=vocabulary, lowercase=True)
    tokenizer.save_to_preset(str(folder))
    return Path(folder)


def toy_rows(count: int, labels: tuple[str, ...] = ("negative", "positive"), seed: int = 0) -> list:
    """Returns `(text, label)` rows; three words of a text tell its label."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = labels[number % len(labels)]
        words = list(random.choice(_FILLER, random.integers(2, 20)))
        for _ in range(3):
            words.insert(random.integers(len(words) + 1), random.choice(_TELLING[label]))
        rows.append((" ".join(words) + " .", label))
    return rows


def write_csv(path: Path, rows: list, header: tuple[str, str] = ("text", "label")) -> Path:
    """Writes rows as a csv file with a header."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path
