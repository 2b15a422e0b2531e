"""In a notebook: no notices, a progress bar, tables as HTML, and Keras with all that it can do."""

import json

import nbformat
import pytest

from notebooks.execute import execute
from tests.conftest import toy_settings
from tests.notebooks.executed import assert_is_clean, code_cells, outputs_of
from tests.toy import toy_rows, write_csv

CELLS = (
    "import kerasllm",
    "kerasllm.TextClassifier",
    # Nothing is hidden from Keras: it takes a DataFrame, and pads sequences.
    """
import keras
import numpy as np
import pandas as pd

assert keras.utils.pad_sequences([[1], [2, 3]]).shape == (2, 2)
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse")
frame = pd.DataFrame({"a": np.arange(8.0), "b": np.ones(8)})
model.fit(frame, pd.Series(np.ones(8)), verbose=0)
regressor = keras.wrappers.SKLearnRegressor(model)
""",
    """
train = pd.read_csv("train.csv")
run = kerasllm.finetune("bert_cls", train=train, output="my_run", **settings)
""",
    "run",
    'run.evaluate(pd.read_csv("train.csv"))',
    "pd.DataFrame(run.predict(['a very good film .']))",
)


@pytest.fixture(scope="module")
def cells(tmp_path_factory, toy_preset, session_cache):
    folder = tmp_path_factory.mktemp("notebook")
    write_csv(folder / "train.csv", toy_rows(120))
    settings = dict(one.split("=", 1) for one in toy_settings(folder, toy_preset))
    settings = {key: json.loads(value) for key, value in settings.items()}
    settings |= {"training.epochs": 1, "data.test": settings.pop("data.train")}
    settings["data.leaks"] = "warn"
    notebook = nbformat.v4.new_notebook()
    first, *others = CELLS
    sources = [f"settings = {settings!r}\n{first}", *others]
    notebook.cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERASLLM_CACHE", str(session_cache))
        environment.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        return code_cells(execute(notebook, folder, None, timeout=600))


def test_nothing_is_written_that_nobody_asked_for(cells):
    assert_is_clean(cells)
    assert not cells[0].outputs and not cells[2].outputs


def test_the_training_shows_a_bar_and_its_report(cells):
    shown = [html for _, html in outputs_of(cells[3:4], "text/html")]
    bars = [html for html in shown if "<progress" in html]
    # One, which was replaced as the training went on.
    assert len(bars) == 1 and 'value="4" max="4"' in bars[0] and "loss" in bars[0]
    assert any("Results" in html for html in shown)
    assert any("<table>" in html and "macro F1" in html for html in shown)


def test_a_run_and_an_evaluation_are_tables(cells):
    for cell in cells[4:7]:
        (output,) = cell.outputs[-1:]
        assert "<table" in output.data["text/html"]
    assert "TrainedModel(&#x27;my_run&#x27;" in cells[4].outputs[0].data["text/html"]
    assert "precision" in cells[5].outputs[-1].data["text/html"]
