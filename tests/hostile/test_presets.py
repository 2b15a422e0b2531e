"""Folders of models that are damaged, or were made to do harm: opened as they are, or refused."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasllm.errors import KerasllmError
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.text_classifier import TextClassifier
from tests.hostile.harness import refusal
from tests.toy_language_model import save_toy_decoder

ENCODER = Path(__file__).parents[1] / "reference" / "bert_tanh"
DEEP = "[" * 100_000 + "]" * 100_000
_VALUES = [
    None,
    {},
    [],
    [[]],
    {"a": 1},
    "",
    "x",
    "x" * 10_000,
    "\ud800",
    "../../../../etc/passwd",
    -1,
    0,
    1.5,
    10**12,
    True,
    float("nan"),
    "{{ 'a'|center(9000000000) }}",
]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Path:
    return save_toy_decoder(tmp_path_factory.mktemp("decoder") / "preset")


def open_classifier(folder: Path) -> TextClassifier:
    return TextClassifier.from_preset(folder, labels=["a", "b"], precision="float32")


def open_decoder(folder: Path) -> CausalLM:
    return CausalLM.from_preset(folder, precision="float32")


def with_json(source: Path, folder: Path, name: str, **values) -> Path:
    shutil.copytree(source, folder)
    settings = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(settings | values), encoding="utf-8")
    return folder


@pytest.mark.parametrize("value", [0, -1, 10**12, True, "2", None, [2]])
def test_a_number_of_layers_must_be_one(tmp_path, value):
    folder = with_json(ENCODER, tmp_path / "model", "config.json", num_hidden_layers=value)
    assert "num_hidden_layers" in refusal(open_classifier, folder)


@pytest.mark.parametrize("content", ["", "null", "[]", "{", DEEP, '{"max_length": -1}'])
def test_what_kerasllm_noted_must_be_whole(decoder, tmp_path, content):
    shutil.copytree(decoder, tmp_path / "model")
    (tmp_path / "model" / "kerasllm.json").write_text(content)
    assert "kerasllm.json is not what kerasllm wrote" in refusal(open_decoder, tmp_path / "model")


@pytest.mark.parametrize("kind", ["nan", "infinity", "integers", "complex"])
def test_weights_are_real_numbers(tmp_path, kind):
    shutil.copytree(ENCODER, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    name = "encoder.layer.1.output.dense.weight"
    with np.errstate(invalid="ignore"):
        tensors[name] = {
            "nan": lambda one: one * np.float32("nan"),
            "infinity": lambda one: one + np.float32("inf"),
            "integers": lambda one: one.astype(np.int32),
            "complex": lambda one: one.astype(np.complex64),
        }[kind](tensors[name])
    save_file(tensors, file)
    said = refusal(open_classifier, tmp_path / "model")
    assert ("NaN or infinity" in said) if kind in ("nan", "infinity") else ("real number" in said)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer.json", {"model": None}),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": None}}),
        ("tokenizer_config.json", {"chat_template": ["x"]}),
        ("tokenizer_config.json", {"chat_template": {"a": 1}}),
        ("tokenizer_config.json", {"chat_template": "{% break %}"}),
        ("tokenizer_config.json", {"chat_template": "{% for %}"}),
        ("generation_config.json", {"eos_token_id": [{}]}),
    ],
)
def test_a_text_side_that_is_none_is_refused(decoder, tmp_path, name, values):
    folder = with_json(decoder, tmp_path / "model", f"huggingface/{name}", **values)
    assert refusal(open_decoder, folder) is not None


def test_a_template_that_fills_the_memory_does_not(decoder, tmp_path):
    values = {"chat_template": "{{ 'a'|center(9000000000) }}"}
    folder = with_json(decoder, tmp_path / "model", "huggingface/tokenizer_config.json", **values)
    assert refusal(open_decoder, folder) is None
    model = open_decoder(folder)
    with pytest.raises(KerasllmError, match="512 MB"):
        model.chat_template.render([{"role": "user", "content": "a"}])


# Drawn


def damaged(source: Path, folder: Path, draw: random.Random) -> None:
    """Copies a folder, and damages a file of it."""
    shutil.copytree(source, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = draw.choice(files)
    if file.suffix == ".json" and draw.random() < 0.7:
        _change_a_value(file, draw)
        return
    content = bytearray(file.read_bytes())
    kind = draw.choice(["empty", "cut", "noise", "deep", "null", "pipe", "loop", "folder", "flip"])
    if kind in ("pipe", "loop", "folder"):
        file.unlink()
        {"pipe": os.mkfifo, "loop": lambda at: os.symlink(at, at), "folder": os.mkdir}[kind](file)
        return
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(
        {
            "empty": b"",
            "cut": bytes(content[: len(content) // 2]),
            "noise": draw.randbytes(200),
            "deep": DEEP.encode(),
            "null": b"null",
            "flip": bytes(content),
        }[kind]
    )


def _change_a_value(file: Path, draw: random.Random) -> None:
    value = json.loads(file.read_text(encoding="utf-8"))
    holder, depth = value, 0
    while isinstance(holder, (dict, list)) and holder:
        key = draw.choice(list(holder)) if isinstance(holder, dict) else 0
        inner = holder[key]
        if not (isinstance(inner, (dict, list)) and inner) or draw.random() < 0.3 or depth > 6:
            if draw.random() < 0.2:
                del holder[key]
            else:
                holder[key] = draw.choice(_VALUES)
            break
        holder, depth = inner, depth + 1
    file.write_text(json.dumps(value))


def try_out(decoder: Path, folder: Path, seed: int) -> bool:
    draw = random.Random(seed)
    source, open_model = draw.choice([(ENCODER, open_classifier), (decoder, open_decoder)])
    damaged(source, folder / str(seed), draw)
    return refusal(open_model, folder / str(seed)) is not None


def test_damaged_folders_are_opened_or_refused(decoder, tmp_path):
    assert 15 < sum(try_out(decoder, tmp_path, seed) for seed in range(60)) < 60


@pytest.mark.slow
def test_a_thousand_damaged_folders_are_opened_or_refused(decoder, tmp_path):
    assert sum(try_out(decoder, tmp_path, seed) for seed in range(60, 1060))
