"""What KerasHub 0.32's backbones forget of their own arguments, put right on a built one.

`tests/models/decoders/test_keras_hub_fixes.py` fails when KerasHub does it itself; then this file
can go.
"""

from __future__ import annotations

import keras_hub

from kerasllm.models.layers import walk


def fix_backbone(backbone: keras_hub.models.Backbone) -> keras_hub.models.Backbone:
    """Makes a backbone compute and save what it was built with.

    - Llama does not write `tie_word_embeddings` into its configuration, so that a model with tied
      embeddings would be saved, and come back untied with a random output layer.
    - Qwen 3 does not hand `layer_norm_epsilon` to the norms of queries and keys.

    Call it on every backbone that was built or loaded; others are left as they are.

    Args:
        backbone: Any KerasHub backbone; changed in place.

    Returns:
        The same backbone.
    """
    if isinstance(backbone, keras_hub.models.LlamaBackbone):
        own = type(backbone).get_config

        def get_config() -> dict:
            return {**own(backbone), "tie_word_embeddings": backbone.tie_word_embeddings}

        backbone.get_config = get_config
    if isinstance(backbone, keras_hub.models.Qwen3Backbone):
        for layer in walk(backbone.transformer_layers):
            if layer.name in ("query_dense_layernorm", "key_dense_layernorm"):
                layer.epsilon = backbone.layer_norm_epsilon
    return backbone
