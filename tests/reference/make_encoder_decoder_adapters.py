"""Writes adapters of kerasllm on what `make_encoder_decoders.py` made, and what `peft` computes.

python tests/reference/make_encoder_decoder_adapters.py
python tests/reference/make_encoder_decoder_adapters.py --peft  # with torch, transformers and peft

The first writes a folder `adapter` in some folders of `encoder_decoders/`, the second adds
`logits.npy`: of the sources and targets in `expected.npz`, in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "encoder_decoders"
ADAPTERS = {
    "bart": {"rank": 3, "targets": ["all-linear"]},
    "mbart": {"rank": 2, "alpha": 6, "targets": ["cross_attention"], "rank_stabilized": True},
    "t5_gated": {"rank": 2, "targets": ["query", "ffn"], "dora": True, "train": ["norm"]},
}


def build(name: str):
    """Returns a Keras model with an adapter that has learned something, the same each time."""
    import keras

    from kerasllm.models.adapters.encoder_lora import add_lora
    from kerasllm.models.encoder_decoders import load_backbone

    backbone = load_backbone(HERE / name).backbone
    hidden = backbone(backbone.input)["decoder_sequence_output"]
    task = keras.Model(backbone.input, hidden)
    task.backbone = backbone
    add_lora(task, **ADAPTERS[name])
    random = np.random.default_rng(0)
    for variable in task.trainable_variables:
        variable.assign(variable + random.normal(0, 0.1, variable.shape))
    return task


def write() -> None:
    from kerasllm.models.adapters.encoder_decoder_adapter import save_adapter

    for name in ADAPTERS:
        save_adapter(build(name).backbone, HERE / name / "adapter", base_name=f"tiny {name}")


def compute() -> None:
    import peft
    import torch
    from transformers import AutoModelForSeq2SeqLM

    for name in ADAPTERS:
        folder = HERE / name
        base = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, folder / "adapter").eval()
        expected = {key: torch.tensor(one) for key, one in np.load(folder / "expected.npz").items()}
        with torch.no_grad():
            logits = model(
                input_ids=expected["source"].long(),
                attention_mask=expected["source_mask"].long(),
                decoder_input_ids=expected["target"].long(),
                decoder_attention_mask=expected["target_mask"].long(),
            ).logits
        np.save(folder / "adapter" / "logits.npy", logits.numpy())
        print(folder)


if __name__ == "__main__":
    compute() if "--peft" in sys.argv else write()
