"""Writes what transformers chooses, filters and finds, to check kerasllm's decoding against.

Run with Python that has torch and transformers, which the project itself never needs:

    python tests/reference/make_generation.py [FOLDER]

`samplers.npz` holds logits before and after each of transformers' logits processors; `model/` a
tiny Llama in the hub's layout and `texts.json` what it generates: greedy, with a repetition
penalty, and by beam search with several penalties. `smollm2.json`, made where FOLDER holds
SmolLM2-135M-Instruct in float32, is the same for that model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from transformers.generation import logits_process as processors

HERE = Path(__file__).parent / "generation"
PROMPTS = [[3, 5, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [20, 30, 20, 30, 20]]


def main() -> None:
    torch.manual_seed(0)
    write_samplers()
    write_texts()


def write_samplers() -> None:
    logits = 3 * torch.randn(6, 40)
    # Equal logits, so that ties are decided as in the reference; one token far above the rest.
    logits[2, 10:20] = 2.0
    logits[3, 7] = 60.0
    tokens = torch.tensor(
        [[1, 2, 3, 3], [0, 7, 9, 39], [10, 11, 4, 5], [7, 6, 5, 4]] + [[1] * 4] * 2
    )
    found = {"logits": logits.numpy(), "tokens": tokens.numpy()}
    cases = {
        "penalty": processors.RepetitionPenaltyLogitsProcessor(1.3),
        "temperature": processors.TemperatureLogitsWarper(0.7),
        "top_k": processors.TopKLogitsWarper(5),
        "top_p": processors.TopPLogitsWarper(0.8),
        "min_p": processors.MinPLogitsWarper(0.1),
    }
    whole = logits.clone()
    for name, processor in cases.items():
        found[name] = processor(tokens, logits.clone()).numpy()
        whole = processor(tokens, whole)
    found["all"] = whole.numpy()
    np.savez_compressed(HERE / "samplers.npz", **found)


def write_texts() -> None:
    config = hf.LlamaConfig(
        vocab_size=48,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rope_theta=5000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    model = hf.LlamaForCausalLM(config).eval()
    model.save_pretrained(HERE / "model")
    asked = {
        "greedy": {},
        "penalty": {"repetition_penalty": 1.5},
        "beams": {"num_beams": 3},
        "beams_long": {"num_beams": 4, "length_penalty": 2.0},
        "beams_short": {"num_beams": 4, "length_penalty": -1.0, "repetition_penalty": 1.2},
        "beams_early": {"num_beams": 3, "early_stopping": True, "length_penalty": 2.0},
        "beams_never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
    }
    texts = []
    for stops in ([47], [4, 9, 17, 33]):
        for name, options in asked.items():
            for prompt in PROMPTS:
                ids = torch.tensor([prompt])
                made = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=16,
                    do_sample=False,
                    eos_token_id=stops,
                    pad_token_id=0,
                    **options,
                )
                settings = {**options, "beams": options.get("num_beams", 1)}
                settings.pop("num_beams", None)
                tokens = made[0, len(prompt) :].tolist()
                texts.append(
                    {
                        "name": name,
                        "prompt": prompt,
                        "stop_token_ids": stops,
                        "settings": settings,
                        "tokens": tokens,
                    }
                )
    (HERE / "texts.json").write_text(json.dumps(texts) + "\n")


def write_smollm2(folder: str) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = [
        ("The whale is the largest animal of the sea, and", {"max_new_tokens": 40}),
        ("Call me Ishmael. Some years ago", {"max_new_tokens": 24, "beams": 3}),
        ("Once upon a time", {"max_new_tokens": 24, "repetition_penalty": 1.3}),
    ]
    texts = []
    for prompt, settings in asked:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        options = {**settings, "num_beams": settings.get("beams", 1)}
        options.pop("beams", None)
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            eos_token_id=2,
            pad_token_id=2,
            **options,
        )
        tokens = made[0, ids.shape[1] :].tolist()
        texts.append({"prompt": ids[0].tolist(), "settings": settings, "tokens": tokens})
    (HERE / "smollm2.json").write_text(json.dumps(texts) + "\n")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    main()
    if len(sys.argv) > 1:
        write_smollm2(sys.argv[1])
