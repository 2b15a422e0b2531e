"""The pictures: a whole PNG for any run, and a confusion matrix that shows the right numbers."""

import io
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from kerasllm.evaluation.plots import (
    confusion_matrix_figure,
    training_curve,
    training_curve_figure,
)

pytestmark = pytest.mark.filterwarnings("error")


def run_of(steps, every=10, evaluations=1):
    rows = [
        {"step": every * i, "epoch": i / steps, "loss": 1 / i, "learning_rate": 1e-4 * i / steps}
        for i in range(1, steps + 1)
    ]
    for i in range(1, evaluations + 1):
        step = every * steps * i // evaluations
        rows.append({"step": step, "validation": {"loss": 0.5, "accuracy": 0.8}})
    return rows


def colours(path):
    """The colours of a PNG, which opening it whole has shown to be sound."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
        return {colour for _, colour in image.convert("RGB").getcolors(maxcolors=2**24)}


TRAINING = (0x24, 0x68, 0xA8)
VALIDATION = (0xD9, 0x5F, 0x0E)


@pytest.mark.parametrize("steps", [1, 2, 25, 252, 5000])
def test_any_number_of_points_is_drawn(tmp_path, steps):
    path = training_curve(run_of(steps, evaluations=3), tmp_path / "training_curve.png")
    assert path == tmp_path / "training_curve.png"
    assert {TRAINING, VALIDATION} <= colours(path)
    assert [file.name for file in tmp_path.iterdir()] == ["training_curve.png"]


def test_a_notebook_gets_the_curve_as_a_figure(tmp_path):
    training_curve_figure(run_of(25)).savefig(tmp_path / "by_hand.png")
    written = training_curve(run_of(25), tmp_path / "training_curve.png")
    assert colours(tmp_path / "by_hand.png") == colours(written)


def test_without_validation_there_is_no_validation_line(tmp_path):
    drawn = colours(training_curve(run_of(25, evaluations=0), tmp_path / "curve.png"))
    assert TRAINING in drawn and VALIDATION not in drawn


def test_a_run_that_logged_nothing_still_has_a_picture(tmp_path):
    assert TRAINING not in colours(training_curve([], tmp_path / "curve.png"))


number = st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf])


@given(
    st.lists(
        st.fixed_dictionaries(
            {"step": st.integers(0, 10**6)},
            optional={
                "loss": number,
                "learning_rate": st.floats(0, 10),
                "validation": st.fixed_dictionaries({}, optional={"loss": number}),
            },
        ),
        max_size=150,
    )
)
@example([{"step": 0, "loss": 5e-324}])
@settings(max_examples=10, deadline=None)
def test_no_log_is_too_odd_to_draw(tmp_path_factory, rows):
    assert len(colours(training_curve(rows, tmp_path_factory.mktemp("run") / "curve.png"))) > 1


def test_a_picture_that_fails_leaves_the_old_one(tmp_path):
    path = training_curve(run_of(5), tmp_path / "curve.png")
    before = path.read_bytes()
    with pytest.raises(KeyError):
        training_curve([{"loss": 1.0}], path)
    with pytest.raises(OSError):
        training_curve(run_of(5), tmp_path / "missing" / "curve.png")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_the_rate_reaches_its_peak_and_the_best_loss_is_in_the_legend():
    rows = run_of(25, evaluations=3)
    figure = training_curve_figure(rows, [(1, 0.1), (13, 1.3), (250, 0.0)])
    losses, rates = figure.axes
    assert max(rates.lines[0].get_ydata()) == 1.3
    assert texts(losses) == []
    legend = [text.get_text() for text in losses.get_legend().get_texts()]
    assert legend == ["validation, best 0.5000 at step 83", "training"] or legend == [
        "training",
        "validation, best 0.5000 at step 83",
    ]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def tick_names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_the_matrix_shows_counts_and_shares():
    axes = confusion_matrix_figure([[90, 10], [0, 3]], ["negative", "positive"]).axes[0]
    assert texts(axes) == ["90\n90%", "10\n10%", "0\n0%", "3\n100%"]
    assert tick_names(axes.yaxis) == tick_names(axes.xaxis) == ["negative", "positive"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.9, 0.1], [0, 1]])


@pytest.mark.parametrize(("classes", "cells", "named"), [(10, 100, 10), (40, 0, 40), (150, 0, 38)])
def test_many_classes_stay_readable(classes, cells, named):
    figure = confusion_matrix_figure(np.eye(classes, dtype=int), [f"c{i}" for i in range(classes)])
    axes = figure.axes[0]
    assert len(texts(axes)) == cells
    assert len(tick_names(axes.xaxis)) == len(tick_names(axes.yaxis)) == named
    assert max(figure.get_size_inches()) <= 12


def test_a_class_without_rows_and_odd_names_are_drawn():
    names = ["$broken_{ math", "line\nbreak", "a name that is very long indeed, and goes on"]
    figure = confusion_matrix_figure([[1, 0, 0], [0, 0, 0], [2, 0, 1]], names)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert Image.open(buffer).size[0] > 400
    assert tick_names(figure.axes[0].yaxis)[1:] == ["line break", "a name that is very lon…"]


def test_pyplot_is_never_imported():
    # Its global state would grow by a figure for every run, and ask for a display.
    code = "import sys, kerasllm.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
