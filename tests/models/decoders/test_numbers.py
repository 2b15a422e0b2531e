"""Decoders compute what transformers computes on the same files, with padding too."""

import keras_hub
import numpy as np
import pytest
import references

from kerasllm.models import decoders


@pytest.mark.parametrize("name", references.NAMES)
def test_logits_are_those_of_transformers(name):
    backbone = references.backbone_of(name)
    assert references.error_of(backbone, name) < 1e-5
    # Each weight is as it was in the file, and is given back as it was.
    stored = references.tensors_of(name)
    for key, tensor in decoders.tensors(backbone).items():
        wanted = stored.get(key, stored.get(key.removeprefix("transformer.")))
        np.testing.assert_array_equal(tensor.to_huggingface(), wanted)


def test_every_family_has_a_reference():
    models = {references.config_of(name)["model_type"] for name in references.NAMES}
    assert models == set(decoders.FAMILIES)


@pytest.mark.parametrize("name", references.FAMILIES)
def test_a_model_that_was_saved_computes_the_same(name, tmp_path):
    backbone = decoders.load_backbone(references.FOLDER / name, dropout=0.1)
    assert backbone.dropout == 0.1
    family = decoders.family_of(backbone)
    assert family.model_type == name and type(backbone) is family.backbone_cls
    family.task_cls(backbone=backbone, preprocessor=None).save_to_preset(tmp_path)
    again = decoders.fix_backbone(keras_hub.models.Backbone.from_preset(str(tmp_path)))
    assert references.error_of(again, name) < 1e-5


def test_half_precision_is_near(tmp_path):
    backbone = decoders.load_backbone(references.FOLDER / "llama", dtype="mixed_bfloat16")
    assert backbone.compute_dtype == "bfloat16"
    assert references.error_of(backbone, "llama") < 0.05


@pytest.mark.parametrize("name", references.FAMILIES)
def test_the_cache_of_generation_agrees(name):
    backbone = references.backbone_of(name)
    task = decoders.family_of(backbone).task_cls(backbone=backbone, preprocessor=None)
    expected = np.load(references.FOLDER / name / "expected.npz")
    token_ids, logits = expected["token_ids"][:1], expected["logits"][0]
    _, cache = task._build_cache(token_ids)
    # The last token again, against the cache of those before it.
    last, _, _ = task.call_with_cache(token_ids[:, -1:], cache, token_ids.shape[1] - 1)
    assert np.abs(last[0, 0] - logits[-1]).max() < 1e-5 * np.abs(logits).max()
