"""SmolLM2-135M-Instruct out of its wheel computes what transformers computes with it."""

import keras
import numpy as np
import pytest
import references

from kerasllm.models import decoders, presets


@pytest.mark.slow
def test_the_preset_computes_what_transformers_computes():
    file = presets.resolve("smollm2_135m_instruct")
    backbone = decoders.load_backbone(file)
    assert backbone.count_params() == 134_515_008
    assert backbone.layer_norm_epsilon == 1e-5 and backbone.rope_max_wavelength == 1e5
    expected = np.load(references.FOLDER.parent / "smollm2.npz")
    hidden = backbone({"token_ids": expected["token_ids"], "padding_mask": expected["mask"]})
    logits = keras.ops.convert_to_numpy(backbone.token_embedding(hidden, reverse=True))
    seen = expected["mask"].astype(bool)
    error = np.abs(logits[..., expected["columns"]] - expected["logits"])[seen].max()
    assert error < 1e-4 * np.abs(expected["largest"][seen]).max()
    np.testing.assert_allclose(logits.max(-1)[seen], expected["largest"][seen], rtol=1e-4)
    np.testing.assert_array_equal(logits.argmax(-1)[seen], expected["likeliest"][seen])

    tokenizer = decoders.read_tokenizer(file)
    assert (tokenizer.model, tokenizer.pre, tokenizer.add_bos) == ("gpt2", "smollm", False)
    assert len(tokenizer.tokens) == backbone.vocabulary_size
    assert "<|im_start|>" in tokenizer.chat_template
