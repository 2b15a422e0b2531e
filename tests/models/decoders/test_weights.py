"""Weights of a folder: each is used, or it is refused by name."""

import json
import weakref

import ml_dtypes
import numpy as np
import pytest
import references
import safetensors.numpy

from kerasllm.errors import PresetError
from kerasllm.models import decoders

QUERY = "model.layers.0.self_attn.q_proj.weight"


def refusal_of(folder):
    with pytest.raises(PresetError) as caught:
        decoders.load_backbone(folder)
    assert str(folder) in caught.value.where and caught.value.fix
    return caught.value.what


def test_a_missing_tensor_is_refused_by_name(tmp_path):
    tensors = references.tensors_of("llama")
    del tensors[QUERY]
    assert f"{QUERY} is missing" in refusal_of(references.copy("llama", tmp_path, tensors))


def test_an_unknown_tensor_is_refused_by_name(tmp_path):
    tensors = references.tensors_of("llama")
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(32, "float32")
    message = refusal_of(references.copy("llama", tmp_path, tensors))
    assert "self_attn.q_proj.bias is not part of" in message


def test_a_tensor_that_is_there_twice_is_refused(tmp_path):
    tensors = references.tensors_of("llama")
    tensors[QUERY.removeprefix("model.")] = tensors[QUERY] + 1
    message = refusal_of(references.copy("llama", tmp_path, tensors))
    assert f"{QUERY} occurs twice" in message


def test_a_tensor_of_another_shape_is_refused_by_name(tmp_path):
    tensors = references.tensors_of("llama")
    tensors[QUERY] = np.ascontiguousarray(tensors[QUERY][:16])
    message = refusal_of(references.copy("llama", tmp_path, tensors))
    assert f"{QUERY} has shape (16, 32)" in message and "(32, 32)" in message


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt2_bare"])
def test_a_vocabulary_that_does_not_fit_is_refused(name, tmp_path):
    folder = references.copy(name, tmp_path, vocab_size=100)
    with pytest.raises(PresetError, match="vocab_size is 100, but .* has 96 rows"):
        decoders.load_backbone(folder)


def test_an_output_layer_that_is_tied_may_be_in_the_file_too(tmp_path):
    tensors = references.tensors_of("llama")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    folder = references.copy("llama", tmp_path, tensors)
    assert references.error_of(decoders.load_backbone(folder), "llama") < 1e-5
    tensors["lm_head.weight"][3, 5] += 1e-3
    message = refusal_of(references.copy("llama", tmp_path, tensors))
    assert "lm_head.weight differs from the embeddings" in message


def test_an_output_layer_of_its_own_must_be_there(tmp_path):
    folder = references.copy("llama", tmp_path, tie_word_embeddings=False)
    assert "lm_head.weight is missing" in refusal_of(folder)


def test_tables_of_older_files_are_passed_over(tmp_path):
    tensors = references.tensors_of("gpt2_bare")
    tensors["h.0.attn.bias"] = np.ones((1, 1, 64, 64), "float32")
    tensors["h.0.attn.masked_bias"] = np.float32([-1e4])
    folder = references.copy("gpt2_bare", tmp_path, tensors)
    assert references.error_of(decoders.load_backbone(folder), "gpt2_bare") < 1e-5
    old = references.tensors_of("llama")
    old["model.layers.1.self_attn.rotary_emb.inv_freq"] = np.ones(4, "float32")
    folder = references.copy("llama", tmp_path / "llama", old)
    assert references.error_of(decoders.load_backbone(folder), "llama") < 1e-5


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_precision_files_are_read(dtype, tmp_path):
    tensors = {key: value.astype(dtype) for key, value in references.tensors_of("llama").items()}
    backbone = decoders.load_backbone(references.copy("llama", tmp_path, tensors))
    for key, tensor in decoders.tensors(backbone).items():
        assert {part.variable.dtype for part in tensor.parts} == {"float32"}
        np.testing.assert_array_equal(tensor.to_huggingface(), tensors[key].astype("float32"))


def test_a_shard_that_is_missing_or_elsewhere_is_refused(tmp_path):
    folder = references.copy("llama_untied_sharded", tmp_path)
    index = folder / "model.safetensors.index.json"
    shard = min(json.loads(index.read_text())["weight_map"].values())
    (folder / shard).rename(folder / "other")
    assert f"{shard} is missing" in refusal_of(folder)
    index.write_text(json.dumps({"weight_map": {QUERY: "../other"}}))
    assert "'../other' is not the name of a file" in refusal_of(folder)


def test_a_broken_file_is_refused(tmp_path):
    folder = references.copy("llama", tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors cannot be read" in refusal_of(folder)


def test_a_pickle_is_not_opened(tmp_path):
    folder = references.copy("llama", tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PresetError, match="pytorch_model.bin only: a pickle") as caught:
        decoders.load_backbone(folder)
    assert "AutoModelForCausalLM" in caught.value.fix


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PresetError, match="not a model folder"):
        decoders.load_backbone(tmp_path / "nowhere")


def test_weights_are_read_one_at_a_time(tmp_path, monkeypatch):
    alive, most = [], 0
    opened = safetensors.safe_open

    class Watched:
        def __init__(self, *arguments, **options):
            self.file = opened(*arguments, **options)

        def __enter__(self):
            self.inside = self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self.inside, name)

        def get_tensor(self, name):
            nonlocal most
            value = self.inside.get_tensor(name)
            alive.append(weakref.ref(value))
            most = max(most, sum(reference() is not None for reference in alive))
            return value

    monkeypatch.setattr(safetensors, "safe_open", Watched)
    decoders.load_backbone(references.FOLDER / "llama")
    assert len(alive) == 20 and most <= 2


def test_the_longest_text_and_the_kind_of_path_are_told(tmp_path):
    assert decoders.max_length(references.FOLDER / "llama") == 64
    assert decoders.max_length(references.FOLDER / "gpt2") == 64
    assert decoders.read_config(references.FOLDER / "gpt2")["eos_token_id"] == 2
    assert decoders.is_decoder(references.FOLDER / "gpt2")
    assert not decoders.is_decoder(tmp_path) and not decoders.is_decoder("gpt2_base_en")
