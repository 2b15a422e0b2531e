"""Writes tiny encoders of transformers with what they compute, to check KerasHub's against.

Run with Python that has torch and transformers, which the project itself never needs:

    python tests/reference/make_encoders.py

Each folder holds a random model in the hub's layout and `expected.npz`: token ids with padding,
segment ids, the hidden states and pooled outputs of transformers in float32, texts and their ids.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
import transformers as hf

HERE = Path(__file__).parent
WORDS = ["the", "cafe", "film", "was", "good", "bad", "very", "dull", "##s", "##ly", ".", ","]
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
WORD_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS]
TEXTS = ["The café was very good.", "films, badly DULL", "a b zzz the"]
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
}
ROBERTA_SIZES = {**SIZES, "max_position_embeddings": 26, "layer_norm_eps": 1e-5}


def main() -> None:
    torch.manual_seed(0)
    word_pieces = {token: number for number, token in enumerate(WORD_PIECES)}
    bert_tokenizer = hf.BertTokenizer(vocab=word_pieces, do_lower_case=True)
    cased = hf.BertTokenizer(vocab=word_pieces, do_lower_case=False)

    write("bert", hf.BertModel(hf.BertConfig(**SIZES)), bert_tokenizer)
    write("bert_tanh", hf.BertModel(hf.BertConfig(**SIZES, hidden_act="gelu_new")), cased)
    # No pooler, names with a prefix, one segment, bfloat16: what hubs hold besides.
    one_segment = hf.BertConfig(**SIZES, hidden_act="gelu_pytorch_tanh", type_vocab_size=1)
    write("bert_masked_lm", hf.BertForMaskedLM(one_segment), bert_tokenizer, old_names=True)
    half = hf.BertModel(hf.BertConfig(**SIZES, hidden_act="gelu_new")).to(torch.bfloat16)
    write("bert_bfloat16", half, bert_tokenizer)
    write(
        "bert_unigram",
        hf.BertModel(hf.BertConfig(**SIZES, hidden_act="gelu_new", pad_token_id=1)),
        xlm_roberta_tokenizer(),
    )
    distil = {
        "vocab_size": 60,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 24,
        "sinusoidal_pos_embds": True,
    }
    write("distilbert", hf.DistilBertModel(hf.DistilBertConfig(**distil)), bert_tokenizer)
    roberta = hf.RobertaConfig(**ROBERTA_SIZES, type_vocab_size=1)
    write("roberta", hf.RobertaModel(roberta), roberta_tokenizer())
    classifier = hf.RobertaForSequenceClassification(roberta)
    write("roberta_classifier", classifier, roberta_tokenizer())
    xlm = hf.XLMRobertaConfig(**ROBERTA_SIZES, type_vocab_size=1)
    write("xlm_roberta", hf.XLMRobertaModel(xlm), xlm_roberta_tokenizer())
    albert = hf.AlbertConfig(
        **{**SIZES, "num_hidden_layers": 4},
        embedding_size=16,
        num_hidden_groups=2,
        inner_group_num=2,
    )
    write("albert", hf.AlbertModel(albert), albert_tokenizer())


def write(name: str, model: torch.nn.Module, tokenizer, old_names: bool = False) -> None:
    """Writes one model with random weights everywhere, its tokenizer, and what both compute."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            scale = "norm" in key.lower() and key.endswith("weight")
            parameter.normal_(1.0 if scale else 0.0, 0.15)
    model.eval()
    model.save_pretrained(folder)
    if old_names:
        rename_norms(folder / "model.safetensors")
    tokenizer.save_pretrained(folder)

    rng = np.random.default_rng(0)
    pad = model.config.pad_token_id
    token_ids = rng.integers(5, 40, (3, 11))
    mask = np.arange(11)[None] < np.array([11, 7, 4])[:, None]
    token_ids = np.where(mask, token_ids, pad)
    inputs = {"input_ids": torch.tensor(token_ids), "attention_mask": torch.tensor(mask).long()}
    segments = np.zeros_like(token_ids)
    if getattr(model.config, "type_vocab_size", 1) > 1:
        segments[:, 3:] = 1
        inputs["token_type_ids"] = torch.tensor(segments)
    encoder = model.base_model.float()
    with torch.no_grad():
        outputs = encoder(**inputs)
    pooled = getattr(outputs, "pooler_output", None)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    width = max(map(len, ids))
    np.savez_compressed(
        folder / "expected.npz",
        token_ids=token_ids.astype("int32"),
        mask=mask.astype("int32"),
        segments=segments.astype("int32"),
        hidden=outputs.last_hidden_state.numpy(),
        pooled=np.zeros(0, "float32") if pooled is None else pooled.numpy(),
        texts=np.array(TEXTS),
        ids=np.array([row + [pad] * (width - len(row)) for row in ids], "int32"),
    )
    print(name, sorted(path.name for path in folder.iterdir()))


def rename_norms(file: Path) -> None:
    """Gives layer norms the names that the first checkpoints of BERT have."""
    from safetensors.numpy import load_file, save_file

    renamed = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for key, value in load_file(file).items()
    }
    save_file(renamed, file, metadata={"format": "pt"})


def roberta_tokenizer():
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *LETTERS, *"TDUL.,", "Ã", "©", "Ġw", "Ġwa"]
    tokens += ["er", "ver", "<mask>"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    merges = [("Ġ", "w"), ("Ġw", "a"), ("e", "r"), ("v", "er")]
    return hf.RobertaTokenizer(vocab=vocabulary, merges=merges)


def xlm_roberta_tokenizer():
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("▁", -2.0), ("▁the", -3.0), ("▁was", -3.5), ("ood", -3.25), ("▁very", -4.0)]
    pieces += [(letter, -5.0 - number / 8) for number, letter in enumerate(LETTERS)]
    return hf.XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)])


def albert_tokenizer():
    pieces = [("<pad>", 0.0), ("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[MASK]", 0.0)]
    pieces += [("▁", -2.0), ("▁the", -3.0), ("▁cafe", -3.5), ("ood", -3.25), ("▁very", -4.0)]
    pieces += [(letter, -5.0 - number / 8) for number, letter in enumerate(LETTERS)]
    return hf.AlbertTokenizer(vocab=pieces)


if __name__ == "__main__":
    main()
