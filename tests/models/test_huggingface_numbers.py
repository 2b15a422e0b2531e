"""Encoders in Hugging Face's layout compute what transformers computes with them."""

from pathlib import Path

import keras
import numpy as np
import pytest

from kerasllm.models import encoder as bert

REFERENCE = Path(__file__).parents[1] / "reference"
# KerasHub's GELU is the tanh form for BERT and ALBERT, and the exact one for the others.
SAME_GELU = 1e-5
OTHER_GELU = 2e-3


def expected(name):
    return np.load(REFERENCE / name / "expected.npz")


def outputs_of(task, numbers):
    inputs = {
        "token_ids": numbers["token_ids"],
        "padding_mask": numbers["mask"],
        "segment_ids": numbers["segments"],
    }
    found = task.backbone({name: inputs[name] for name in task.backbone.input})
    if not isinstance(found, dict):
        return keras.ops.convert_to_numpy(found), None
    return [keras.ops.convert_to_numpy(found[f"{x}_output"]) for x in ("sequence", "pooled")]


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("bert", OTHER_GELU),
        ("bert_tanh", SAME_GELU),
        ("bert_masked_lm", SAME_GELU),
        ("bert_bfloat16", SAME_GELU),
        ("bert_unigram", SAME_GELU),
        ("distilbert", SAME_GELU),
        ("roberta", SAME_GELU),
        ("roberta_classifier", SAME_GELU),
        ("xlm_roberta", SAME_GELU),
        ("albert", SAME_GELU),
    ],
)
def test_hidden_states_and_pooled_outputs_are_those_of_transformers(name, tolerance):
    numbers = expected(name)
    task = bert.build_task(REFERENCE / name, num_classes=2)
    hidden, pooled = outputs_of(task, numbers)
    real = numbers["mask"].astype(bool)
    np.testing.assert_allclose(hidden[real], numbers["hidden"][real], atol=tolerance, rtol=0)
    if pooled is not None and numbers["pooled"].size:
        np.testing.assert_allclose(pooled, numbers["pooled"], atol=tolerance, rtol=0)


FOLDERS = sorted(path.parent.name for path in REFERENCE.glob("*/config.json"))


@pytest.mark.parametrize("name", FOLDERS)
def test_texts_become_the_ids_of_transformers(name):
    numbers = expected(name)
    task = bert.build_task(REFERENCE / name, num_classes=2)
    task.preprocessor.sequence_length = numbers["ids"].shape[1]
    found = task.preprocessor(list(numbers["texts"]))["token_ids"]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), numbers["ids"])
