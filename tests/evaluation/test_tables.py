"""The tables show the report's numbers, fit the screen, and take any label for mere data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from kerasllm.evaluation.classification import classification_report
from kerasllm.evaluation.tables import (
    ConfusionTable,
    balance_table,
    metrics_table,
    per_class_table,
)


def shown(table, width=100):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.fixture
def report():
    guesses = [0, 0, 1, 1, 0, 0]
    return classification_report([0, 0, 0, 1, 1, 1], np.eye(2)[guesses], ["bad", "good"])


def test_metrics_stand_side_by_side(report):
    text = shown(metrics_table({"train": {"loss": 0.25}, "test": report}, title="Results"))
    lines = [line.split() for line in text.splitlines()]
    assert ["Results"] in lines
    assert ["train", "test"] in lines
    assert ["loss", "0.2500", f"{report['loss']:.4f}"] in lines
    assert ["accuracy", "-", "0.5000"] in lines
    assert ["macro", "F1", "-", f"{report['macro_f1']:.4f}"] in lines
    assert ["MCC", "-", "0.0000"] in lines
    assert ["rows", "-", "6"] in lines


def test_a_metric_that_no_data_set_has_is_left_out():
    text = shown(metrics_table({"train": {"loss": 0.25}}))
    assert "loss" in text and "MCC" not in text and "rows" not in text


def test_every_class_has_its_line(report):
    lines = [line.split() for line in shown(per_class_table(report)).splitlines()]
    assert ["bad", "0.5000", "0.6667", "0.5714", "3", "50.0%"] in lines
    assert ["good", "0.5000", "0.3333", "0.4000", "3", "50.0%"] in lines


def test_many_classes_are_sorted_by_their_rows_and_say_so():
    scores = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    few = {f"class {n}": {**scores, "support": n} for n in range(3)}
    text = shown(per_class_table({"per_class": few}))
    assert text.index("class 0") < text.index("class 2") and "first" not in text
    many = {f"class {n}": {**scores, "support": 10 * n} for n in range(9)}
    text = shown(per_class_table({"per_class": many}))
    assert text.index("class 8") < text.index("class 7") < text.index("class 0")
    assert "largest classes first" in text


def test_numbers_of_a_balance_stay_whole_in_80_columns():
    names = [f"a label of a length that leaves no room {n}" for n in range(3)]
    counts = {part: np.full(3, 1_234_567) for part in ("train", "validation", "test")}
    text = shown(balance_table(counts, names, np.ones(3)), width=80)
    assert text.count("1,234,567 (33.3%)") == 9 and "validation" in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_a_small_matrix_is_shown_whole():
    text = shown(ConfusionTable([[90, 10], [4, 96]], ["n", "p"]))
    lines = [line.split() for line in text.splitlines()]
    assert ["true", "\\", "predicted", "n", "p"] in lines
    assert ["n", "90", "10"] in lines
    assert ["p", "4", "96"] in lines


def test_columns_are_numbered_when_their_names_do_not_fit():
    names = [f"a rather long class {letter}" for letter in "abcdefgh"]
    text = shown(ConfusionTable(np.diag(range(100, 108)), names))
    lines = [line.split() for line in text.splitlines()]
    assert ["true", "\\", "predicted", *"12345678"] in lines
    assert any(line[:1] == ["8"] and line[-1] == "107" for line in lines)


@pytest.mark.parametrize(("classes", "width"), [(13, 100), (12, 40)])
def test_the_most_confused_pairs_stand_for_a_matrix_that_does_not_fit(classes, width):
    matrix = np.diag([50] * classes)
    matrix[3, 7] = 25
    matrix[2, 1] = 10
    text = shown(ConfusionTable(matrix, [f"c{i}" for i in range(classes)]), width)
    lines = [line.split() for line in text.splitlines()]
    first = next(i for i, line in enumerate(lines) if line[:2] == ["c3", "c7"])
    assert lines[first] == ["c3", "c7", "25", "33.3%"]
    assert lines[first + 1] == ["c2", "c1", "10", "16.7%"]
    assert f"35 of {50 * classes + 35} rows are wrong" in text


def test_what_the_pairs_leave_out_is_said():
    matrix = np.ones((13, 13), int)
    assert "156 of 169 rows are wrong; the pairs above hold 12 of them" in " ".join(
        shown(ConfusionTable(matrix, [f"c{i}" for i in range(13)])).split()
    )


def test_no_mistake_is_said_too():
    text = shown(ConfusionTable(np.diag([5] * 13), [f"c{i}" for i in range(13)], title="Test"))
    assert "0 of 65 rows are wrong" in text
    assert "predicted" not in text


def test_a_label_cannot_act_on_the_terminal():
    name = "[red]x[/red] \x1b[31m\r\n\x07"
    report = classification_report([0, 1], np.eye(2), [name, "b"])
    for table in (
        per_class_table(report, title="[b]"),
        ConfusionTable([[1, 0], [0, 1]], [name, "b"]),
        metrics_table({name: report}),
    ):
        text = shown(table)
        assert "[red]x[/red]" in text
        assert not set(text) & set("\x1b\r\x07")


@given(
    names=st.lists(st.text(max_size=60), min_size=2, max_size=20, unique=True),
    width=st.integers(60, 140),
    count=st.integers(0, 10**5),
)
@settings(max_examples=60, deadline=None)
def test_on_a_narrow_screen_names_are_cut_and_numbers_are_not(names, width, count):
    by_class = shown(
        per_class_table(classification_report(range(len(names)), np.eye(len(names)), names)), width
    )
    matrix = np.full((len(names), len(names)), count)
    confusion = shown(ConfusionTable(matrix, names), width)
    for line in (by_class + confusion).splitlines():
        assert cell_len(line) <= width
    lines = [line.split() for line in by_class.splitlines() if line.rstrip().endswith("%")]
    assert len(lines) == len(names)
    for words in lines:
        assert words[-5:-1] == ["1.0000", "1.0000", "1.0000", "1"]
    assert str(count) in confusion or f"{count:,}" in confusion


def test_tables_show_themselves_in_a_notebook(report):
    for table in (per_class_table(report), ConfusionTable([[1, 0], [0, 1]], ["a", "b"])):
        assert "text/html" in table._repr_mimebundle_([], [])
