"""Trains a BertForMaskedLM of transformers on given batches; see benchmarks/pretraining_parity.py.

    python huggingface_mlm.py FOLDER

FOLDER holds `model/`, the model to begin with; `train.npz` and `validation.npz`, the batches with
their masks; and `facts.json`, the settings of the optimizer. The last line of stdout is a JSON
object: the validation loss by the number of steps.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy

_ROWS_AT_ONCE = 64


def main(folder: str) -> None:
    folder = Path(folder)
    facts = json.loads((folder / "facts.json").read_text())
    train, validation = (dict(np.load(folder / f"{part}.npz")) for part in ("train", "validation"))
    config = transformers.AutoConfig.from_pretrained(folder / "model")
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder / "model", config=config)
    decayed = [one for one in model.parameters() if one.ndim > 1]
    others = [one for one in model.parameters() if one.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": facts["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ],
        betas=facts["betas"],
        eps=facts["epsilon"],
    )
    rates, rows = facts["learning_rates"], facts["rows"]
    losses = {0: measure(model, validation)}
    for step, rate in enumerate(rates):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = rate
        part = slice(step * rows, (step + 1) * rows)
        total, count = loss_of(model, {name: each[part] for name, each in train.items()})
        optimizer.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), facts["clip_norm"])
        optimizer.step()
        if (step + 1) % facts["every"] == 0 or step + 1 == len(rates):
            losses[step + 1] = measure(model, validation)
            print(step + 1, losses[step + 1], file=sys.stderr)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"validation": losses, "versions": versions}))


def loss_of(model, batch: dict[str, np.ndarray]):
    """Returns the sum of the losses of hidden tokens, and how many there are."""
    ids, mask, positions, targets = (
        torch.tensor(batch[name]).long()
        for name in ("token_ids", "padding_mask", "mask_positions", "targets")
    )
    weights = torch.tensor(batch["weights"])
    states = model.bert(ids, attention_mask=mask).last_hidden_state
    # Logits of hidden tokens alone: the numbers are those of all.
    hidden = states.gather(1, positions[:, :, None].expand(-1, -1, states.shape[-1]))
    losses = cross_entropy(model.cls(hidden).flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum(), weights.sum()


@torch.no_grad()
def measure(model, validation: dict[str, np.ndarray]) -> float:
    """Returns the mean loss of all hidden tokens."""
    model.eval()
    found = [0.0, 0.0]
    for start in range(0, len(validation["token_ids"]), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        loss = loss_of(model, {name: each[part] for name, each in validation.items()})
        found = [one + float(other) for one, other in zip(found, loss)]
    return found[0] / found[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
