"""The notebook runs from its first cell to its last, and shows what the model wrote."""

import pytest

from tests.notebooks.executed import (
    Executed,
    assert_is_clean,
    assert_pictures,
    assert_was_executed,
    outputs_of,
)
from tests.tasks.toys.seq2seq import new_model

NOTEBOOK = "translation.ipynb"
# The loss curve.
PICTURES = ("plt.show",)
PROBE = """
import json

print(json.dumps({"test": test, "found": found, "log": run.history(as_dicts=True)}))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory, session_cache):
    folder = tmp_path_factory.mktemp("notebook")
    files = new_model(folder, None).settings
    parameters = {
        "train_file": files["data.train"],
        "test_file": files["data.test"],
        "own_texts": ["one two three", "five"],
        "layers": 1,
        "width": 32,
        "vocabulary_size": 300,
        "epochs": 4,
        "batch_size": 32,
        "learning_rate": 0.02,
        "warmup": 3,
        "beams": 2,
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERASLLM_CACHE", str(session_cache))
        return Executed(NOTEBOOK, folder, PROBE, parameters)


def test_it_learns_and_shows_what_was_written(toy):
    assert_is_clean(toy.cells)
    assert_pictures(toy.cells, PICTURES)
    assert toy.losses()[-1] < toy.losses()[0]
    assert [one["text"] for one in toy.values["found"]] == ["one two three", "five"]
    [table] = [html for source, html in outputs_of(toy.cells, "text/html") if "examples" in source]
    assert toy.values["test"]["examples"][0]["target"] in table


def test_the_committed_notebook_was_executed_and_tells_nothing_of_a_machine():
    assert_was_executed(NOTEBOOK, PICTURES)


@pytest.mark.slow
def test_the_whole_notebook_on_the_default_data(tmp_path):
    whole = Executed(NOTEBOOK, tmp_path, PROBE)
    assert_is_clean(whole.cells)
    assert whole.values["test"]["bleu"] > 80
