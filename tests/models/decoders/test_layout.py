"""The table of names: modules as adapters name them, and kernels as matrices."""

import keras
import keras_hub
import numpy as np
import pytest
import references

from kerasllm.errors import PresetError
from kerasllm.models import decoders

LLAMA = {
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
}
MODULES = {
    "gpt2": ("transformer.h.{}.", {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
    "phi3": (
        "model.layers.{}.",
        {"self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"},
    ),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), ("model.layers.{}.", LLAMA)),
    "gemma": ("model.layers.{}.", LLAMA),
}


@pytest.mark.parametrize("name", references.FAMILIES)
def test_modules_have_the_names_of_transformers(name):
    backbone = references.backbone_of(name)
    start, names = MODULES[name]
    modules = decoders.modules(backbone)
    assert set(modules) == {start.format(n) + module for n in range(2) for module in names}
    assert {module.transposed for module in modules.values()} == {name == "gpt2"}
    fused = {"c_attn": 3, "qkv_proj": 3, "gate_up_proj": 2}
    for key, module in modules.items():
        assert len(module.layers) == fused.get(key.rpartition(".")[2], 1)
        assert f"{key}.weight" in decoders.tensors(backbone)


@pytest.mark.parametrize("name", references.FAMILIES)
def test_a_module_computes_what_its_tensor_says(name):
    backbone = references.backbone_of(name)
    stored = references.tensors_of(name)
    rng = np.random.default_rng(0)
    for key, module in decoders.modules(backbone).items():
        weight = stored[f"{key}.weight"]
        weight = weight if module.transposed else weight.T
        inputs = rng.normal(size=(2, 3, weight.shape[0])).astype("float32")
        expected = inputs @ weight + stored.get(f"{key}.bias", 0)
        outputs = []
        for layer in module.layers:
            # Attention outputs take their inputs by heads.
            first = decoders.kernel_axes(layer)[0]
            heads = [layer.kernel.shape[axis] for axis in first]
            out = keras.ops.convert_to_numpy(layer(inputs.reshape(2, 3, *heads)))
            outputs.append(out.reshape(2, 3, -1))
        if name == "gpt2" and key.endswith("c_fc"):
            expected = keras.ops.convert_to_numpy(keras.ops.gelu(expected, approximate=True))
        np.testing.assert_allclose(np.concatenate(outputs, -1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", references.FAMILIES)
def test_kernels_and_matrices_turn_into_each_other(name):
    backbone = references.backbone_of(name)
    for module in decoders.modules(backbone).values():
        for layer in module.layers:
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            matrix = decoders.as_matrix(layer, kernel)
            assert matrix.ndim == 2
            np.testing.assert_array_equal(decoders.as_kernel(layer, matrix), kernel)


@pytest.mark.parametrize("name", references.NAMES)
def test_every_weight_has_a_name(name):
    backbone = references.backbone_of(name)
    parts = [p for tensor in decoders.tensors(backbone).values() for p in tensor.parts]
    named = {id(part.variable) for part in parts}
    # Random numbers of dropouts are no weights of the model.
    weights = [w for w in backbone.weights if "seed_generator" not in w.path]
    assert named == {id(weight) for weight in weights} and len(named) == len(parts)


def test_other_backbones_have_no_such_names():
    backbone = keras_hub.models.BloomBackbone(16, 1, 2, 8, 16)
    with pytest.raises(PresetError, match="BloomBackbone is not a decoder") as caught:
        decoders.modules(backbone)
    assert "Llama3Backbone" in caught.value.fix
