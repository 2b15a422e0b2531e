"""Writes tiny decoders with adapters of `peft`, and what they compute, to check kerasllm's against.

Run with Python that has torch, transformers and peft, which the project itself never needs:

    python tests/reference/make_adapters.py

Each folder of `adapters/` holds a random base; beside it, a folder for each adapter that `peft`
trained (`peft_*`, written here) or that kerasllm wrote (`ours_*`, by `make_our_adapters.py`), with
`logits.npy`: what `peft` computes with it in float32 for `token_ids.npy`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import peft
import torch
import transformers as hf

HERE = Path(__file__).parent / "adapters"
LLAMA = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 40,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ADAPTERS = {
    "llama": {
        "lora": {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 6},
        "rslora": {"target_modules": ["o_proj", "down_proj"], "r": 4, "use_rslora": True},
        "dora": {"target_modules": ["q_proj", "k_proj", "up_proj"], "r": 4, "use_dora": True},
        "all_linear": {
            "target_modules": "all-linear",
            "r": 2,
            "rank_pattern": {"q_proj": 3},
            "alpha_pattern": {"layers.1.mlp.gate_proj": 5},
        },
        "whole": {"target_modules": ["v_proj"], "r": 2, "modules_to_save": ["norm", "lm_head"]},
    },
    "gpt2": {
        "lora": {"target_modules": ["c_attn"], "r": 4},
        "dora": {"target_modules": "all-linear", "r": 3, "use_dora": True, "use_rslora": True},
        "whole": {"target_modules": ["c_fc"], "r": 2, "modules_to_save": ["ln_f", "ln_1"]},
    },
}


def main() -> None:
    torch.manual_seed(0)
    HERE.mkdir(exist_ok=True)
    token_ids = np.random.default_rng(0).integers(3, 40, (2, 9)).astype("int32")
    np.save(HERE / "token_ids.npy", token_ids)
    bases = {
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA, tie_word_embeddings=False)),
        "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2)),
    }
    for family, build in bases.items():
        folder = HERE / family / "base"
        if not folder.exists():
            model = build()
            shake(model, 0.2)
            model.save_pretrained(folder)
        for name, settings in ADAPTERS[family].items():
            write(folder, folder.parent / f"peft_{name}", settings, token_ids)
        for ours in sorted(folder.parent.glob("ours_*")):
            model = peft.PeftModel.from_pretrained(load(folder), ours)
            np.save(ours / "logits.npy", logits(model, token_ids))
            print(ours)


def load(folder: Path) -> torch.nn.Module:
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # What PEFT writes down as the base: not where it lies on this machine.
    model.name_or_path = model.config.name_or_path = str(folder.relative_to(HERE))
    return model


def write(base: Path, folder: Path, settings: dict, token_ids: np.ndarray) -> None:
    """Writes an adapter that has learned something, and its logits."""
    if folder.exists():
        shutil.rmtree(folder)
    torch.manual_seed(0)
    settings = {**settings, "task_type": "CAUSAL_LM", "fan_in_fan_out": base.parent.name == "gpt2"}
    model = peft.get_peft_model(load(base), peft.LoraConfig(**settings))
    shake(model, 0.1)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    np.save(folder / "logits.npy", logits(model, token_ids))
    print(folder)


def shake(model: torch.nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * by)


def logits(model: torch.nn.Module, token_ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.tensor(token_ids).long()).logits.numpy()


if __name__ == "__main__":
    main()
