"""Rows in, answers out: in order, in bounded memory, with progress, and nothing left behind."""

import io
import itertools
import os
import signal

import pytest
from rich.console import Console

from kerasllm.data.readers.whole_rows import WholeRow
from kerasllm.errors import DataError, Interrupted
from kerasllm.workflows import report as reports
from kerasllm.workflows.partial_output import Output
from kerasllm.workflows.predict_file import (
    BadRows,
    Predictor,
    answers,
    fingerprint_of,
    predict_rows_to_file,
)
from kerasllm.workflows.report import Report

FORMS = dict.fromkeys(("raw", "flat", "typed"), dict)


def rows(count, bad=(), taken=None):
    for number in range(count):
        if taken is not None:
            taken.append(number)
        problem = "the text is empty" if number in bad else None
        yield WholeRow(number, f"a.csv:{number + 2}", number, {"id": number}, problem)


def doubled(chunk=4):
    """Predicts for chunks of inputs, as models do."""

    def predict(inputs):
        while some := list(itertools.islice(inputs, chunk)):
            yield from ({"twice": 2 * each} for each in some)

    return Predictor(predict, chunk, FORMS)


def test_answers_come_in_the_order_of_the_rows():
    bad = BadRows()
    groups = list(answers(rows(10, bad={0, 4, 5, 9}), doubled(), bad))
    found = [answer for _, group in groups for answer in group]
    assert [answer.kept["id"] for answer in found] == list(range(10))
    assert [answer.predicted and answer.predicted["twice"] for answer in found] == [
        None, 2, 4, 6, None, None, 12, 14, 16, None,
    ]  # fmt: skip
    assert bad.count == 4 and found[4].error == "a.csv:6: the text is empty"
    assert str(bad).endswith("a.csv:7: the text is empty; and 1 more")
    assert groups[-1][0].number == 9


def test_rows_are_read_as_they_are_needed():
    taken = []
    for done, (_, group) in enumerate(answers(rows(1000, taken=taken), doubled(8), BadRows()), 1):
        assert len(group) == 1 and len(taken) <= done + 9


def test_a_row_that_the_model_refuses_is_a_bad_row():
    def predict(inputs):
        yield from ({"error": "too long"} if each == 1 else {"twice": 2 * each} for each in inputs)

    predictor, bad = Predictor(predict, 4, FORMS), BadRows()
    found = [answer for _, group in answers(rows(3), predictor, bad) for answer in group]
    assert [answer.error for answer in found] == [None, "a.csv:3: too long", None]
    skipped = [each for _, group in answers(rows(3), predictor, bad, skip=True) for each in group]
    assert [answer.kept["id"] for answer in skipped] == [0, 2]
    with pytest.raises(DataError, match="No row can be used: too long"):
        list(answers(list(rows(2))[1:], predictor, BadRows()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_leaves_nothing_that_cannot_be_resumed(tmp_path, number):
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)

    def predict(inputs):
        for each in inputs:
            if each == 3:
                assert len(os.listdir(tmp_path)) == 1
                signal.raise_signal(number)
            yield {"twice": 2 * each}

    try:
        with pytest.raises(Interrupted, match=f"{number.name} stopped") as ended:
            output = Output(tmp_path / "out.csv")
            predict_rows_to_file(rows(9), output, Predictor(predict, 4, FORMS), errors=False)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert ended.value.exit_status == 128 + number and not os.listdir(tmp_path)


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".out.csv.123.tmp").mkdir()
    (tmp_path / ".other.csv.123.tmp").mkdir()
    predict_rows_to_file(rows(9), Output(tmp_path / "out.csv"), doubled(), errors=False)
    assert sorted(os.listdir(tmp_path)) == [".other.csv.123.tmp", "out.csv"]


def test_a_model_is_known_by_its_files(tmp_path):
    (tmp_path / "weights").write_text("1")
    before = fingerprint_of(tmp_path)
    os.utime(tmp_path / "weights", (1, 1))
    assert fingerprint_of(tmp_path) == before
    (tmp_path / "weights").write_text("2")
    assert fingerprint_of(tmp_path) != before and fingerprint_of("a_preset") == "a_preset"


def test_progress_has_a_rate_and_the_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(reports.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with Report(Console(file=out, width=80)).rows(10_000, done=1000) as progress:
        progress.begin()
        for now[0], done in ((10, 2000), (31, 4100), (40, 5000), (90, 10_000)):
            progress.done(done)
    # Off a terminal: a line now and then.
    assert out.getvalue().splitlines() == [
        "4,100 of 10,000 rows  100 rows/s  0:59 left",
        "10,000 of 10,000 rows  100 rows/s  0:00 left",
    ]


def test_the_bar_fits_a_terminal():
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with Report(console).rows(123_456_789) as progress:
        progress.begin()
        progress.done(12_345_678)
        bar = next(iter(progress._progress.get_renderables()))
        lines = console.render_lines(bar)
    assert len(lines) == 1
    text = "".join(segment.text for segment in lines[0])
    assert "12,345,678 of 123,456,789 rows" in text and "rows/s" in text
