"""Writes tiny decoders of transformers with what they compute, to check kerasllm's against.

Run with Python that has torch and transformers, which the project itself never needs:

    python tests/reference/make_decoders.py

Each folder under `decoders/` holds a random model in the hub's layout and `expected.npz`: token ids
with padding on the right, and transformers' logits in float32.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
import transformers as hf

HERE = Path(__file__).parent / "decoders"
VOCABULARY = 96
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.0, 1.5, 2.5, 4.0],
}


def main() -> None:
    torch.manual_seed(0)
    gpt2 = hf.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        n_inner=48,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    write("gpt2", hf.GPT2LMHeadModel(gpt2))
    # The names of the first checkpoint: without a prefix.
    write("gpt2_bare", hf.GPT2LMHeadModel(gpt2), bare=True)

    def llama(**more):
        return hf.LlamaForCausalLM(hf.LlamaConfig(**{**SIZES, "rms_norm_eps": 1e-5, **more}))

    rope = {"rope_type": "default", "rope_theta": 100000.0}
    write("llama", llama(tie_word_embeddings=True, rope_parameters=rope))
    write("llama_untied_sharded", llama(num_key_value_heads=4), shard="20KB")
    write("llama3", llama(rope_parameters=LLAMA_3).to(torch.bfloat16))

    mistral = {**SIZES, "rms_norm_eps": 1e-5, "sliding_window": 5, "head_dim": 16}
    write("mistral", hf.MistralForCausalLM(hf.MistralConfig(**mistral)))
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}
    qwen2 = {**SIZES, "rope_parameters": linear, "tie_word_embeddings": True}
    write("qwen2", hf.Qwen2ForCausalLM(hf.Qwen2Config(**qwen2)))
    qwen3 = {**SIZES, "head_dim": 16, "rms_norm_eps": 1e-6}
    write("qwen3", hf.Qwen3ForCausalLM(hf.Qwen3Config(**qwen3)))
    gemma = {**SIZES, "head_dim": 16, "num_key_value_heads": 1}
    write("gemma", hf.GemmaForCausalLM(hf.GemmaConfig(**gemma)))
    phi3 = {**SIZES, "rms_norm_eps": 1e-5}
    write("phi3", hf.Phi3ForCausalLM(hf.Phi3Config(**phi3)))
    long = {**phi3, "rope_parameters": LONG, "original_max_position_embeddings": 8}
    write("phi3_long", hf.Phi3ForCausalLM(hf.Phi3Config(**long)))


def write(name: str, model: torch.nn.Module, bare: bool = False, shard: str = "1GB") -> None:
    """Writes one model with random weights everywhere, and what it computes."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            scale = key.endswith("weight") and ("norm" in key or "ln_" in key)
            centre = 0.0 if "Gemma" in type(model).__name__ or not scale else 1.0
            parameter.normal_(centre, 0.15)
    (model.base_model if bare else model).save_pretrained(folder, max_shard_size=shard)
    (folder / "generation_config.json").unlink(missing_ok=True)

    rng = np.random.default_rng(0)
    token_ids = rng.integers(3, VOCABULARY, (3, 12))
    mask = np.arange(12)[None] < np.array([12, 7, 4])[:, None]
    token_ids = np.where(mask, token_ids, 0)
    # Read again: a model that was turned to bfloat16 keeps its rotary frequencies rounded.
    reference = type(model).from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = reference(
            input_ids=torch.tensor(token_ids), attention_mask=torch.tensor(mask).long()
        ).logits
    np.savez_compressed(
        folder / "expected.npz",
        token_ids=token_ids.astype("int32"),
        mask=mask.astype("int32"),
        logits=logits.numpy(),
    )
    print(name, sorted(path.name for path in folder.iterdir()))


if __name__ == "__main__":
    main()
