"""Writes what captum attributes to the tokens of tiny models of transformers.

Run with Python that has torch, transformers and captum, which the project itself never needs:

    python tests/reference/make_explained.py

`explained.json` has for each model of `classifiers/` and some of `decoders/` the texts, their ids
and the integrated gradients of each token: of the logit of the class 1, or of the most likely next
token, with the baseline `[MASK]` (of decoders: token 0) for all but the special tokens.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers as hf
from captum.attr import LayerIntegratedGradients

HERE = Path(__file__).parent
TEXTS = ["the cafe was very good .", "films, badly dull", "good"]
CLASSIFIERS = ("albert", "bert", "distilbert", "roberta", "xlm_roberta")
DECODERS = ("gpt2", "llama", "qwen2")
STEPS = 400


def main() -> None:
    found = {}
    for name in CLASSIFIERS:
        folder = HERE / "classifiers" / name
        model = hf.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        rows = [tokenizer(text)["input_ids"] for text in TEXTS]
        baselines = [
            [each if each in special else tokenizer.mask_token_id for each in ids] for ids in rows
        ]
        found[name] = attributed(model, rows, baselines, lambda ids: model(ids).logits[:, 1])
    for name in DECODERS:
        folder = HERE / "decoders" / name
        model = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
        rows = [[5, 9, 14, 30, 7], [21, 3]]
        baselines = [[0] * len(ids) for ids in rows]

        def value(ids, model=model):
            logits = model(ids).logits[:, -1]
            return logits[:, 11]

        found[name] = attributed(model, rows, baselines, value)
    file = HERE / "explained.json"
    file.write_text(json.dumps(found) + "\n", encoding="utf-8")


def attributed(model: torch.nn.Module, rows: list, baselines: list, value) -> list[dict]:
    """Returns for each row its ids and the attribution of each token."""
    method = LayerIntegratedGradients(value, model.get_input_embeddings())
    found = []
    for ids, baseline in zip(rows, baselines, strict=True):
        scores = method.attribute(
            torch.tensor([ids]),
            torch.tensor([baseline]),
            n_steps=STEPS,
            method="gausslegendre",
            internal_batch_size=64,
        )
        found.append(
            {"ids": ids, "baseline": baseline, "scores": scores[0].sum(-1).double().tolist()}
        )
    return found


if __name__ == "__main__":
    main()
