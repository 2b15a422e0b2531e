"""Writes tiny masked language models of transformers with what they compute, to check kerasllm's.

Run with Python that has torch and transformers, which the project itself never needs:

    python tests/reference/make_masked_lms.py

Each folder under `masked_lms/` holds a random model as transformers saves it, and `expected.npz`:
texts, their ids, and transformers' logits of all tokens in float32.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from make_classifiers import TANH, TEXTS
from make_encoders import (
    WORD_PIECES,
    albert_tokenizer,
    roberta_tokenizer,
    xlm_roberta_tokenizer,
)

HERE = Path(__file__).parent / "masked_lms"
SHARED = {"vocab_size": 60, "max_position_embeddings": 40}
SIZES = {
    **SHARED,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
}
ROBERTA = {**SIZES, "max_position_embeddings": 42, "layer_norm_eps": 1e-5, "type_vocab_size": 1}


def main() -> None:
    torch.manual_seed(0)
    word_pieces = {token: number for number, token in enumerate(WORD_PIECES)}
    bert_tokenizer = hf.BertTokenizer(vocab=word_pieces, do_lower_case=True)
    config = hf.BertConfig(**SIZES, **TANH)
    write("bert", hf.BertForMaskedLM(config), bert_tokenizer)
    write("bert_with_pairs", hf.BertForPreTraining(config), bert_tokenizer)
    distilbert = hf.DistilBertConfig(**SHARED, dim=8, n_layers=2, n_heads=2, hidden_dim=12)
    tokenizer = hf.DistilBertTokenizer(vocab=word_pieces, do_lower_case=True)
    write("distilbert", hf.DistilBertForMaskedLM(distilbert), tokenizer)
    write("roberta", hf.RobertaForMaskedLM(hf.RobertaConfig(**ROBERTA)), roberta_tokenizer())
    xlm_roberta = hf.XLMRobertaForMaskedLM(hf.XLMRobertaConfig(**ROBERTA))
    write("xlm_roberta", xlm_roberta, xlm_roberta_tokenizer())
    albert = hf.AlbertConfig(
        **{**SIZES, "num_hidden_layers": 4, **TANH},
        embedding_size=6,
        num_hidden_groups=2,
        inner_group_num=1,
    )
    write("albert", hf.AlbertForMaskedLM(albert), albert_tokenizer())


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
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs)
    pairs = getattr(found, "seq_relationship_logits", None)
    np.savez_compressed(
        folder / "expected.npz",
        texts=np.array(TEXTS),
        ids=inputs["input_ids"].numpy().astype("int32"),
        mask=inputs["attention_mask"].numpy().astype("int32"),
        logits=(found.logits if pairs is None else found.prediction_logits).numpy(),
        **({} if pairs is None else {"pairs": pairs.numpy()}),
    )
    print(name, sorted(path.name for path in folder.iterdir()))


if __name__ == "__main__":
    main()
