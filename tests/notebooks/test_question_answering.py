"""The notebook runs from its first cell to its last, and draws answers where they are."""

import pytest

from tests.notebooks.executed import (
    Executed,
    assert_is_clean,
    assert_pictures,
    assert_was_executed,
    outputs_of,
)
from tests.tasks.toys.question_answering import always_answered
from tests.toy import save_toy_preset

NOTEBOOK = "question_answering.ipynb"
# The loss curve.
PICTURES = ("plt.show",)
PROBE = """
import json

print(json.dumps({"test": test, "found": found, "log": run.history(as_dicts=True)}))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory, session_cache):
    folder = tmp_path_factory.mktemp("notebook")
    files = always_answered(folder, save_toy_preset(folder / "preset", num_layers=1)).settings
    parameters = {
        "preset": files["model.preset"],
        "train_file": files["data.train"],
        "test_file": files["data.test"],
        "own_context": "the <great> story 🎉 was of the great story and a film",
        "own_questions": ["the film ?", "the <actor> ?"],
        "max_length": 32,
        "max_question_length": 8,
        "epochs": 5,
        "learning_rate": 0.005,
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERASLLM_CACHE", str(session_cache))
        return Executed(NOTEBOOK, folder, PROBE, parameters)


def test_it_learns_and_draws_answers_in_their_context(toy):
    assert_is_clean(toy.cells)
    assert_pictures(toy.cells, PICTURES)
    assert toy.losses()[-1] < toy.losses()[0] and toy.values["test"]["f1"] > 0.5
    for one in toy.values["found"]:
        assert one["text_pair"][one["start"] : one["end"]] == one["answer"]
    [drawn] = [html for source, html in outputs_of(toy.cells, "text/html") if "drawn" in source]
    assert drawn.count("<mark") == len(toy.values["found"])
    assert "&lt;actor&gt;" in drawn and "<great>" not in drawn


def test_the_committed_notebook_was_executed_and_tells_nothing_of_a_machine():
    assert_was_executed(NOTEBOOK, PICTURES)


@pytest.mark.slow
def test_the_whole_notebook_on_the_default_preset_and_data(tmp_path):
    whole = Executed(NOTEBOOK, tmp_path, PROBE)
    assert_is_clean(whole.cells)
    assert whole.values["test"]["f1"] > 0.6
