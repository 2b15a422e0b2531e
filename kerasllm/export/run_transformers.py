"""Runs an exported folder by transformers. A script, for a process that has no TensorFlow in it:

    python -P run_transformers.py FOLDER ROWS.json OUTPUT.npz

`ROWS.json` is a list of texts, or of lists of two texts. `OUTPUT.npz` holds `logits` and, for each
row, how many tokens it has, `lengths`.

It needs torch and transformers, which are no dependencies of kerasllm, and nothing of kerasllm.
(`-P`, or Python would find the `transformers.py` beside this file instead of the library.)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

TARGET_TOKENS = 8
"""How many tokens the decoder of an encoder-decoder reads: its start token, then those of the
source."""

_ROWS_AT_ONCE = 32
_MODULES = "modules.json"


def main(folder: str, rows: str, output: str) -> None:
    """Writes the logits of an exported folder for some texts."""
    logits, lengths = logits_of(Path(folder), json.loads(Path(rows).read_text(encoding="utf-8")))
    np.savez(output, logits=logits, lengths=lengths)


def logits_of(folder: Path, rows: list) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a folder's model computes of texts, and how many tokens each has.

    Args:
        folder: An exported folder.
        rows: Texts or lists of two texts; their ends are cut as the folder's tokenizer says.

    Returns:
        float32 `[rows, outputs]`, of a language model of the token after each row; `[rows, length,
        outputs]` of a head on every token, and of an encoder-decoder of its first `TARGET_TOKENS`;
        and int64 `[rows]`.
    """
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    run, is_decoder = _model(folder)
    writes = json.loads((folder / "config.json").read_text()).get("is_encoder_decoder")
    # A language model may have no padding token.
    at_once = 1 if is_decoder else _ROWS_AT_ONCE
    found, lengths = [], []
    with torch.inference_mode():
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            columns = [some] if isinstance(some[0], str) else [list(one) for one in zip(*some)]
            inputs = tokenizer(
                *columns,
                truncation=_truncation(folder),
                padding=not is_decoder,
                return_tensors="pt",
            )
            logits = run(inputs).numpy()
            found.append(logits)
            counts = inputs["attention_mask"].sum(1).numpy()
            lengths.append(np.minimum(counts + 1, TARGET_TOKENS) if writes else counts)
    if found[0].ndim == 3:
        longest = max(part.shape[1] for part in found)
        found = [np.pad(one, [(0, 0), (0, longest - one.shape[1]), (0, 0)]) for one in found]
    return np.concatenate(found), np.concatenate(lengths)


def _model(folder: Path):
    """Returns what computes logits of inputs, and whether it is a language model."""
    import torch
    import transformers

    if (folder / _MODULES).is_file():
        return _pooled(folder), False
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    kind = "For" + architecture.rpartition("For")[2]
    auto = {
        "ForCausalLM": transformers.AutoModelForCausalLM,
        "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
        "ForTokenClassification": transformers.AutoModelForTokenClassification,
        "ForQuestionAnswering": transformers.AutoModelForQuestionAnswering,
        "ForMaskedLM": transformers.AutoModelForMaskedLM,
        "ForPreTraining": transformers.AutoModelForPreTraining,
        "ForConditionalGeneration": transformers.AutoModelForSeq2SeqLM,
        "ForMarianMTModel": transformers.AutoModelForSeq2SeqLM,
    }[kind]
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    if kind == "ForCausalLM":
        return lambda inputs: model(**inputs).logits[:, -1], True
    if kind == "ForQuestionAnswering":
        return lambda inputs: _starts_and_ends(torch, model(**inputs)), False
    if kind == "ForPreTraining":
        return lambda inputs: model(**inputs).prediction_logits, False
    if model.config.is_encoder_decoder:
        return lambda inputs: _of_targets(torch, model, inputs), False
    return lambda inputs: model(**inputs).logits, False


def _of_targets(torch, model, inputs):
    """Returns the logits of a decoder that reads its start token and then the source."""
    ids = inputs["input_ids"][:, : TARGET_TOKENS - 1]
    start = torch.full((len(ids), 1), model.config.decoder_start_token_id)
    return model(**inputs, decoder_input_ids=torch.cat([start, ids], 1)).logits


def _starts_and_ends(torch, outputs):
    return torch.stack([outputs.start_logits, outputs.end_logits], -1)


def _pooled(folder: Path):
    """Returns what sentence-transformers computes: encoder, mean, dense layer."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    dense = json.loads((folder / _MODULES).read_text())[2]["path"]
    head = load_file(folder / dense / "model.safetensors")

    def run(inputs):
        states = encoder(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None]
        pooled = (states * mask).sum(1) / mask.sum(1)
        return pooled @ head["linear.weight"].T + head["linear.bias"]

    return run


def _truncation(folder: Path) -> bool | str:
    """Returns how the folder's tokenizer cuts pairs, which transformers does not read there."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    strategy = (content.get("truncation") or {}).get("strategy")
    return "only_second" if strategy == "OnlySecond" else True


if __name__ == "__main__":
    main(*sys.argv[1:])
