"""The notebook runs from its first cell to its last, and what it shows is true."""

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
)
from tests.toy import toy_rows, write_csv

NOTEBOOK = "bert_classification.ipynb"
# The loss curve, the confusion matrix.
PICTURES = ("plt.show", "plt.show")

# Run as one more cell, to see from outside what the reader has at hand at the end.
PROBE = """
import json

print(json.dumps({
    "losses": losses.values,
    "history": history.history,
    "results": results,
    "confusion": confusion.tolist(),
    "own": [found["label"] for found in model.classify(own_texts)],
    "before": before.tolist(),
    "after": after.tolist(),
    "same": float(same),
}))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_preset, session_cache):
    """The notebook on the toy preset and the toy reviews."""
    folder = tmp_path_factory.mktemp("notebook")
    parameters = {
        "preset": str(toy_preset),
        "train_file": str(write_csv(folder / "train.csv", toy_rows(240))),
        "test_file": str(write_csv(folder / "test.csv", toy_rows(70, seed=1))),
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
    history, results = toy.values["history"], toy.values["results"]
    assert len(toy.values["losses"]) == 7 * 6
    assert len(history["val_loss"]) == 6 and history["val_loss"][-1] < 0.5 * history["val_loss"][0]
    assert results["accuracy"] > 0.9
    assert toy.values["own"] == ["positive", "negative"]


def test_it_shows_pictures_and_numbers_that_agree(toy):
    assert_pictures(toy.cells, PICTURES)
    confusion = np.array(toy.values["confusion"])
    assert confusion.sum() == 70
    assert np.trace(confusion) / 70 == pytest.approx(toy.values["results"]["accuracy"])
    shown = "".join(output.get("text", "") for cell in toy.cells for output in cell.outputs)
    assert "216 rows, of each label {'negative': 108, 'positive': 108}" in shown


def test_what_is_loaded_predicts_the_same(toy):
    assert toy.values["same"] == 1.0
    np.testing.assert_allclose(toy.values["after"], toy.values["before"], atol=0.02)


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
    assert whole.values["results"]["accuracy"] > 0.83
    assert np.sum(whole.values["confusion"]) == 2023
    assert whole.values["same"] == 1.0
    np.testing.assert_allclose(whole.values["after"], whole.values["before"], atol=0.05)
