"""Checks an exported folder with transformers, and prints what it found as one JSON object.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python check_transformers_export.py FOLDER EXPECTED.npz

`benchmarks/transformers_export.py` writes both. Every warning is an error, also those that
transformers logs.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np

# Before torch and transformers are imported, which warn of what they import themselves.
import torch
import transformers

ROWS_AT_ONCE = 32


class Refusing(logging.Handler):
    """Raises what transformers logs."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(f"transformers warns: {record.getMessage()}")


def main(folder: str, expected: str) -> None:
    warnings.simplefilter("error")
    transformers.logging.disable_progress_bar()
    logger = logging.getLogger("transformers")
    logger.addHandler(Refusing(logging.WARNING))
    facts = dict(np.load(expected))
    texts = [str(text) for text in facts["texts"]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = {
        "transformers": transformers.__version__,
        "rows": len(texts),
        "rows_with_the_same_ids": same_ids(tokenizer, texts, facts),
    }
    config = json.loads((Path(folder) / "config.json").read_text())
    if config["architectures"][0].endswith("ForSequenceClassification"):
        found.update(check_classifier(folder, tokenizer, texts, facts))
    else:
        found.update(check_language_model(folder, tokenizer, texts, facts))
    print(json.dumps({**found, "warnings": 0}))


def same_ids(tokenizer, texts: list[str], facts: dict) -> int:
    """Returns how many texts have the ids of kerasllm."""
    ends = np.cumsum(facts["lengths"])[:-1]
    ours = [row.tolist() for row in np.split(facts["ids"], ends)]
    theirs = tokenizer(texts, truncation=True)["input_ids"]
    return sum(a == b for a, b in zip(ours, theirs, strict=True))


def check_classifier(folder: str, tokenizer, texts: list[str], facts: dict) -> dict:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), ROWS_AT_ONCE):
            part = texts[start : start + ROWS_AT_ONCE]
            inputs = tokenizer(part, truncation=True, padding=True, return_tensors="pt")
            rows.append(model(**inputs).logits.numpy())
    theirs, ours = np.concatenate(rows), facts["logits"]
    pipeline = transformers.pipeline("text-classification", folder)
    labels = [one["label"] for one in pipeline(texts[:ROWS_AT_ONCE], truncation=True)]
    names = model.config.id2label
    return {
        "largest_difference_of_logits": float(np.abs(theirs - ours).max()),
        "rows_with_the_same_label": int((theirs.argmax(-1) == ours.argmax(-1)).sum()),
        "pipeline_gives_the_same_labels": labels
        == [names[int(row.argmax())] for row in ours[:ROWS_AT_ONCE]],
    }


def check_language_model(folder: str, tokenizer, texts: list[str], facts: dict) -> dict:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    generated = json.loads(str(facts["generated"]))
    last, same = [], 0
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    with torch.inference_mode():
        for number, text in enumerate(texts):
            inputs = tokenizer(text, truncation=True, return_tensors="pt")
            last.append(model(**inputs).logits[0, -1].numpy())
            if number < len(generated):
                limit = int(facts["new_tokens"])
                made = model.generate(**inputs, do_sample=False, max_new_tokens=limit)
                tokens = made[0, inputs["input_ids"].shape[1] :].tolist()
                ends = [at for at, token in enumerate(tokens) if token in stops]
                same += tokens[: ends[0] if ends else None] == generated[number]
    theirs, ours = np.stack(last), facts["logits"]
    found = {
        "largest_difference_of_logits": float(np.abs(theirs - ours).max()),
        "rows_with_the_same_next_token": int((theirs.argmax(-1) == ours.argmax(-1)).sum()),
        "generated_texts": len(generated),
        "generated_texts_with_the_same_tokens": same,
    }
    if "chat" in facts:
        chat = json.loads(str(facts["chat"]))
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        found["chat_template_gives_the_same_text"] = text == str(facts["chat_text"])
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
