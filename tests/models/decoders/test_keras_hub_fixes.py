"""What KerasHub forgets of its own arguments is put right; these fail when it no longer does."""

import keras_hub

from kerasllm.models import decoders
from kerasllm.models.layers import walk


def llama():
    return keras_hub.models.Llama3Backbone(16, 1, 2, 8, 16, 1, tie_word_embeddings=True)


def test_llama_says_whether_its_embeddings_are_tied():
    assert "tie_word_embeddings" not in llama().get_config(), "KerasHub does it now: drop the fix"
    config = decoders.fix_backbone(llama()).get_config()
    assert config["tie_word_embeddings"] is True
    again = keras_hub.models.Llama3Backbone.from_config(config)
    assert len(again.token_embedding.weights) == 1


def test_qwen3_norms_queries_and_keys_with_its_epsilon():
    built = keras_hub.models.Qwen3Backbone(16, 1, 2, 1, 4, 8, 16, layer_norm_epsilon=1e-3)
    norms = [layer for layer in walk(built.layers) if layer.name.endswith("_dense_layernorm")]
    assert len(norms) == 2
    assert {norm.epsilon for norm in norms} == {1e-5}, "KerasHub does it now: drop the fix"
    decoders.fix_backbone(built)
    assert {norm.epsilon for norm in norms} == {1e-3}


def test_others_are_left_alone():
    backbone = keras_hub.models.GPT2Backbone(16, 1, 2, 8, 16)
    before = backbone.get_config()
    assert decoders.fix_backbone(backbone) is backbone
    assert backbone.get_config() == before
