"""The model card of a run: `kerasllm report --format md`."""

import re

import pytest

from kerasllm.errors import RunError
from kerasllm.workflows.report_run import report_run
from tests.reports.made_run import make_run
from tests.reports.test_report import EVIL


def test_the_card_tells_data_metrics_with_intervals_failures_licence_and_recipe(tmp_path):
    run = make_run(tmp_path / "good")
    path, facts = report_run(run.path, format="md")
    assert path == run.path / "report.md"
    card = path.read_text(encoding="utf-8")
    low, high = facts["intervals"]["metrics"]["accuracy"]
    for shown in (
        "license: apache-2.0",
        "# good",
        "| train | `starter:movie_reviews` | 8,000 rows | `aaaaaaaaaaaa` |",
        f"| {low:.4f} to {high:.4f} |",
        "1,000 resamples of 600 rows",
        "## Where it fails",
        "| source | web |",
        "Apache-2.0",
        "task: text_classification",
    ):
        assert shown in card, shown
    assert "A film that is neither" not in card, "a text of the test data"
    assert str(tmp_path) not in card


def test_nothing_of_labels_and_columns_acts_in_the_card(tmp_path):
    names = (f"good {EVIL}", "[bad](javascript:alert(1))", "a | b `c` ![d](http://e)")
    run = make_run(tmp_path / "run", names=names, column=EVIL, values=(EVIL, "print"))
    card = report_run(run.path, format="md")[0].read_text(encoding="utf-8")
    assert "<script" not in card and "<img" not in card
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", card)
    # A link or a picture needs a bracket that is not escaped.
    assert not re.search(r"(?<!\\)\[[^\]]*(?<!\\)\]\(", card)
    rows = [line for line in card.splitlines() if "javascript" in line]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)


def test_nothing_of_a_presets_name_acts_in_the_card(tmp_path):
    preset = "x`<img src=y>\u202e"
    run = make_run(tmp_path / "run", rows=40, settings=[f'model.preset="{preset}"'])
    card = report_run(run.path, format="md")[0].read_text(encoding="utf-8")
    told = card.partition("## Recipe")[0]
    assert told.count("`x'<img src=y> `") == 2 and "`<" not in told and "\u202e" not in told


def test_a_run_that_did_not_finish_has_no_card(tmp_path):
    run = make_run(tmp_path / "run")
    run.metrics.unlink()
    with pytest.raises(RunError, match="did not finish"):
        report_run(run.path, format="md")
