"""The notebook runs from its first cell to its last, and draws entities where they are."""

import pytest

from tests.notebooks.executed import (
    Executed,
    assert_is_clean,
    assert_pictures,
    assert_was_executed,
    outputs_of,
)
from tests.tasks.toys.token_classification import entities
from tests.toy import save_toy_preset

NOTEBOOK = "named_entities.ipynb"
# The loss curve, the F1 of each type.
PICTURES = ("plt.show", "plt.show")
PROBE = """
import json

print(json.dumps({"test": test, "found": found, "log": run.history(as_dicts=True)}))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory, session_cache):
    folder = tmp_path_factory.mktemp("notebook")
    files = entities(folder, save_toy_preset(folder / "preset", num_layers=1)).settings
    parameters = {
        "preset": files["model.preset"],
        "train_file": files["data.train"],
        "test_file": files["data.test"],
        "own_texts": ["the <dull> actor 🎉 was great", "a film"],
        "max_length": 16,
        "epochs": 4,
        "learning_rate": 0.01,
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERASLLM_CACHE", str(session_cache))
        return Executed(NOTEBOOK, folder, PROBE, parameters)


def test_it_learns_and_draws_entities_in_their_sentences(toy):
    assert_is_clean(toy.cells)
    assert_pictures(toy.cells, PICTURES)
    assert toy.losses()[-1] < toy.losses()[0] and toy.values["test"]["f1"] > 0.8
    for one in toy.values["found"]:
        for span in one["spans"]:
            assert one["text"][span["start"] : span["end"]] == span["text"]
    drawn = [html for source, html in outputs_of(toy.cells, "text/html") if "drawn" in source]
    marks = sum(len(one["spans"]) for one in toy.values["found"])
    assert len(drawn) == 1 and drawn[0].count("<mark") == marks
    assert "&lt;" in drawn[0] and "<dull>" not in drawn[0]


def test_the_committed_notebook_was_executed_and_tells_nothing_of_a_machine():
    assert_was_executed(NOTEBOOK, PICTURES)


@pytest.mark.slow
def test_the_whole_notebook_on_the_default_preset_and_data(tmp_path):
    whole = Executed(NOTEBOOK, tmp_path, PROBE)
    assert_is_clean(whole.cells)
    assert whole.values["test"]["f1"] > 0.5
