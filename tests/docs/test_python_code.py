"""The Python of the README, of the Python API and of encoder-decoders runs as it is written."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.toy import toy_rows, write_csv

ROOT = Path(__file__).parents[2]
PRESET = '"minilm_l6_en_uncased"'


def blocks(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture(autouse=True)
def _somewhere(tmp_path, session_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))


def test_the_readme_goes_from_import_to_prediction_in_twelve_lines(toy_preset, capsys):
    [code] = blocks("README.md")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    exec(code.replace(PRESET, repr(str(toy_preset))), {})
    assert capsys.readouterr().out.splitlines()[-1] in ("positive", "negative")
    assert keras.models.load_model("sentiment.keras").labels == ["negative", "positive"]


def test_the_page_on_the_python_api(toy_preset, tmp_path):
    rows = toy_rows(60)
    write_csv(tmp_path / "reviews.csv", rows, header=("review", "stars"))
    texts, labels = [text for text, _ in rows], [int(label == "positive") for _, label in rows]
    random = np.random.default_rng(0)
    ids = random.integers(5, 20, (16, 8)).astype("int32")
    names = {
        "keras": keras,
        "texts": texts,
        "labels": labels,
        "inputs": {
            "token_ids": ids,
            "padding_mask": np.ones_like(ids),
            "segment_ids": np.zeros_like(ids),
        },
        "topics": random.integers(0, 5, 16),
        "tones": random.normal(size=16),
    }
    found = blocks("docs/python_api.md")
    assert len(found) == 3
    for code in found:
        # One device stands for several here: a strategy needs a process of its own.
        code = code.replace(PRESET, repr(str(toy_preset))).replace('"mirrored"', '"one_device"')
        exec(code, names)
    assert names["model"].classify(["a good film"])[0]["label"] in ("0", "1")


def test_the_page_on_encoder_decoders():
    names: dict = {}
    [code] = blocks("docs/encoder_decoders.md")
    exec(code, names)
    assert names["tokenizer"].decode(names["model"].encode_source(["A man plays."])[0]) == (
        "A man plays."
    )
