"""Presets and runs on an object store, fetched into the cache."""

import json
from pathlib import Path

import pytest

from kerasllm.errors import PresetError, RunError
from kerasllm.models.presets import resolve
from tests.storage.servers import KEY, SECRET

FILES = {
    "config.json": json.dumps({"model_type": "bert"}).encode(),
    "model.safetensors": b"weights",
    "vocab.txt": b"[PAD]\n",
    "assets/tokenizer/vocab.txt": b"[PAD]\n",
    "pytorch_model.bin": b"a pickle",
    ".cache/note.json": b"{}",
}


@pytest.fixture
def preset(s3):
    for name, content in FILES.items():
        s3.put("bucket", f"models/mine/{name}", content)
    return "s3://bucket/models/mine/"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_a_preset_is_fetched_without_pickles(s3, preset, own_cache):
    told = []
    folder = resolve(preset, told.append)
    assert files(folder) == [
        "assets/tokenizer/vocab.txt",
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]
    assert folder.is_relative_to(own_cache) and folder.name == "mine"
    assert told[0] == f"looking for {preset}" and any("downloading" in line for line in told)
    del told[:]
    assert resolve(preset, told.append) == folder and len(told) == 1, "nothing is fetched twice"


def test_a_preset_that_changed_is_fetched_again(s3, preset):
    before = resolve(preset)
    s3.put("bucket", "models/mine/model.safetensors", b"weights that learned more")
    after = resolve(preset)
    assert (after / "model.safetensors").read_bytes() == b"weights that learned more"
    assert (before / "model.safetensors").read_bytes() == b"weights", "who uses it keeps it"


def test_a_damaged_copy_is_replaced(s3, preset):
    file = resolve(preset) / "model.safetensors"
    file.write_bytes(b"w-ights")
    assert (resolve(preset) / "model.safetensors").read_bytes() == b"weights"


def test_credentials_in_the_address_of_a_preset(s3, preset, own_cache, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    resolve(preset.replace("://", f"://{KEY}:{SECRET}@"))
    for path in own_cache.rglob("*"):
        assert KEY not in str(path)
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_a_run_is_a_preset_without_its_checkpoints(s3):
    for name, content in FILES.items():
        s3.put("bucket", f"run/model/{name}", content)
    s3.put("bucket", "run/checkpoints/step-1/arrays.safetensors", b"large")
    s3.put("bucket", "run/recipe.yaml", b"task: text_classification\n")
    with pytest.raises(RunError, match="did not finish") as caught:
        resolve("s3://bucket/run")
    assert "--resume --output s3://bucket/run" in caught.value.fix
    s3.put("bucket", "run/metrics.json", b"{}")
    folder = resolve("s3://bucket/run")
    assert folder.name == "model" and not (folder.parent / "checkpoints").exists()


def test_a_gguf_file_of_a_web_server(web):
    address = web.serve("/small.gguf", b"GGUF")
    assert resolve(address).read_bytes() == b"GGUF"
    with pytest.raises(PresetError, match=r"ends in \.gguf"):
        resolve(web.serve("/model.zip", b"PK"))


def test_what_is_not_there(s3):
    with pytest.raises(PresetError, match="There is no such folder") as caught:
        resolve("s3://bucket/none")
    assert caught.value.where == "s3://bucket/none"
    s3.put("bucket", "data/part-0.csv", b"text,label\n")
    with pytest.raises(PresetError, match="neither a run nor a model") as caught:
        resolve("s3://bucket/data")
    assert caught.value.where == "s3://bucket/data"
