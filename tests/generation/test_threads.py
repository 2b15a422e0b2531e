"""Where a core computes each operation, products are cut into parts, and nothing else changes."""

import json
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from kerasllm.generation import threads
from kerasllm.generation.forward import dense
from kerasllm.generation.threads import cores_for_text, parts_of


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.setattr(threads, "computes_bfloat16", lambda: True)


@pytest.fixture
def llama(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"class_name": "Llama3Backbone"}))
    (tmp_path / "metadata.json").write_text("{}")
    return tmp_path


def test_only_decoders_in_bfloat16_on_two_to_four_cores(two_cores, llama, monkeypatch):
    monkeypatch.setattr(threads.presets, "resolve", lambda preset: preset)
    assert [cores_for_text(llama, how) for how in ("auto", "bfloat16", "mixed_bfloat16")] == [2] * 3
    assert cores_for_text(llama, "float32") == 1
    for name in ("Gemma3Backbone", "T5Backbone"):
        (llama / "config.json").write_text(json.dumps({"class_name": name}))
        assert cores_for_text(llama, "auto") == 1
    for kind, cores in (("qwen2", 2), ("phi3", 1)):
        (llama / "config.json").write_text(json.dumps({"model_type": kind}))
        assert cores_for_text(llama, "auto") == cores
    (llama / "config.json").unlink()
    assert cores_for_text(llama, "auto") == 1
    (llama / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    for count, cores in ((1, 1), (4, 4), (8, 1)):
        monkeypatch.setattr(threads, "available_cores", lambda: count)
        assert cores_for_text(llama, "auto") == cores
    monkeypatch.setenv("KERASLLM_SLICES", "0")
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    assert cores_for_text(llama, "auto") == 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_product_in_parts_is_the_whole_product(packed, with_bias, monkeypatch):
    weights = {"weight": tf.random.stateless_normal([12, 32], (1, 2))}
    if with_bias:
        weights["bias"] = tf.random.stateless_normal([12], (3, 4))
    x = tf.random.stateless_normal([3, 32], (5, 6))
    expected = x @ tf.transpose(weights["weight"]) + weights.get("bias", 0.0)
    for parts in (1, 2, 4):
        monkeypatch.setattr(threads, "operations_at_once", lambda: parts)
        product = tf.function(lambda x: dense(weights, x, packed), autograph=False)
        names = [op.type for op in product.get_concrete_function(x).graph.get_operations()]
        assert sum(name in ("MatMul", "_MklNativeFusedMatMul") for name in names) == parts
        assert tf.reduce_max(tf.abs(product(x) - expected)) < 1e-5


def test_what_cannot_be_cut_without_a_copy_stays_whole(monkeypatch):
    monkeypatch.setattr(threads, "operations_at_once", lambda: 2)
    assert parts_of(tf.zeros([12, 32])) == 2
    assert parts_of(tf.zeros([13, 32])) == 1
    # Rows of 20 bytes: a part would begin where the processor cannot load it.
    assert parts_of(tf.zeros([12, 5])) == 1


_SET = """
from kerasllm.runtime.startup import prepare_process
from kerasllm.generation import threads
threads.available_cores = lambda: 2
threads.computes_bfloat16 = lambda: True
threads.presets.resolve = lambda preset: preset
import kerasllm.runtime.threads as runtime
runtime.available_cores = lambda: 2
prepare_process(slices=threads.cores_for_text(FOLDER, "auto"))
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads(), runtime.operations_at_once())
"""


def test_nothing_starts_tensorflow_before_its_threads_are_set(llama):
    made = subprocess.run(
        [sys.executable, "-c", _SET.replace("FOLDER", repr(str(llama)))],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    assert made.stdout.split() == ["1", "2"]
