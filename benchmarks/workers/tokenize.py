"""Tokenizes texts with kerasllm as training does, and prints one JSON object for the suite.

    python -m benchmarks.workers.tokenize --preset minilm_l6_en_uncased --texts texts.json \
        --file texts.csv --expected hashes.json
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import tempfile
import time
from pathlib import Path

import tensorflow_text
import tokenizers

from kerasllm.data.readers.sources import Source
from kerasllm.data.token_store import open_or_build
from kerasllm.data.tokenizers.from_folder import from_folder
from kerasllm.models.encoder import load_tokenizer

# No text is cut, as the peer cuts none.
UNCUT = 1 << 20
# As many rows as a source gives at once.
ROWS = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", help="of a classifier")
    parser.add_argument("--folder", help="of a language model, in Hugging Face's layout")
    parser.add_argument("--texts", type=Path, required=True, help="JSON: a list of texts")
    parser.add_argument("--file", required=True, help="the same texts, as data for training")
    parser.add_argument("--expected", type=Path, required=True, help="JSON: a hash of each row")
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    texts = json.loads(options.texts.read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(options.preset) if options.preset else from_folder(options.folder)
    tokenizer.encode(texts[:256], UNCUT)
    started = time.perf_counter()
    batches = [
        tokenizer.encode(texts[start : start + ROWS], UNCUT) for start in range(0, len(texts), ROWS)
    ]
    seconds = time.perf_counter() - started
    rows = [
        hashlib.md5(ids[start:end].astype("<i4").tobytes()).hexdigest()
        for ids, offsets in batches
        for start, end in itertools.pairwise(offsets)
    ]
    expected = json.loads(options.expected.read_text(encoding="utf-8"))
    size = sum(len(text.encode()) for text in texts)
    return {
        "mb_per_second": size / seconds / 1e6,
        "seconds": seconds,
        "store_mb_per_second": size / store_seconds(options.file, tokenizer) / 1e6,
        "work": {
            "texts": len(texts),
            "bytes": size,
            "tokens": sum(len(ids) for ids, _ in batches),
        },
        "quality": {"equal_rows": sum(map(str.__eq__, rows, expected)) / len(texts)},
        "versions": {
            "tensorflow-text": tensorflow_text.__version__,
            "tokenizers": tokenizers.__version__,
        },
    }


def store_seconds(file: str, tokenizer) -> float:
    """Returns what a training waits for: the file is read, tokenized, written and opened."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        open_or_build(Source(file, labelled=False), tokenizer, UNCUT, folder=folder)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
