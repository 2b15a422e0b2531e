"""Makes preference.json: losses of preferences and their gradients, computed by PyTorch.

    python tests/reference/make_preference.py

Needs torch. The formulas are those of the papers on DPO, conservative DPO, IPO and SLiC-HF, written
down with PyTorch's functions.
"""

import json
from pathlib import Path

import torch
from torch.nn import functional

CASES = [("sigmoid", 0.1, 0.0), ("sigmoid", 0.5, 0.1), ("ipo", 0.1, 0.0), ("hinge", 0.2, 0.0)]


def loss_of(kind: str, beta: float, smoothing: float, reference, model):
    ratios = model[:, 0] - model[:, 1]
    logits = ratios - (reference[:, 0] - reference[:, 1])
    if kind == "ipo":
        return ((logits - 1 / (2 * beta)) ** 2).mean()
    if kind == "hinge":
        return torch.relu(1 - beta * logits).mean()
    right = functional.logsigmoid(beta * logits) * (1 - smoothing)
    return -(right + functional.logsigmoid(-beta * logits) * smoothing).mean()


torch.manual_seed(0)
reference = torch.randn(6, 2) * 8 - 30
model = (reference + torch.randn(6, 2) * 5).requires_grad_()
cases = []
for kind, beta, smoothing in CASES:
    loss = loss_of(kind, beta, smoothing, reference, model)
    (gradient,) = torch.autograd.grad(loss, model)
    cases.append(
        {
            "kind": kind,
            "beta": beta,
            "label_smoothing": smoothing,
            "loss": loss.item(),
            "gradient": gradient.tolist(),
        }
    )
stored = {"reference": reference.tolist(), "model": model.tolist(), "cases": cases}
path = Path(__file__).with_name("preference.json")
path.write_text(json.dumps(stored, indent=1) + "\n")
