"""Writes the perplexity of a text by Hugging Face's guide, to check kerasllm's windows against.

Run with Python that has torch and transformers, which the project itself never needs:

    python tests/reference/make_perplexity.py

`perplexity.json` holds token ids and, for tiny models of `decoders/` and several windows, the sum
of the negative log-likelihoods by the sliding window of
https://huggingface.co/docs/transformers/perplexity, and how many tokens it counts; and the
log-likelihood of a few continuations.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers as hf

HERE = Path(__file__).parent
# Tokens that a window predicts, and its stride; the guide's window also holds the first token.
WINDOWS = ((24, 8), (24, 24), (63, 5), (40, 39))


def main() -> None:
    ids = np.random.default_rng(0).integers(3, 96, 150).tolist()
    found = {"token_ids": ids, "perplexity": [], "continuations": []}
    for name in ("gpt2", "llama"):
        model = hf.AutoModelForCausalLM.from_pretrained(HERE / "decoders" / name).float().eval()
        for length, stride in WINDOWS:
            total, tokens = sliding_window(model, torch.tensor([ids]), length + 1, stride)
            case = {"model": name, "length": length, "stride": stride}
            found["perplexity"].append({**case, "total": total, "tokens": tokens})
        for first, last in ((4, 6), (9, 10), (3, 12)):
            value = likelihood(model, ids[:last], first)
            case = {"model": name, "from": first, "to": last}
            found["continuations"].append({**case, "log_likelihood": value})
    (HERE / "perplexity.json").write_text(json.dumps(found, indent=1) + "\n")


@torch.no_grad()
def sliding_window(model, ids: torch.Tensor, max_length: int, stride: int) -> tuple[float, int]:
    """The loop of the guide."""
    total, tokens, previous_end = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + max_length, ids.shape[1])
        part = ids[:, begin:end]
        targets = part.clone()
        targets[:, : -(end - previous_end)] = -100
        counted = int((targets[:, 1:] != -100).sum())
        total += float(model(part, labels=targets).loss) * counted
        tokens += counted
        previous_end = end
        if end == ids.shape[1]:
            break
    return total, tokens


@torch.no_grad()
def likelihood(model, ids: list[int], first: int) -> float:
    """The log-likelihood of a row's tokens from `first` on."""
    chances = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return float(sum(chances[i - 1, ids[i]] for i in range(first, len(ids))))


if __name__ == "__main__":
    main()
