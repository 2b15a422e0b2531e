"""The notebook runs from its first cell to its last, and what it shows is true."""

import keras_hub
import nbformat
import numpy as np
import pytest

from notebooks.execute import execute
from tests.notebooks.executed import (
    NOTEBOOKS,
    Executed,
    assert_is_clean,
    assert_pictures,
    assert_was_executed,
    outputs_of,
)
from tests.toy import toy_rows, write_csv

NOTEBOOK = "bert_classification.ipynb"
# The batches, the loss curve, the confusion matrix.
PICTURES = ("plt.show", "training_curve_figure(", "confusion_matrix_figure(")

# Run as one more cell, to see from outside what the reader has at hand at the end.
PROBE = """
import json

print(json.dumps({
    "log": log,
    "history": history.history,
    "accuracy": report["accuracy"],
    "confusion_matrix": report["confusion_matrix"],
    "own": [found["label"] for found in classify(model, own_texts)],
    "texts": texts,
    "before": before.tolist(),
    "same": same,
}))
"""


def reloaded(run):
    """What the saved model says to the same texts in this process."""
    task = keras_hub.models.TextClassifier.from_preset(
        str(run.folder / "runs" / "notebook" / "model"), compile=False
    )
    logits = task.predict(run.values["texts"], verbose=0)
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_preset, session_cache):
    """The notebook on the toy preset and the toy reviews."""
    folder = tmp_path_factory.mktemp("notebook")
    parameters = {
        "preset": str(toy_preset),
        "train": str(write_csv(folder / "train.csv", toy_rows(240))),
        "test": str(write_csv(folder / "test.csv", toy_rows(70, seed=1))),
        "own_texts": ["a very good film .", "the plot is dull and awful ."],
        "max_length": 32,
        "epochs": 6,
        "learning_rate": 5e-3,
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERASLLM_CACHE", str(session_cache))
        return Executed(NOTEBOOK, folder, PROBE, parameters)


def test_it_runs_without_a_warning(toy):
    assert_is_clean(toy.cells)


def test_it_learns(toy):
    losses, history = toy.losses(), toy.values["history"]
    assert losses[-1] < 0.5 * losses[0]
    assert len(history["val_loss"]) == 6 and history["val_loss"][-1] < history["val_loss"][0]
    assert [row["step"] for row in toy.values["log"] if "validation" in row] == [
        7 * epoch for epoch in range(1, 7)
    ]
    assert toy.values["accuracy"] > 0.9
    assert toy.values["own"] == ["positive", "negative"]


def test_it_shows_pictures_and_tables(toy):
    assert_pictures(toy.cells, PICTURES)
    balance, metrics, per_class = (html for _, html in outputs_of(toy.cells, "text/html"))
    assert "108 (50.0%)" in balance and "validation" in balance
    assert "macro F1" in metrics and f"{toy.values['accuracy']:.4f}" in metrics
    assert "recall" in per_class and "negative" in per_class
    assert np.sum(toy.values["confusion_matrix"]) == 70


def test_keras_hub_alone_says_what_the_notebook_said(toy):
    assert toy.values["same"] == 1.0
    # The notebook may have computed in bfloat16.
    np.testing.assert_allclose(reloaded(toy), toy.values["before"], atol=0.02)


def test_a_parameter_that_the_notebook_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="learning_rat="):
        execute(nbformat.read(NOTEBOOKS / NOTEBOOK, as_version=4), tmp_path, {"learning_rat": 1e-3})


def test_the_committed_notebook_was_executed_and_tells_nothing_of_a_machine():
    assert_was_executed(NOTEBOOK, PICTURES)


@pytest.mark.slow
def test_the_whole_notebook_on_the_default_preset_and_data(tmp_path):
    whole = Executed(NOTEBOOK, tmp_path, PROBE)
    assert_is_clean(whole.cells)
    assert_pictures(whole.cells, PICTURES)
    losses = whole.losses()
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    assert whole.values["accuracy"] > 0.83
    assert np.sum(whole.values["confusion_matrix"]) == 2023
    assert whole.values["same"] > 0.95
    np.testing.assert_allclose(reloaded(whole), whole.values["before"], atol=0.05)
