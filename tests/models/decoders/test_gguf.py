"""GGUF files: the same numbers as from a folder, and everything else refused by name."""

import struct

import gguf
import gguf_files
import hypothesis.strategies as st
import numpy as np
import pytest
import references
from hypothesis import HealthCheck, given, settings

from kerasllm.errors import PresetError
from kerasllm.models import decoders

LONG_FACTORS = {
    "rope_factors_short.weight": np.float32([1.0, 1.1, 1.3, 1.6]),
    "rope_factors_long.weight": np.float32([1.0, 1.5, 2.5, 4.0]),
}
# sqrt(1 + log(64 / 8) / log(8))
LONG_SCALE = 2.0**0.5
VOCABULARY = {
    "tokenizer__ggml__model": "gpt2",
    "tokenizer__ggml__pre": "smollm",
    "tokenizer__ggml__tokens": ["<e>", "a", "b", "ab"],
    "tokenizer__ggml__token_type": [3, 1, 1, 1],
    "tokenizer__ggml__merges": ["a b"],
    "tokenizer__ggml__eos_token_id": 0,
    "tokenizer__chat_template": "{{ messages }}",
}


def refusal_of(file, load=decoders.load_backbone):
    with pytest.raises(PresetError) as caught:
        load(file)
    assert str(file) in caught.value.where and caught.value.fix
    return f"{caught.value.what} ({caught.value.where})"


@pytest.mark.parametrize("name", ["gemma", "gpt2", "llama", "phi3", "qwen3"])
def test_logits_are_those_of_transformers(name, tmp_path):
    file = gguf_files.write(tmp_path / "x.gguf", name)
    backbone = decoders.load_backbone(file, dropout=0.1)
    assert decoders.family_of(backbone).model_type == name and backbone.dropout == 0.1
    assert references.error_of(backbone, name) < 1e-5
    assert decoders.is_decoder(file) and decoders.max_length(file) == 64


def test_an_output_layer_of_its_own_is_read(tmp_path):
    file = gguf_files.write(tmp_path / "x.gguf", "llama_untied_sharded")
    assert references.error_of(decoders.load_backbone(file), "llama_untied_sharded") < 1e-5


def test_positions_that_are_stretched_are_read(tmp_path):
    file = gguf_files.write(
        tmp_path / "x.gguf",
        "qwen2",
        **{".rope__scaling__type": "linear", ".rope__scaling__factor": 2.5},
    )
    assert references.error_of(decoders.load_backbone(file), "qwen2") < 1e-5


def test_positions_of_two_kinds_are_read(tmp_path):
    tensors = {**gguf_files.tensors_of("phi3_long"), **LONG_FACTORS}
    file = tmp_path / "x.gguf"
    gguf_files.write(file, "phi3_long", tensors, **{".rope__scaling__attn_factor": LONG_SCALE})
    assert references.error_of(decoders.load_backbone(file), "phi3_long") < 1e-5
    gguf_files.write(file, "phi3_long", tensors, **{".rope__scaling__attn_factor": 1.5})
    assert "rope.scaling.attn_factor is 1.5" in refusal_of(file)
    del tensors["rope_factors_short.weight"]
    gguf_files.write(file, "phi3_long", tensors, **{".rope__scaling__attn_factor": LONG_SCALE})
    assert "rope_factors_short.weight is missing" in refusal_of(file)


def test_positions_of_llama_3_are_found_in_their_tensor(tmp_path):
    # As the converter computes them, for heads 8 wide and base 500000.
    lengths = 2 * np.pi * 500000.0 ** (np.arange(4) / 4)
    smooth = (8192 / lengths - 1) / 3
    middle = 1 / ((1 - smooth) / 32 + smooth)
    factors = np.where(lengths < 2048, 1, np.where(lengths > 8192, 32, middle))
    tensors = {**gguf_files.tensors_of("llama3"), "rope_freqs.weight": factors.astype("float32")}
    file = tmp_path / "x.gguf"
    backbone = decoders.load_backbone(gguf_files.write(file, "llama3", tensors))
    assert backbone.rope_frequency_adjustment_factor == 32.0
    assert backbone.rope_pretraining_sequence_length == 8192
    tensors["rope_freqs.weight"] = factors.astype("float32") * 1.01
    assert "rope_freqs.weight holds other" in refusal_of(gguf_files.write(file, "llama3", tensors))


def _blocks(kind, shape):
    """Makes random blocks of a type that the library reads and does not write."""
    rows, (block, size) = shape[0], gguf.GGML_QUANT_SIZES[kind]
    count = shape[1] // block
    data = np.random.default_rng(0).integers(0, 256, (rows, count, size), "uint8")
    scales = np.random.default_rng(1).uniform(0.001, 0.01, (rows, count, 2)).astype("float16")
    if kind.name == "Q4_K":
        data[..., :4] = scales.view("uint8")
    else:
        data[..., -2:] = scales[..., :1].view("uint8")
    return data.reshape(rows, -1)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"])
def test_each_type_is_dequantised(kind, tmp_path):
    kind = gguf.GGMLQuantizationType[kind]
    width = 256
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd": (8, width), "output_norm": (width,), "blk.0.attn_norm": (width,),
        "blk.0.attn_q": (width, width), "blk.0.attn_k": (128, width), "blk.0.attn_v": (128, width),
        "blk.0.attn_output": (width, width), "blk.0.ffn_norm": (width,),
        "blk.0.ffn_gate": (width, width), "blk.0.ffn_up": (width, width),
        "blk.0.ffn_down": (width, width),
    }  # fmt: skip
    tensors, types = {}, {}
    for name, shape in shapes.items():
        key = f"{name}.weight"
        tensors[key] = rng.normal(0, 0.2, shape).astype("float32")
        if len(shape) == 2 and kind.name in ("Q4_K", "Q6_K"):
            tensors[key], types[key] = _blocks(kind, shape), kind
        elif len(shape) == 2:
            tensors[key], types[key] = gguf.quantize(tensors[key], kind), kind
    changes = {".block_count": 1, ".embedding_length": width, ".feed_forward_length": width,
               ".attention__key_length": 64, ".attention__value_length": 64}  # fmt: skip
    file = gguf_files.write(tmp_path / "x.gguf", "llama", tensors, types=types, **changes)
    read = decoders.tensors(decoders.load_backbone(file))
    gate = read["model.layers.0.mlp.gate_proj.weight"].to_huggingface()
    expected = gguf.dequantize(tensors["blk.0.ffn_gate.weight"], kind)
    np.testing.assert_array_equal(gate, expected)
    assert np.unique(gate).size > 100 and np.isfinite(gate).all()
    for ours, theirs, heads in (("q_proj", "attn_q", 4), ("k_proj", "attn_k", 2)):
        value = read[f"model.layers.0.self_attn.{ours}.weight"].to_huggingface()
        stored = gguf.dequantize(tensors[f"blk.0.{theirs}.weight"], kind)
        np.testing.assert_array_equal(gguf_files.permute(value, heads), stored)


def test_another_type_is_refused(tmp_path):
    tensors = gguf_files.tensors_of("llama")
    kind = gguf.GGMLQuantizationType.Q5_0
    tensors["blk.1.ffn_up.weight"] = gguf.quantize(tensors["blk.1.ffn_up.weight"], kind)
    file = gguf_files.write(
        tmp_path / "x.gguf", "llama", tensors, types={"blk.1.ffn_up.weight": kind}
    )
    assert "tensor blk.1.ffn_up.weight is of type Q5_0" in refusal_of(file)


def test_an_unknown_architecture_is_refused(tmp_path):
    file = gguf_files.write(tmp_path / "x.gguf", "llama", architecture="mamba")
    assert "the architecture is 'mamba'" in refusal_of(file)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (".attention__sliding_window", 512, "sliding_window is 512"),
        (".attention__clamp_kqv", 8.0, "llama.attention.clamp_kqv is 8.0"),
        (".expert_count", 8, "llama.expert_count is 8"),
        (".rope__dimension_count", 4, "llama.rope.dimension_count is 4; heads are 8 wide"),
        (".attention__value_length", 16, "llama.attention.value_length is 16"),
        (".attention__key_length", 16, "value_length is 8; heads are 16 wide"),
        (".rope__scaling__type", "yarn", "llama.rope.scaling.type is 'yarn'"),
        (".rope__scaling__factor", 4.0, "rope_type is 'linear'"),
        (".rope__scaling__attn_factor", 1.2, "llama.rope.scaling.attn_factor is 1.2"),
        (".attention__layer_norm_rms_epsilon", ..., "layer_norm_rms_epsilon is missing"),
        (".block_count", ..., "num_hidden_layers must be"),
        (".block_count", 3, "model.layers.2.input_layernorm.weight is missing"),
        (".vocab_size", 100, "vocab_size is 100, but token_embd.weight has 96 rows"),
        (".attention__head_count", [4, 4], "num_attention_heads must be"),
        ("general__type", "adapter", "general.type is 'adapter'"),
        ("split__count", 3, "split.count is 3; the file is one of several parts"),
        ("qwen2__block_count", 3, "qwen2.block_count is 3"),
        (".rope__freq_base", "large", "rope_theta must be a number above 1, got 'large'"),
        ("split__count", "three", "split.count is 'three'"),
    ],
)
def test_what_the_metadata_says_is_honoured_or_refused(key, value, message, tmp_path):
    file = gguf_files.write(tmp_path / "x.gguf", "llama", **{key: value})
    assert message in refusal_of(file)


def test_what_says_nothing_about_the_numbers_passes(tmp_path):
    file = gguf_files.write(
        tmp_path / "x.gguf",
        "llama",
        **{
            "general__name": "x",
            "general__file_type": 3,
            ".rope__scaling__type": "none",
            ".rope__dimension_count": 8,
            ".vocab_size": 96,
            "split__count": 1,
            **VOCABULARY,
        },
    )
    assert references.error_of(decoders.load_backbone(file), "llama") < 1e-5
    assert decoders.read_config(file)["eos_token_id"] == 0


def test_tensors_are_used_or_refused(tmp_path):
    tensors = gguf_files.tensors_of("llama")
    file = tmp_path / "x.gguf"
    extra = {**tensors, "blk.0.ffn_gate_inp.weight": np.zeros((2, 32), "float32")}
    message = refusal_of(gguf_files.write(file, "llama", extra))
    assert "blk.0.ffn_gate_inp.weight is not part of" in message
    extra = {**tensors, "blk.0.attn_q.bias": np.zeros(32, "float32")}
    assert "blk.0.attn_q.bias is not part of" in refusal_of(gguf_files.write(file, "llama", extra))
    # A copy of the embeddings, which a converter wrote once, and a layer of its own.
    gpt2 = gguf_files.tensors_of("gpt2")
    copied = {**gpt2, "output.weight": gpt2["token_embd.weight"]}
    backbone = decoders.load_backbone(gguf_files.write(file, "gpt2", copied))
    assert references.error_of(backbone, "gpt2") < 1e-5
    copied["output.weight"] = gpt2["token_embd.weight"] * 2
    message = refusal_of(gguf_files.write(file, "gpt2", copied))
    assert "output.weight differs from the embeddings" in message


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    file = tmp_path_factory.mktemp("gguf") / "x.gguf"
    return gguf_files.write(file, "llama", **VOCABULARY).read_bytes()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(whole, tmp_path, share):
    file = tmp_path / "x.gguf"
    file.write_bytes(whole[: int(len(whole) * share)])
    for load in (decoders.load_backbone, decoders.read_tokenizer, decoders.read_config):
        message = refusal_of(file, load)
        assert "truncated" in message or "is not a GGUF file" in message


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 3000), byte=st.integers(0, 255))
def test_a_broken_header_ends_in_a_refusal_or_not_at_all(whole, tmp_path, place, byte):
    file = tmp_path / "x.gguf"
    file.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    for load in (decoders.read_config, decoders.read_tokenizer):
        try:
            load(file)
        except PresetError as error:
            assert error.fix


def test_a_length_that_no_file_has_is_refused_at_once(whole, tmp_path):
    file = tmp_path / "x.gguf"
    for name, kind in ((b"token_type", 5), (b"merges", 8)):
        start = whole.index(b"tokenizer.ggml." + name) + len(b"tokenizer.ggml." + name)
        assert struct.unpack_from("<II", whole, start) == (9, kind)
        huge = struct.pack("<Q", 2**40)
        file.write_bytes(whole[: start + 8] + huge + whole[start + 16 :])
        assert "truncated or broken" in refusal_of(file)
    assert "truncated or broken" in refusal_of(tmp_path / "x.gguf", decoders.read_tokenizer)


def test_another_file_and_no_file_are_refused(tmp_path):
    file = tmp_path / "x.gguf"
    file.write_bytes(b"PK\x03\x04 and more")
    assert "x.gguf is not a GGUF file" in refusal_of(file)
    with pytest.raises(PresetError, match="cannot be read: No such file"):
        decoders.read_tokenizer(tmp_path / "gone.gguf")


def test_the_tokenizer_comes_out_as_it_is_in_the_file(tmp_path):
    file = gguf_files.write(tmp_path / "x.gguf", "llama", **VOCABULARY)
    assert decoders.read_tokenizer(file) == decoders.GGUFTokenizer(
        model="gpt2", pre="smollm", tokens=["<e>", "a", "b", "ab"], token_types=[3, 1, 1, 1],
        merges=["a b"], scores=None, bos_id=None, eos_id=0, unk_id=None, pad_id=None,
        add_bos=False, add_eos=False, add_space_prefix=False, chat_template="{{ messages }}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "added"),
    [
        ({"tokenizer__ggml__pre": "llama-bpe"}, True),
        ({"tokenizer__ggml__pre": "llama-bpe", "tokenizer__ggml__add_bos_token": False}, False),
        ({"tokenizer__ggml__model": "llama"}, True),
        ({"tokenizer__ggml__add_bos_token": True}, True),
        ({}, False),
    ],
)
def test_a_missing_flag_means_what_it_means_in_llama_cpp(changes, added, tmp_path):
    values = {**VOCABULARY, "tokenizer__ggml__bos_token_id": 0, **changes}
    file = gguf_files.write(tmp_path / "x.gguf", "llama", **values)
    assert decoders.read_tokenizer(file).add_bos is added


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokens", ..., "has no tokenizer in it"),
        ("model", ..., "has no tokenizer in it"),
        ("token_type", [1], "token_type has 1 entries for 4 tokens"),
        ("scores", [1.0], "scores has 1 entries"),
        ("token_type", 3, "token_type has no list of entries"),
        ("merges", "a b", "merges has no list of entries"),
        ("eos_token_id", "<e>", "eos_token_id is '<e>'"),
        ("eos_token_id", 4, "eos_token_id is 4, but there are 4 tokens"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(key, value, message, tmp_path):
    values = {**VOCABULARY, f"tokenizer__ggml__{key}": value}
    file = gguf_files.write(tmp_path / "x.gguf", "llama", **values)
    assert message in refusal_of(file, decoders.read_tokenizer)
