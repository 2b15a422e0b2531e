"""Tensors of a Hugging Face folder: completed, moved or refused, never silently dropped."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasllm.errors import PresetError
from kerasllm.models import encoder as bert
from kerasllm.models.huggingface import staged

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture
def folder(tmp_path):
    """Copies a reference folder, with its tensors changed by a function."""

    def copy(name, change=lambda tensors: tensors):
        target = tmp_path / name
        shutil.copytree(REFERENCE / name, target)
        tensors = load_file(target / "model.safetensors")
        save_file(change(tensors), target / "model.safetensors")
        return target

    return copy


def without(*names):
    return lambda tensors: {key: tensors[key] for key in tensors if key not in names}


def test_a_file_that_is_right_is_not_copied():
    with staged(REFERENCE / "bert") as stage:
        assert (stage.folder / "model.safetensors").is_symlink()
        made = stage.folder
    assert not made.exists()


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "albert"])
def test_a_missing_tensor_is_named(folder, name):
    table = "embeddings.position_embeddings.weight"
    with pytest.raises(PresetError, match=f"tensor {table} is missing"):
        bert.build_task(folder(name, without(table)), 2)


def test_a_tensor_of_another_shape_is_named(folder):
    key = "encoder.layer.1.output.dense.bias"
    changed = folder("bert", lambda tensors: {**tensors, key: np.zeros(33, "float32")})
    with pytest.raises(PresetError, match=r"layer.1.output.dense.bias has shape \(33,\)"):
        bert.build_task(changed, 2)


def test_a_tensor_that_kerashub_has_no_place_for_is_refused(folder):
    key = "encoder.layer.0.attention.self.distance_embedding.weight"
    changed = folder("bert", lambda tensors: {**tensors, key: np.zeros((3, 8), "float32")})
    with pytest.raises(PresetError, match="distance_embedding.weight is not part of"):
        bert.build_task(changed, 2)
    with pytest.raises(PresetError, match="layer.2"):
        config = json.loads((changed / "config.json").read_text())
        more = {f"encoder.layer.2.{i}": np.zeros(1, "float32") for i in "ab"}
        save_file({**load_file(REFERENCE / "bert/model.safetensors"), **more}, changed / "x")
        (changed / "x").rename(changed / "model.safetensors")
        (changed / "config.json").write_text(json.dumps(config))
        bert.build_task(changed, 2)


def test_heads_and_buffers_are_left_out(folder):
    extra = {
        "embeddings.position_ids": np.zeros((1, 24), "int64"),
        "classifier.weight": np.zeros((2, 32), "float32"),
        "cls.predictions.bias": np.zeros(60, "float32"),
    }
    task = bert.build_task(folder("bert", lambda tensors: {**tensors, **extra}), 2)
    same = bert.build_task(REFERENCE / "bert", 2)
    for ours, theirs in zip(task.backbone.weights, same.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_encoders_in_one_file_are_refused(folder):
    def twice(tensors):
        return {f"{side}.{k}": v for side in ("query", "passage") for k, v in tensors.items()}

    with pytest.raises(PresetError, match="2 tables of word embeddings: "):
        bert.build_task(folder("bert", twice), 2)


def test_a_new_pooler_is_the_same_each_time_and_trains_with_the_head():
    first = bert.build_task(REFERENCE / "bert_masked_lm", 2, freeze="backbone")
    second = bert.build_task(REFERENCE / "bert_masked_lm", 2, freeze="backbone")
    kernel = first.backbone.pooled_dense.kernel
    np.testing.assert_array_equal(kernel, second.backbone.pooled_dense.kernel)
    assert 0.01 < np.std(kernel) < 0.03
    trains = {weight.path for weight in first.trainable_weights}
    assert trains == {"pooled_dense/kernel", "pooled_dense/bias", "logits/kernel", "logits/bias"}
    read = bert.build_task(REFERENCE / "bert", 2, freeze="backbone")
    assert {w.path for w in read.trainable_weights} == {"logits/kernel", "logits/bias"}


def test_a_new_pooler_trains_beside_adapters():
    def trained(name):
        task = bert.build_task(REFERENCE / name, 2, lora={"rank": 2})
        return {w.path for w in task.trainable_weights if "lora" not in w.path}

    head = {"logits/kernel", "logits/bias"}
    assert trained("bert_masked_lm") == {"pooled_dense/kernel", "pooled_dense/bias"} | head
    assert trained("bert") == head


def test_half_a_pooler_is_not_a_pooler(folder):
    with pytest.raises(PresetError, match="pooler.dense.bias is missing"):
        bert.build_task(folder("bert", without("pooler.dense.bias")), 2)


def test_weights_in_several_files_are_read(folder):
    target = folder("roberta_classifier")
    tensors = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    index = {}
    for number, keys in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2])):
        file = f"model-{number}.safetensors"
        save_file({key: tensors[key] for key in keys}, target / file)
        index.update(dict.fromkeys(keys, file))
    (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    task = bert.build_task(target, 2)
    same = bert.build_task(REFERENCE / "roberta_classifier", 2)
    for ours, theirs in zip(task.backbone.weights, same.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)

    index[next(iter(index))] = "../../elsewhere.safetensors"
    (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(PresetError, match="is not the name of a file"):
        bert.build_task(target, 2)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04 a pickle of old"])
def test_a_broken_file_is_refused(folder, content):
    target = folder("bert")
    (target / "model.safetensors").write_bytes(content)
    with pytest.raises(PresetError, match="model.safetensors cannot be read"):
        bert.build_task(target, 2)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (b'{"weight_map": {"a": "model-0.saf', "cannot be read"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "does not say which file"),
        (b'{"weight_map": null}', "does not say which file"),
        (b'{"weight_map": ["model.safetensors"]}', "does not say which file"),
        (b'{"weight_map": {"a": 7, "b": "x"}}', "does not say which file"),
        (b'{"weight_map": {"a": "gone.safetensors"}}', "gone.safetensors is missing"),
        (b'{"weight_map": {"a": "pipe"}}', "pipe is missing"),
        (b'{"weight_map": {"a": "loop"}}', "loop is missing"),
        (b'{"weight_map": {"a": ".."}}', ".. is missing"),
        (b'{"weight_map": {"a": "pytorch_model.bin"}}', "cannot be read"),
        (b'{"weight_map": {}}', "has 0 tables of word embeddings"),
    ],
)
def test_a_forged_index_is_refused(folder, index, said):
    target = folder("bert")
    (target / "model.safetensors").unlink()
    (target / "model.safetensors.index.json").write_bytes(index)
    (target / "pytorch_model.bin").write_bytes(b"PK\x03\x04 a pickle")
    os.mkfifo(target / "pipe")
    (target / "loop").symlink_to("loop")
    with pytest.raises(PresetError, match=said):
        bert.build_task(target, 2)
