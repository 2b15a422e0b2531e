"""KerasHub's T5 warns of masks that it uses; ours does not."""

import warnings

import keras_hub
import pytest
import references_of_pairs as references

SIZES = {
    "vocabulary_size": 9,
    "num_layers": 1,
    "num_heads": 1,
    "hidden_dim": 4,
    "intermediate_dim": 4,
}


def test_a_t5_that_is_opened_and_called_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Layer .* mask", UserWarning)
        model = references.without_tokenizer(references.FOLDER / "t5_gated")
        assert references.error_of(model, "t5_gated") < 1e-4


def test_keras_hub_still_warns():
    with pytest.warns(UserWarning, match="mask attached to it"):
        keras_hub.models.T5Backbone(**SIZES)
