"""Which texts are explained: of a file all that can be; the mistakes of a run whole, in pairs."""

import json
from types import SimpleNamespace

import pytest

from kerasllm.errors import CommandError, DataError
from kerasllm.explain import Explanation
from kerasllm.explain.explanation import Word
from kerasllm.run import Run
from kerasllm.workflows import explain, explain_mistakes
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

    def explain_all(files="test.csv", **options) -> Run:
        trained = SimpleNamespace(
            run=run,
            source=run.path,
            task=PairTask(),
            test_data=lambda: files,
            explainer=lambda: SimpleNamespace(explain=explain_texts),
        )
        monkeypatch.setattr(explain_mistakes, "Trained", SimpleNamespace)
        explain_mistakes.explain_mistakes(trained, **options)
        return run

    def explain_texts(inputs):
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

    return explain_all


def test_both_texts_of_a_pair_are_explained_as_the_test_data_have_them(explained):
    run = explained()
    kept = json.loads(run.explanations.read_text(encoding="utf-8"))
    assert len(kept) > 3
    for place, [output] in kept.items():
        pieces = output["words"]
        first, second = PairTask.pairs[int(place[9:]) - 2]
        assert "".join(text for text, _ in pieces) == f"{first} | {second}"
        assert [weight for _, weight in pieces if weight] == [1.0, 1.0]
    assert 'class="for"' in run.report.read_text(encoding="utf-8")


def test_a_report_explains_a_few_and_says_how_the_others_are(explained):
    run = explained(most=2, seconds=60)
    assert len(json.loads(run.explanations.read_text(encoding="utf-8"))) == 2
    page = run.report.read_text(encoding="utf-8")
    assert "The others are shown so after" in page and "--mistakes" in page


def test_where_there_is_no_time_it_is_said(explained):
    with pytest.raises(CommandError, match="None of the .* mistakes .*: it takes too long"):
        explained(seconds=-1.0)


@pytest.mark.parametrize(
    ("broken", "told"),
    [(CommandError("no such layer"), "no such layer"), (MemoryError("2 GB"), "MemoryError: 2 GB")],
)
def test_what_goes_wrong_with_explanations_never_fails_a_report(
    tmp_path, monkeypatch, broken, told
):
    run = make_run(tmp_path / "run", rows=40, steps=40)
    assert explain_mistakes.explain_for_report(run) is None, "it has no model"
    (run.model / "weights.h5").write_text("weights", encoding="utf-8")

    def open_run(path):
        raise broken

    monkeypatch.setattr(explain_mistakes, "open_run", open_run)
    assert explain_mistakes.explain_for_report(run) == told
    run.explanations.write_text("{}", encoding="utf-8")
    assert explain_mistakes.explain_for_report(run) is None


def test_a_large_model_is_not_opened_for_a_report(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", rows=40, steps=40)
    with open(run.model / "weights.h5", "wb") as file:
        file.truncate(2_000_000_000)
    told = explain_mistakes.explain_for_report(run)
    assert told == "the model has 2.0 GB, and takes long to open"


def test_where_no_mistake_can_be_explained_it_is_said_why(explained):
    with pytest.raises(CommandError, match="None of the .* mistakes .* two texts") as refused:
        explained("gone.csv")
    assert "recipe.yaml" in refused.value.fix


def test_a_text_that_cannot_be_explained_stops_no_others(tmp_path, monkeypatch):
    def explain_texts(inputs):
        for given in inputs:
            if "nothing" in given:
                raise CommandError(f"The model finds no span in {given}")
            yield given

    monkeypatch.setattr(explain, "Trained", SimpleNamespace)
    explainer = SimpleNamespace(explain=explain_texts)
    trained = SimpleNamespace(task=PairTask(), explainer=lambda: explainer)
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
    pieces = explain_mistakes._pieces(found)
    assert sum(len(text) for text, _ in pieces) <= 2001 and pieces[-1] == ("…", 0.0)
