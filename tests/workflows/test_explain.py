"""Which texts are explained: of a file all that can be; the mistakes of a run whole, in pairs."""

import json
import sys
from types import SimpleNamespace

import pytest

from kerasllm.errors import CommandError, DataError
from kerasllm.explain import Explanation
from kerasllm.explain.explanation import Word
from kerasllm.run import Run
from kerasllm.workflows import explain
from tests.reports.made_run import make_run


class PairTask:
    """A task of pairs whose data are in memory."""

    pairs = [(f"first {number}", "second " + "x" * 900) for number in range(40)]

    def source(self, trained, files, options):
        if files != "test.csv":
            raise DataError("there is no such file")
        texts, others = zip(*self.pairs)
        lines = range(2, 2 + len(texts))
        batch = SimpleNamespace(texts=texts, pairs=others, lines=lines, file=0)
        return SimpleNamespace(files=["test.csv"], batches=lambda: [batch])

    def input_of(self, trained, texts):
        if len(texts) == 1:
            raise DataError("The model reads two texts, separated by a tab")
        return tuple(texts)

    def explained_outputs(self):
        """What makes it a task that explains."""


@pytest.fixture
def explained(tmp_path, monkeypatch):
    """Explains the mistakes of a run, whose test data are in a file; returns the run."""
    run = make_run(tmp_path / "run", rows=40, steps=40)

    def explain_all(files="test.csv") -> Run:
        trained = SimpleNamespace(
            run=run,
            source=run.path,
            task=PairTask(),
            test_data=lambda: files,
            open=lambda precision: None,
        )
        monkeypatch.setattr(explain, "Trained", SimpleNamespace)
        explain.explain_mistakes(trained)
        return run

    def explain_texts(model, inputs, *, task):
        for given in inputs:
            words = tuple(Word(n, 0, 5, text[:5], 0.5) for n, text in enumerate(given))
            yield Explanation(
                given,
                ("text", "text_pair"),
                "integrated_gradients",
                "x",
                "x",
                "x",
                words,
                1.0,
                "[MASK]",
                0.0,
            )

    module = SimpleNamespace(explain_texts=explain_texts)
    monkeypatch.setitem(sys.modules, "kerasllm.explain.explain_texts", module)
    return explain_all


def test_both_texts_of_a_pair_are_explained_as_the_test_data_have_them(explained):
    run = explained()
    kept = json.loads(run.explanations.read_text(encoding="utf-8"))
    assert len(kept) > 3
    for place, pieces in kept.items():
        first, second = PairTask.pairs[int(place[9:]) - 2]
        assert "".join(text for text, _ in pieces) == f"{first} | {second}"
        assert [weight for _, weight in pieces if weight] == [1.0, 1.0]
    assert 'class="for"' in run.report.read_text(encoding="utf-8")


def test_where_no_mistake_can_be_explained_it_is_said_why(explained):
    with pytest.raises(CommandError, match="None of the .* mistakes .* two texts") as refused:
        explained("gone.csv")
    assert "recipe.yaml" in refused.value.fix


def test_a_text_that_cannot_be_explained_stops_no_others(tmp_path, monkeypatch):
    def explain_texts(model, inputs, *, task):
        for given in inputs:
            if "nothing" in given:
                raise CommandError(f"The model finds no span in {given}")
            yield given

    module = SimpleNamespace(explain_texts=explain_texts)
    monkeypatch.setitem(sys.modules, "kerasllm.explain.explain_texts", module)
    monkeypatch.setattr(explain, "Trained", SimpleNamespace)
    trained = SimpleNamespace(task=PairTask(), open=lambda precision: object())
    told = []

    def of(*texts, **options):
        return list(explain.explain(trained, texts, **options))

    def tell(given, error):
        told.append((given, error.what))

    assert of("a", "nothing", "b", left_out=tell) == ["a", "b"]
    assert told == [("nothing", "The model finds no span in nothing")]
    for options in ({}, {"left_out": tell}):
        with pytest.raises(CommandError, match="finds no span"):
            of("nothing", "nothing else", **options)


def test_long_texts_are_cut_in_a_report():
    words = tuple(Word(0, at, at + 4, "word", 0.5) for at in range(0, 9000, 5))
    found = Explanation(
        ("word " * 1800,), ("text",), "occlusion", "x", "x", "x", words, 1.0, "[MASK]", 0.0
    )
    pieces = explain._pieces(found)
    assert sum(len(text) for text, _ in pieces) <= 2001 and pieces[-1] == ("…", 0.0)
