"""Runs an exported folder by transformers. A script, for a process that has no TensorFlow in it:

    python -P run_transformers.py FOLDER TEXTS.json LOGITS.npy

It needs torch and transformers, which are no dependencies of kerasllm, and nothing of kerasllm.
(`-P`, or Python would find the `transformers.py` beside this file in place of the library.)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

_ROWS_AT_ONCE = 32


def main(folder: str, texts: str, output: str) -> None:
    """Writes the logits of an exported folder for some texts."""
    rows = json.loads(Path(texts).read_text(encoding="utf-8"))
    np.save(output, logits_of(Path(folder), rows))


def logits_of(folder: Path, texts: list[str]) -> np.ndarray:
    """Returns the logits of a classifier, or those behind the last token of each text.

    Args:
        folder: An exported folder.
        texts: The texts; their ends are cut as the folder's tokenizer says.

    Returns:
        float32 `[texts, classes]` or `[texts, vocabulary]`.
    """
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder)
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    is_classifier = architecture.endswith("ForSequenceClassification")
    auto = AutoModelForSequenceClassification if is_classifier else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    # A language model may have no padding token.
    at_once = _ROWS_AT_ONCE if is_classifier else 1
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), at_once):
            inputs = tokenizer(
                texts[start : start + at_once],
                truncation=True,
                padding=is_classifier,
                return_tensors="pt",
            )
            logits = model(**inputs).logits
            found.append((logits if is_classifier else logits[:, -1]).numpy())
    return np.concatenate(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
