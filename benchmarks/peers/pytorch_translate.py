"""Trains a Transformer from scratch with PyTorch on a CPU, translates, and prints one JSON object.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python pytorch_translate.py --data FOLDER --precision bfloat16 --seed 0

FOLDER is what `benchmarks.workers.translate` wrote: the token ids and the batches that kerasllm
trains on, the sources and the references of the test data, and the settings. The model is that of
the recipe: pre-norm layers, sinusoids, embeddings that are also the output layer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import sacrebleu
import tokenizers
import torch
from torch import nn
from torch.nn import functional as F

# Sources that are translated together.
TOGETHER = 64
NEVER = -1e9


class Attention(nn.Module):
    """Attention with several heads, with the kernels of PyTorch."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, x, memory, mask=None, causal=False):
        def by_head(rows):
            return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        keys, values = self.key_value(memory).chunk(2, -1)
        mixed = F.scaled_dot_product_attention(
            by_head(self.query(x)),
            by_head(keys),
            by_head(values),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A pre-norm layer of the encoder, or with `reads` of the decoder."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, reads: bool):
        super().__init__()
        self.own, self.own_norm = Attention(width, heads, dropout), nn.LayerNorm(width)
        if reads:
            self.other, self.other_norm = Attention(width, heads, dropout), nn.LayerNorm(width)
        self.inner = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, feedforward),
            nn.ReLU(),
            nn.Linear(feedforward, width),
        )
        self.reads, self.drop = reads, nn.Dropout(dropout)

    def forward(self, x, mask, memory=None, causal=False):
        normed = self.own_norm(x)
        x = x + self.drop(self.own(normed, normed, None if causal else mask, causal))
        if self.reads:
            x = x + self.drop(self.other(self.other_norm(x), memory, mask))
        return x + self.drop(self.inner(x))


class Translator(nn.Module):
    """The encoder, the decoder, and one table of embeddings for both and for the output."""

    def __init__(self, sizes: dict):
        super().__init__()
        width, rate = sizes["width"], sizes["dropout"]
        self.pad = sizes["pad"]
        self.embedding = nn.Embedding(sizes["vocabulary_size"], width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        shared = (width, sizes["heads"], sizes["feedforward"], rate)
        count = range(sizes["layers"])
        self.encoder = nn.ModuleList(Layer(*shared, reads=False) for _ in count)
        self.decoder = nn.ModuleList(Layer(*shared, reads=True) for _ in count)
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(rate)
        places = torch.arange(1024)[:, None]
        angles = places / 10_000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], -1))

    def embed(self, ids):
        scale = math.sqrt(self.embedding.embedding_dim)
        return self.drop(self.embedding(ids) * scale + self.positions[: ids.shape[1]])

    def encode(self, source):
        mask = (source != self.pad)[:, None, None, :]
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def decode(self, target, memory, mask):
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, mask, memory, causal=True)
        return self.decoder_norm(x)

    def forward(self, source, target):
        return self.decode(target, *self.encode(source))

    def logits(self, hidden):
        return F.linear(hidden, self.embedding.weight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        result = run(options)
    print(json.dumps(result))


def run(options: argparse.Namespace) -> dict:
    sizes = json.loads((options.data / "settings.json").read_text(encoding="utf-8"))
    arrays = np.load(options.data / "tokens.npz")
    sources, targets, tests, test_targets = (
        rows_of(arrays[f"{part}{side}_ids"], arrays[f"{part}{side}_offsets"])
        for part in ("", "test_")
        for side in ("source", "target")
    )
    batches = np.split(arrays["order"], arrays["starts"][1:-1])
    torch.manual_seed(options.seed)
    model = Translator(sizes).train()
    seconds, tokens = train(model, sizes, sources, targets, batches, options)
    model.eval()
    references = json.loads((options.data / "references.json").read_text(encoding="utf-8"))
    tokenizer = tokenizers.Tokenizer.from_file(str(options.data / "tokenizer.json"))
    written = [tokenizer.decode(ids).strip() for ids in translate(model, sizes, tests)]
    return {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "work": {"steps": len(batches)},
        "quality": {
            "bleu": sacrebleu.corpus_bleu(written, [references]).score,
            "loss": loss_of(model, sizes, tests, test_targets),
        },
        "parameters": sum(each.numel() for each in model.parameters()),
        "versions": {"torch": torch.__version__, "sacrebleu": sacrebleu.__version__},
    }


def rows_of(ids: np.ndarray, offsets: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(row).long() for row in np.split(ids, offsets[1:-1])]


def padded(rows: list[torch.Tensor], pad: int) -> torch.Tensor:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)


def train(model, sizes, sources, targets, batches, options) -> tuple[float, int]:
    """Trains on all batches; returns the seconds, and the tokens of sources and targets."""
    # Biases and norms have one axis, and are not decayed.
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) == decayed], "weight_decay": rate}
        for decayed, rate in ((True, sizes["weight_decay"]), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=sizes["learning_rate"], fused=True)
    pad = sizes["pad"]
    warmup, tokens, began = sizes["warmup"], 0, time.perf_counter()
    for step, rows in enumerate(batches):
        rate = min((step + 1) / warmup, (len(batches) - step) / max(len(batches) - warmup, 1))
        for group in optimizer.param_groups:
            group["lr"] = sizes["learning_rate"] * min(rate, 1.0)
        source = padded([sources[row] for row in rows], pad)
        read, wanted = shifted([targets[row] for row in rows], sizes)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            hidden = model(source, read)
            # What is padding needs no logits.
            counts = wanted != pad
            logits = model.logits(hidden[counts])
        loss = F.cross_entropy(
            logits.float(), wanted[counts], label_smoothing=sizes["label_smoothing"]
        )
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), sizes["clip_norm"])
        optimizer.step()
        optimizer.zero_grad()
        tokens += int((source != pad).sum() + counts.sum())
        if step % 100 == 0:
            speed = tokens / (time.perf_counter() - began)
            print(f"step {step} loss {loss.item():.3f} {speed:.0f} tokens/s", flush=True)
    return time.perf_counter() - began, tokens


@torch.inference_mode()
def loss_of(model, sizes: dict, sources: list, targets: list) -> float:
    """Returns the mean negative log-likelihood of the tokens of targets, in nats."""
    total, count, pad = 0.0, 0, sizes["pad"]
    for first in range(0, len(sources), TOGETHER):
        some = slice(first, first + TOGETHER)
        read, wanted = shifted(targets[some], sizes)
        counts = wanted != pad
        logits = model.logits(model(padded(sources[some], pad), read)[counts])
        total += F.cross_entropy(logits, wanted[counts], reduction="sum").item()
        count += int(counts.sum())
    return total / count


def shifted(targets: list[torch.Tensor], sizes: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what the decoder reads of targets, and the token that comes next at each place."""
    wanted = padded(targets, sizes["pad"])
    start = torch.full((len(wanted), 1), sizes["start"])
    return torch.cat([start, wanted[:, :-1]], 1), wanted


@torch.inference_mode()
def translate(model, sizes: dict, sources: list[torch.Tensor]) -> list[list[int]]:
    """Returns the most likely target of each source by beam search, as tokens."""
    order = sorted(range(len(sources)), key=lambda number: len(sources[number]))
    found: list[list[int]] = [[]] * len(sources)
    for first in range(0, len(order), TOGETHER):
        some = order[first : first + TOGETHER]
        for number, tokens in zip(some, beams(model, sizes, [sources[n] for n in some])):
            found[number] = tokens
    return found


def beams(model, sizes: dict, sources: list[torch.Tensor]) -> list[list[int]]:
    """Searches with so many beams; a text's score is its mean log-probability."""
    width, end, count = sizes["beams"], sizes["end"], len(sources)
    memory, mask = model.encode(padded(sources, sizes["pad"]))
    memory, mask = memory.repeat_interleave(width, 0), mask.repeat_interleave(width, 0)
    tokens = torch.full((count * width, 1), sizes["start"])
    scores = torch.full((count, width), NEVER)
    scores[:, 0] = 0.0
    ended: list[list[tuple[float, list[int]]]] = [[] for _ in sources]
    limit = 2 * max(map(len, sources)) + 10
    for length in range(1, limit + 1):
        logits = model.logits(model.decode(tokens, memory, mask)[:, -1]).float()
        totals = scores[:, :, None] + F.log_softmax(logits, -1).view(count, width, -1)
        best, places = totals.flatten(1).topk(2 * width)
        rows, words = places // totals.shape[-1], places % totals.shape[-1]
        parents, following = torch.zeros(2, count, width, dtype=torch.long)
        scores = torch.full((count, width), NEVER)
        for number in range(count):
            kept = 0
            for score, row, word in zip(
                best[number].tolist(), rows[number].tolist(), words[number].tolist(), strict=True
            ):
                if kept == width:
                    break
                if word == end:
                    if len(ended[number]) < width:
                        text = tokens[number * width + row, 1:].tolist()
                        ended[number].append((score / length, text))
                    continue
                parents[number, kept], following[number, kept] = row, word
                scores[number, kept] = NEVER if len(ended[number]) >= width else score
                kept += 1
        picked = (parents + torch.arange(count)[:, None] * width).view(-1)
        tokens = torch.cat([tokens[picked], following.view(-1, 1)], 1)
        if all(len(each) >= width for each in ended):
            break
    return [
        max(each)[1] if each else tokens[number * width, 1:].tolist()
        for number, each in enumerate(ended)
    ]


if __name__ == "__main__":
    main()
