"""Makes the bundled data that is taken from public data sets.

    python -m tests.reference.make_starters FOLDER

FOLDER holds `stsb/stsb-en-train.csv.gz`, `stsb/stsb-en-dev.csv.gz` (PhilipMay/stsb-multi-mt) and
`goemotions/{train,test}.tsv.gz`, `goemotions/labels.txt` (monologg/GoEmotions-pytorch).
`kerasllm/data/starter/NOTICE.md` describes what comes out.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import kerasllm
from kerasllm.data.label_cells import label_text
from kerasllm.data.label_names import read_label_names
from kerasllm.data.readers.sources import Source

STARTER = Path(kerasllm.__file__).parent / "data" / "starter"

SAME, DIFFERENT = 4.0, 2.0
"""A pair whose score is at least the first is a paraphrase, one at most the second is none."""

EMOTION_ROWS = 10_000
"""Rows of GoEmotions that are trained on, of 12,000."""


def similarity(folder: Path) -> dict[str, list[tuple]]:
    """Pairs of sentences and their score; a pair of the test part is not in the training part."""
    parts = {}
    for part, name in (("test", "dev"), ("train", "train")):
        file = str(folder / "stsb" / f"stsb-en-{name}.csv.gz")
        source = Source(file, text="0", text_pair="1", label="2", problem="regression")
        parts[part] = [
            row
            for batch in source.batches()
            for row in zip(batch.texts, batch.pairs, batch.targets, strict=True)
        ]
    held_out = {_key(row) for row in parts["test"]}
    parts["train"] = [row for row in parts["train"] if _key(row) not in held_out]
    return {
        part: [(a, b, f"{label_text(score)}") for a, b, score in rows]
        for part, rows in parts.items()
    }


def paraphrases(pairs: dict[str, list[tuple]]) -> dict[str, list[tuple]]:
    """Pairs that mean the same, and pairs that do not; those between the two are left out."""
    return {
        part: [
            (first, second, "same" if float(score) >= SAME else "different")
            for first, second, score in rows
            if not DIFFERENT < float(score) < SAME
        ]
        for part, rows in pairs.items()
    }


def emotions(folder: Path) -> dict[str, list[tuple]]:
    """Comments and the names of their emotions; a text of the test part is not in training."""
    names = read_label_names(folder / "goemotions" / "labels.txt")
    parts = {}
    for part in ("test", "train"):
        source = Source(
            str(folder / "goemotions" / f"{part}.tsv.gz"),
            text="0",
            label="1",
            problem="multi_label",
            label_separator=",",
        )
        parts[part] = [
            (text.strip(), "|".join(names[int(label)] for label in labels))
            for batch in source.batches()
            for text, labels in zip(batch.texts, batch.targets, strict=True)
        ]
    held_out = {text for text, _ in parts["test"]}
    train = [row for row in parts["train"] if row[0] not in held_out]
    chosen = set(sorted(train, key=_digest)[:EMOTION_ROWS])
    return {"train": [row for row in train if row in chosen], "test": parts["test"]}


def _key(row: Sequence) -> frozenset[str]:
    return frozenset(" ".join(text.lower().split()) for text in row[:2])


def _digest(row: Sequence[str]) -> str:
    return hashlib.sha256("\t".join(row).encode()).hexdigest()


def packed(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A csv file, compressed, the same bytes each time."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode(), 9, mtime=0)


def main(folder: Path) -> None:
    """Writes all files."""
    pairs = similarity(folder)
    for name, header, parts in (
        ("sentence_similarity", ("sentence1", "sentence2", "score"), pairs),
        ("paraphrases", ("sentence1", "sentence2", "label"), paraphrases(pairs)),
        ("emotions", ("text", "labels"), emotions(folder)),
    ):
        for part, rows in parts.items():
            path = STARTER / f"{name}_{part}.csv.gz"
            path.write_bytes(packed(header, rows))
            print(f"{path.name}: {len(rows):,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
