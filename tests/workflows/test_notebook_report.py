"""A progress bar that is one output of a cell, and tables as HTML."""

import pytest
from rich.table import Table

from kerasllm.evaluation.tables import ConfusionTable
from kerasllm.workflows import notebook_report
from kerasllm.workflows.notebook_report import NotebookProgress, html_of


class Display:
    """Stands for a display of IPython: what it shows, and what it showed before."""

    def __init__(self):
        self.shown = []

    def display(self, shown, display_id):
        assert display_id is True
        return self.update(shown)

    def update(self, shown):
        self.shown.append(shown._repr_html_())
        return self


@pytest.fixture
def display(monkeypatch):
    import IPython.display

    display = Display()
    monkeypatch.setattr(IPython.display, "display", display.display)
    monkeypatch.setattr(notebook_report, "_SECONDS_BETWEEN_UPDATES", -1)
    return display


def test_a_bar_is_updated_in_place_and_stays_at_its_end(display):
    with NotebookProgress() as progress:
        task = progress.add_task("", total=4, completed=1, values="tracing <the> first step")
        progress.update(task, completed=2)
        progress.update(task, values="loss 0.5")
        progress.update(task, completed=4)
    empty, first, second, third, _, last = display.shown
    assert empty == "" and 'value="1" max="4"' in first
    assert "step 1/4  tracing &lt;the&gt; first step" in first
    assert "step 2/4" in second and "left" in second and "loss 0.5" in third
    assert 'value="4" max="4"' in last and "left" not in last


def test_what_is_being_done_is_gone_when_it_is_done(display):
    with NotebookProgress() as progress:
        progress.add_task("reading the data", total=None)
    assert display.shown == ["", "<pre>reading the data</pre>", ""]


def test_updates_that_come_too_fast_are_left_out(display, monkeypatch):
    monkeypatch.setattr(notebook_report, "_SECONDS_BETWEEN_UPDATES", 60)
    with NotebookProgress() as progress:
        task = progress.add_task("", total=1000)
        for step in range(1000):
            progress.update(task, completed=step)
        progress.update(task, completed=1000)
    assert len(display.shown) == 3 and 'value="1000"' in display.shown[-1]


def test_a_confusion_matrix_is_an_html_table():
    shown = html_of(ConfusionTable([[90, 10], [4, 96]], ["negative", "positive"]))
    assert shown.count("<table>") == 1 and "<td>96</td>" in shown


def test_a_table_is_an_html_table():
    table = Table("name", "[bold]value[/]", title="of <all>")
    table.add_row("a & b", "[dim]0.5[/]")
    assert html_of(table) == (
        "<table><caption>of &lt;all&gt;</caption>"
        "<thead><tr><th>name</th><th>value</th></tr></thead>"
        "<tbody><tr><td>a &amp; b</td><td>0.5</td></tr></tbody></table>"
    )
