"""Trains a GPT-2 from scratch with PyTorch on a CPU, and prints one JSON object on stdout.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python pytorch_gpt.py --rows rows.npy --settings settings.json --precision bfloat16 --compile
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", required=True, help="int32 [rows, length + 1], as .npy")
    parser.add_argument("--settings", type=Path, required=True, help="JSON: sizes and optimizer")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        result = train(options)
    print(json.dumps(result))


def train(options: argparse.Namespace) -> dict:
    settings = json.loads(options.settings.read_text(encoding="utf-8"))
    batches = torch.tensor(np.load(options.rows)).long().split(settings["batch_size"])
    torch.manual_seed(0)
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings["dropout"])
    config = transformers.GPT2Config(
        vocab_size=settings["vocabulary_size"],
        n_positions=settings["length"],
        n_embd=settings["width"],
        n_layer=settings["layers"],
        n_head=settings["heads"],
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        **rates,
    )
    model = transformers.GPT2LMHeadModel(config).train()
    # Biases and norms have one axis, and are not decayed.
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) == decayed], "weight_decay": rate}
        for decayed, rate in ((True, settings["weight_decay"]), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings["learning_rate"], fused=True)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            logits = model(input_ids=rows[:, :-1]).logits
        logits = logits.flatten(0, 1).float()
        return torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten())

    if options.compile:
        loss_of = torch.compile(loss_of)
    losses, started = [], 0.0
    for number, rows in enumerate(batches):
        if number == settings["warmup_steps"]:
            started = time.perf_counter()
        loss = loss_of(rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    seconds = time.perf_counter() - started
    steps = len(batches) - settings["warmup_steps"]
    tokens = steps * settings["batch_size"] * settings["length"]
    last = torch.stack(losses[-settings["last_steps"] :])
    return {
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
        "work": {
            "steps": steps,
            "tokens": tokens,
            "trained_parameters": sum(p.numel() for p in model.parameters()),
        },
        "quality": {"loss": float(last.mean())},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


if __name__ == "__main__":
    main()
