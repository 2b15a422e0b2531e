"""Writes what transformers computes with SmolLM2-135M-Instruct, read from its GGUF file.

Run with Python that has torch, transformers and gguf, which the project itself never needs all of:

    python tests/reference/make_smollm2.py FOLDER/SmolLM2-135M-Instruct.Q4_1.gguf

`smollm2.npz` holds token ids with padding, and in float32 the logits of some columns (all would be
12 MB), each row's largest logit and its token.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import transformers as hf

TEXTS = [
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "Call me Ishmael. Some years ago - never mind how long precisely",
]


def main(file: Path) -> None:
    place = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    tokenizer = hf.AutoTokenizer.from_pretrained(**place)
    model = hf.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).eval()
    # The file says 1e-5, which comes out of its float32 as 9.99999974e-06.
    assert abs(model.config.rms_norm_eps - 1e-5) < 1e-9, model.config.rms_norm_eps
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    width = max(map(len, ids))
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    token_ids = np.array([row + [0] * (width - len(row)) for row in ids])
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor(token_ids), attention_mask=torch.tensor(mask)
        ).logits.numpy()
    columns = np.sort(np.random.default_rng(0).choice(logits.shape[-1], 400, replace=False))
    np.savez_compressed(
        Path(__file__).parent / "smollm2.npz",
        token_ids=token_ids.astype("int32"),
        mask=mask.astype("int32"),
        columns=columns.astype("int32"),
        logits=logits[..., columns],
        largest=logits.max(-1),
        likeliest=logits.argmax(-1).astype("int32"),
    )
    print(tokenizer.batch_decode(logits.argmax(-1)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
