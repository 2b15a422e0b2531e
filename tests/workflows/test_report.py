"""What is shown while a job runs: whole words in 80 columns, a bar, validations that are told."""

import io
import re

import pytest
from rich.console import Console

from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.workflows import report as reports
from kerasllm.workflows.report import Report, describe_row

ROW = {
    "step": 10,
    "epoch": 1.0,
    "loss": 0.6123,
    "accuracy": 0.7123,
    "learning_rate": 9.4e-5,
    "gradient_norm": 1.0,
    "tokens_per_second": 12345.0,
    "step_seconds": 0.1,
    "input_wait": 0.0,
    "peak_memory": 1,
    "seconds": 3.0,
}


def shown_by(act, *, terminal, width=80):
    """Returns the lines that a report shows, without control characters."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    if not terminal:
        console.width = width
    report = Report(console)
    act(report)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", out.getvalue()).replace("\r", "\n").split("\n")


def test_a_terminal_breaks_lines_between_words_and_no_command():
    command = f"kerasllm predict /{'folder/' * 12}run 'some text' 'and another'"
    sentence = "what is measured of a model that was trained on few rows may be chance " * 3

    def act(report):
        report.line(sentence)
        report.facts([("padding", sentence), ("try it", command)])

    lines = shown_by(act, terminal=True)
    assert any(line.endswith(command) for line in lines)
    broken = [line for line in lines if command not in line]
    assert max(map(len, broken)) <= 80
    assert {word for line in broken for word in line.split()} <= {"padding", *sentence.split()}
    # A log has one line for each.
    assert shown_by(lambda report: report.line(sentence), terminal=False)[0] == sentence


def test_a_bar_and_the_loss_have_room_in_80_columns():
    def act(report):
        with report.training(25200) as progress:
            progress.row(ROW)

    lines = shown_by(act, terminal=True)
    assert any("loss 0.6123  accuracy 0.7123  lr 9.40e-05" in line for line in lines)
    assert not any("tokens/s" in line or "…" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert "12,345 tokens/s" in describe_row(ROW) and describe_row(ROW, 5) == "loss 0.6123"


def test_a_log_is_as_wide_as_its_user_says(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert Report(Console(file=io.StringIO())).console.width >= 120
    monkeypatch.setenv("COLUMNS", "90")
    assert Report(Console(file=io.StringIO())).console.width == 90


def test_a_long_validation_line_is_not_broken(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(reports.time, "monotonic", lambda: seconds[0])

    def act(report):
        with report.training(100) as progress:
            progress.validating(10, 600)
            seconds[0] += 60
            progress.validated(10, dict.fromkeys(("loss", "f1", "token_accuracy"), 0.5))

    for width, end in ((100, "in 60 s, 10 examples/s"), (80, "in 60 s"), (70, "accuracy 0.5000")):
        lines = shown_by(act, terminal=True, width=width)
        (line,) = [line for line in lines if line.startswith("step 10/100  validation")]
        assert line.endswith(end) and len(line) <= width
    assert any(line.endswith(" examples/s") for line in shown_by(act, terminal=False))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_validation_is_told_when_it_begins(monkeypatch, terminal):
    seconds = [0.0]
    monkeypatch.setattr(reports.time, "monotonic", lambda: seconds[0])

    def act(report):
        with report.training(100) as progress:
            for step, took in ((10, 60), (20, 1), (30, 1)):
                progress.validating(step, 600)
                seconds[0] += took
                progress.validated(step, {"loss": 0.5, "accuracy": 0.25})

    lines = shown_by(act, terminal=terminal)
    assert "step 10/100  validation  loss 0.5000  accuracy 0.2500  in 60 s, 10 examples/s" in lines
    assert "step 20/100  validation  loss 0.5000  accuracy 0.2500" in lines
    begun = [line for line in lines if "validating on 600 examples" in line]
    # A log is told of the first, and where the one before took long.
    assert begun if terminal else [line[:11] for line in begun] == ["step 10/100", "step 20/100"]


def test_the_recipe_is_shown_by_what_was_changed(tmp_path):
    from kerasllm.workflows.finetune_summary import show_recipe

    changed = load("bert_cls", ["training.epochs=3", "data.label=[a, b]"])

    def shown(*arguments, **options):
        lines = shown_by(
            lambda report: show_recipe(report, *arguments, **options), terminal=False, width=120
        )
        return "\n".join(lines)

    text = shown(changed, "bert_cls")
    assert "Recipe bert_cls\n" in text
    assert 'data.label       ["a", "b"]  (in bert_cls: null)' in text
    assert "training.epochs  3  (in bert_cls: 1)" in text
    assert "batch_size" not in text and "--verbose" in text
    assert "batch_size: 32" in shown(changed, "bert_cls", verbose=True)
    # A file is named, and compared with the defaults.
    path = tmp_path / "mine.yaml"
    path.write_text("task: text_classification\ndata: {train: a.csv}\ntraining: {epochs: 2}\n")
    text = shown(load(path), "mine", str(path))
    assert f"Recipe {path}\n" in text and "data.train       a.csv  (default: null)" in text
    assert "training.epochs  2  (default: 1)" in text and "max_length" not in text
    # What resumes a run is compared with the run's own.
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.recipe.write_text(load(path).to_yaml())
    text = shown(load(path, ["training.epochs=5"]), "finetune", str(run.recipe), run=run)
    assert "training.epochs  5  (was: 2)" in text and "data.train" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_compiling_is_named_and_the_time_left_is_that_of_the_steps(terminal):
    def act(report):
        with report.training(227) as progress:
            progress.row({**ROW, "step": 1, "seconds": 9.0})
            progress.step(1)
            progress.compiling(32, 4, 8)
            progress.pace(52.9)
            progress.step(10)
            progress.row(ROW)

    lines = shown_by(act, terminal=terminal)
    compiling = ["compiling length 32, 5 of 8" in line for line in lines].index(True)
    # Of a step that traced and compiled nothing can be told of the others.
    assert not any("left" in line or "0:52" in line for line in lines[:compiling])
    assert any("10/227" in line and "0:52" in line for line in lines)
    assert not terminal or max(map(len, lines)) <= 80
