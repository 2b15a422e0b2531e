"""Writes what transformers generates with tiny encoder-decoders, to check kerasllm's against.

Run with Python that has torch and transformers, which the project itself never needs:

    python tests/reference/make_encoder_decoder_generation.py [NAME]...

Each folder under `encoder_decoder_generation/` holds a model in the hub's layout: random ones, and
ones that were trained to write a source's tokens in another order, so that targets end by
themselves. `texts.json` holds 50 sources and, for each of several settings, what transformers wrote
for all of them in one batch.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers as hf

HERE = Path(__file__).parent / "encoder_decoder_generation"
VOCABULARY, PAD, START, END = 40, 0, 1, 2
STEPS = 500
BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "dropout": 0.0,
    "pad_token_id": PAD,
    "bos_token_id": START,
    "eos_token_id": END,
    "decoder_start_token_id": END,
    "forced_eos_token_id": None,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "decoder_start_token_id": PAD,
}
# By transformers' names.
SETTINGS = {
    "greedy": {},
    "greedy_rules": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 6},
    "beams": {"num_beams": 4},
    "beams_early": {"num_beams": 4, "early_stopping": True, "length_penalty": 0.6},
    "beams_never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
    "beams_short": {"num_beams": 2, "length_penalty": -1.0},
    "beams_rules": {
        "num_beams": 3,
        "early_stopping": True,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 4,
    },
    "beams_forced": {
        "num_beams": 4,
        "forced_bos_token_id": START,
        "forced_eos_token_id": END,
        "bad_words_ids": [[5], [9]],
    },
}


def main() -> None:
    bart = {**BART, "encoder_layers": 2}
    gated = {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    models = {
        "bart": lambda: ending(
            hf.BartForConditionalGeneration(hf.BartConfig(**bart, init_std=0.2))
        ),
        "flan_t5": lambda: hf.T5ForConditionalGeneration(
            hf.T5Config(**gated, initializer_factor=2.0)
        ),
        "bart_trained": lambda: trained(hf.BartForConditionalGeneration(hf.BartConfig(**bart))),
        "t5_trained": lambda: trained(hf.T5ForConditionalGeneration(hf.T5Config(**T5))),
    }
    for name in sys.argv[1:] or models:
        torch.manual_seed(0)
        shutil.rmtree(HERE / name, ignore_errors=True)
        write(name, models[name]())


def ending(model):
    """Makes the end more likely than random weights do."""
    model.final_logits_bias[0, END] = 2.0
    return model


def trained(model):
    """Trains a model for a few steps: it is far from sure of what it writes."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        sources = some_sources(32)
        # Sorted, and then the first again.
        targets = [[*sorted(s[:-1]), s[0], END] for s in sources]
        ids, mask = padded(sources)
        labels, present = padded(targets)
        loss = model(
            input_ids=ids, attention_mask=mask, labels=torch.where(present > 0, labels, -100)
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    print("loss", loss.item())
    return model


def some_sources(count: int) -> list[list[int]]:
    lengths = torch.randint(2, 12, (count,)).tolist()
    return [[*torch.randint(3, VOCABULARY, (length,)).tolist(), END] for length in lengths]


def padded(rows: list[list[int]]):
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])


def write(name: str, model) -> None:
    model = model.eval()
    model.save_pretrained(HERE / name)
    sources = some_sources(50)
    ids, mask = padded(sources)
    found = {"sources": sources, "targets": []}
    for settings_name, settings in SETTINGS.items():
        start = model.config.decoder_start_token_id
        made = model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=16, **settings
        )
        assert made[:, 0].eq(start).all()
        rows = [row[1 : 1 + length_of(row[1:])] for row in made.tolist()]
        ended = sum(row[-1] == END for row in rows)
        print(name, settings_name, "ended", ended, "mean length", sum(map(len, rows)) / 50)
        found["targets"].append({"name": settings_name, "settings": settings, "tokens": rows})
    (HERE / name / "texts.json").write_text(json.dumps(found) + "\n")


def length_of(row: list[int]) -> int:
    """Returns the number of tokens up to the end token, or all."""
    return row.index(END) + 1 if END in row else len(row)


if __name__ == "__main__":
    main()
