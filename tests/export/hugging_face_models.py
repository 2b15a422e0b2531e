"""What the tests of the transformers format share: models that transformers wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.data.tokenizers.byte_level import byte_level_json
from kerasllm.export.source import Source
from kerasllm.models import decoders
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.tasks.task import find

REFERENCE = Path(__file__).parents[1] / "reference"
CLASSIFIERS = ("bert", "distilbert", "roberta", "xlm_roberta", "albert")
DECODERS = (
    "gpt2",
    "llama",
    "llama_untied_sharded",
    "llama3",
    "mistral",
    "gemma",
    "qwen2",
    "qwen3",
    "phi3",
    "phi3_long",
)
# transformers' own rules for the words of a Qwen 2.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def classifier(name: str) -> tuple[Source, dict]:
    """A classifier that transformers wrote, and the texts, ids and logits of transformers."""
    folder = REFERENCE / "classifiers" / name
    expected = np.load(folder / "expected.npz")
    texts = [str(text) for text in expected["texts"]]
    model = TextClassifier.from_preset(folder, precision="float32")
    source = Source(find("text_classification"), model, name, 40, texts)
    return source, dict(expected)


def decoder(name: str) -> Source:
    """A decoder that transformers wrote, with a tokenizer of its size."""
    folder = REFERENCE / "decoders" / name
    backbone = decoders.load_backbone(folder)
    task = decoders.family_of(backbone).task_cls(backbone=backbone, preprocessor=None)
    model = CausalLM(task, tokenizer(), longest=decoders.max_length(folder))
    rows = ["the whale is", "a sea of whales and the ship", "ship"]
    return Source(find("causal_lm"), model, name, 64, rows)


def tokenizer() -> TokenizerJson:
    """A byte-level BPE of less than 96 tokens, with Qwen's rules for words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["<pad>", "<s>", "</s>", "Ġ", *letters, "he", "the", "Ġt", "Ġthe"]
    split = {
        "type": "Split",
        "pattern": {"Regex": QWEN_SPLIT},
        "behavior": "Isolated",
        "invert": False,
    }
    content = byte_level_json(
        {token: id for id, token in enumerate(tokens)},
        ["Ġ t", "h e", "Ġt he", "t he"],
        special_tokens=["<pad>", "<s>", "</s>"],
        splits=[split],
        normalizer={"type": "NFC"},
    )
    return TokenizerJson(
        json.dumps(content), start_token="<s>", end_token="</s>", pad_token="<pad>"
    )


def stored(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a folder, in float32."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found.update(safetensors.numpy.load_file(file))
    return {name: value.astype("float32") for name, value in found.items()}


def read(folder: Path, name: str = "config.json") -> dict:
    return json.loads((folder / name).read_text(encoding="utf-8"))
