"""Writes tiny classifiers of transformers with what they compute, to check what kerasllm exports.

Run with Python that has torch and transformers, which the project itself never needs:

    python tests/reference/make_classifiers.py

Each folder under `classifiers/` holds a random classifier as transformers saves it, with label
names, and `expected.npz`: texts, their ids, and transformers' logits in float32.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from make_encoders import (
    WORD_PIECES,
    albert_tokenizer,
    roberta_tokenizer,
    xlm_roberta_tokenizer,
)

HERE = Path(__file__).parent / "classifiers"
TEXTS = ["the cafe was very good .", "films, badly dull", "a b zzz the", "good"]
LABELS = {0: "bad", 1: "so-so", 2: "très bien"}
SHARED = {
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "id2label": LABELS,
    "label2id": {name: number for number, name in LABELS.items()},
    "problem_type": "single_label_classification",
}
SIZES = {
    **SHARED,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "classifier_dropout": 0.3,
}
# KerasHub's GELU of BERT and ALBERT.
TANH = {"hidden_act": "gelu_pytorch_tanh"}
ROBERTA = {
    **SIZES,
    "max_position_embeddings": 42,
    "layer_norm_eps": 1e-5,
    "type_vocab_size": 1,
}


def main() -> None:
    torch.manual_seed(0)
    word_pieces = {token: number for number, token in enumerate(WORD_PIECES)}
    bert_tokenizer = hf.BertTokenizer(vocab=word_pieces, do_lower_case=True)
    write("bert", hf.BertForSequenceClassification(hf.BertConfig(**SIZES, **TANH)), bert_tokenizer)
    distilbert = hf.DistilBertConfig(
        **SHARED, dim=16, n_layers=2, n_heads=2, hidden_dim=24, seq_classif_dropout=0.3
    )
    tokenizer = hf.DistilBertTokenizer(vocab=word_pieces, do_lower_case=True)
    write("distilbert", hf.DistilBertForSequenceClassification(distilbert), tokenizer)
    roberta = hf.RobertaForSequenceClassification(hf.RobertaConfig(**ROBERTA))
    write("roberta", roberta, roberta_tokenizer())
    xlm_roberta = hf.XLMRobertaForSequenceClassification(hf.XLMRobertaConfig(**ROBERTA))
    write("xlm_roberta", xlm_roberta, xlm_roberta_tokenizer())
    albert = hf.AlbertConfig(
        **{**SIZES, "num_hidden_layers": 4, **TANH},
        embedding_size=8,
        num_hidden_groups=2,
        inner_group_num=1,
        classifier_dropout_prob=0.3,
    )
    write("albert", hf.AlbertForSequenceClassification(albert), albert_tokenizer())


def write(name: str, model: torch.nn.Module, tokenizer) -> None:
    """Writes one model with random weights everywhere, its tokenizer, and what both compute."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            scale = "norm" in key.lower() and key.endswith("weight")
            parameter.normal_(1.0 if scale else 0.0, 0.15)
        if hasattr(model, "roberta"):
            # KerasHub has no room for them: positions of padding, and the only token type.
            model.roberta.embeddings.position_embeddings.weight[:2] = 0
            model.roberta.embeddings.token_type_embeddings.weight[:] = 0
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    width = max(map(len, ids))
    np.savez_compressed(
        folder / "expected.npz",
        texts=np.array(TEXTS),
        ids=np.array([row + [-1] * (width - len(row)) for row in ids], "int32"),
        logits=logits.numpy(),
    )
    print(name, sorted(path.name for path in folder.iterdir()))


if __name__ == "__main__":
    main()
