"""Tokenizes texts with Hugging Face's `tokenizers` on all cores, and prints one JSON object.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python huggingface_tokenize.py --tokenizer tokenizer.json --texts texts.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "true"

import tokenizers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
    parser.add_argument("--texts", type=Path, required=True, help="JSON: a list of texts")
    parser.add_argument("--method", choices=["encode_batch", "encode_batch_fast"])
    parser.add_argument("--save", type=Path, help="only write a hash of each row's ids there")
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    texts = json.loads(options.texts.read_text(encoding="utf-8"))
    engine = tokenizers.Tokenizer.from_file(options.tokenizer)
    engine.no_truncation()
    engine.no_padding()
    encode = getattr(engine, options.method or "encode_batch")
    encode(texts[:256])
    started = time.perf_counter()
    rows = [encoding.ids for encoding in encode(texts)]
    seconds = time.perf_counter() - started
    if options.save:
        options.save.write_text(json.dumps([hash_of(row) for row in rows]), encoding="utf-8")
        return {}
    size = sum(len(text.encode()) for text in texts)
    return {
        "mb_per_second": size / seconds / 1e6,
        "seconds": seconds,
        "work": {"texts": len(texts), "bytes": size, "tokens": sum(map(len, rows))},
        "versions": {"tokenizers": tokenizers.__version__},
    }


def hash_of(row: list[int]) -> str:
    return hashlib.md5(b"".join(token.to_bytes(4, "little") for token in row)).hexdigest()


if __name__ == "__main__":
    main()
