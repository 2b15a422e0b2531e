"""Writes tiny encoder-decoders of transformers with what they compute, to check kerasllm's against.

Run with Python that has torch and transformers, which the project itself never needs:

    python tests/reference/make_encoder_decoders.py

Each folder under `encoder_decoders/` holds a random model in the hub's layout and `expected.npz`:
ids with padding on the right, and transformers' logits in float32. Those with a tokenizer hold
`texts.json` too: texts with the ids of transformers.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers as hf

HERE = Path(__file__).parent / "encoder_decoders"
VOCABULARY = 96
STACKS = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "forced_eos_token_id": None,
    "decoder_start_token_id": 2,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
}
# Of spm's words and of bytes: what the tokenizers of the two families are made for.
TEXTS = [
    "A man plays the guitar.",
    "Zwei Hunde laufen, ein Kind lacht!",
    "  two  spaces ",
    "naïve café",
    "a </s> inside",
    "",
]


def main() -> None:
    torch.manual_seed(0)
    bart = hf.BartForConditionalGeneration(hf.BartConfig(**STACKS))
    bart.generation_config.forced_bos_token_id = 0
    write("bart", bart, bart_tokenizer())
    uneven = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 20}
    other = {"activation_function": "relu", "scale_embedding": True}
    write("bart_uneven", hf.BartForConditionalGeneration(hf.BartConfig(**STACKS | uneven | other)))
    scaled = STACKS | {"scale_embedding": True, "activation_function": "gelu_new"}
    write("mbart", hf.MBartForConditionalGeneration(hf.MBartConfig(**scaled)))
    swish = STACKS | {"scale_embedding": True, "activation_function": "swish"}
    write("marian", hf.MarianMTModel(hf.MarianConfig(**swish)))
    write("pegasus", hf.PegasusForConditionalGeneration(hf.PegasusConfig(**swish)))
    params = {"summarization": {"prefix": "summarize: ", "num_beams": 4}}
    first = hf.T5Config(**T5, feed_forward_proj="relu", task_specific_params=params)
    write("t5", hf.T5ForConditionalGeneration(first), t5_tokenizer())
    second = hf.T5Config(
        **T5 | {"num_layers": 1}, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    )
    write("t5_gated", hf.T5ForConditionalGeneration(second), untied=True)
    side = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "query_pre_attn_scalar": 5,
        "sliding_window": 20,
        "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": 2.0,
    }
    wider = side | {"hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 3}
    gemma = hf.T5GemmaConfig(
        encoder=hf.T5GemmaModuleConfig(**wider),
        decoder=hf.T5GemmaModuleConfig(**side),
        vocab_size=VOCABULARY,
        decoder_start_token_id=2,
    )
    write("t5gemma", hf.T5GemmaForConditionalGeneration(gemma))


def write(name: str, model: torch.nn.Module, tokenizer=None, *, untied: bool = False) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    if untied:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    with torch.no_grad():
        for key, weight in [*model.named_parameters(), *model.named_buffers()]:
            if "inv_freq" in key:
                continue
            if "norm" in key and key.endswith("weight"):
                weight.normal_(1.0, 0.2)
            elif "embed_positions" in key and name in ("marian", "pegasus"):
                continue
            else:
                weight.normal_(0.0, 0.3)
    model.eval()
    model.save_pretrained(folder)
    config = model.config
    random = np.random.default_rng(0)
    lengths = {"source": (13, (13, 8)), "target": (9, (9, 5))}
    arrays = {}
    for side, (longest, rows) in lengths.items():
        ids = random.integers(4, VOCABULARY, (len(rows), longest))
        mask = (np.arange(longest) < np.array(rows)[:, None]).astype("int32")
        arrays[side] = np.where(mask, ids, config.pad_token_id).astype("int32")
        arrays[f"{side}_mask"] = mask
    arrays["target"][:, 0] = config.decoder_start_token_id
    with torch.no_grad():
        given = {key: torch.tensor(value).long() for key, value in arrays.items()}
        logits = model(
            input_ids=given["source"],
            attention_mask=given["source_mask"],
            decoder_input_ids=given["target"],
            decoder_attention_mask=given["target_mask"],
        ).logits
    np.savez_compressed(folder / "expected.npz", **arrays, logits=logits.float().numpy())
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
        found = [{"text": text, "ids": tokenizer(text).input_ids} for text in TEXTS]
        text = json.dumps(found, indent=1, ensure_ascii=False)
        (folder / "texts.json").write_text(text + "\n", encoding="utf-8")
    print(name, sorted(path.name for path in folder.iterdir()))


def bart_tokenizer() -> hf.PreTrainedTokenizerBase:
    letters = "abcdefghijklmnopqrstuvwxyzAZ.,!Ġ"
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, "an", "Ġp", "th", "Ġth", "Ġthe", "<mask>"]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    merges = [("a", "n"), ("Ġ", "p"), ("t", "h"), ("Ġ", "th"), ("Ġth", "e")]
    return hf.BartTokenizer(vocab=vocabulary, merges=merges)


def t5_tokenizer() -> hf.PreTrainedTokenizerBase:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = "▁abcdefghijklmnopqrstuvwxyzAZ.,!"
    pieces += [(letter, -4.0) for letter in letters]
    pieces += [("▁the", -2.0), ("▁A", -2.0), ("an", -2.5), ("▁guitar", -2.0)]
    return hf.T5Tokenizer(vocab=pieces + [(f"<extra_id_{n}>", 0.0) for n in (1, 0)], extra_ids=2)


if __name__ == "__main__":
    main()
