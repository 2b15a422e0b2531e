"""Labelled data of a run: splits of label sets, labels after the sample, and exact scores."""

import itertools

import numpy as np
import pytest

from kerasllm.data.classification import load_data
from kerasllm.errors import DataError
from kerasllm.models import load_tokenizer
from kerasllm.tasks.text_classification import ClassificationData as Recipe
from tests.toy import write_csv


@pytest.fixture
def load(tmp_path, toy_preset):
    """Writes labels with a text each and loads them."""

    def load(labels, **options):
        write_csv(tmp_path / "train.csv", [("a good film", label) for label in labels])
        recipe = Recipe(train=str(tmp_path / "train.csv"), **options)
        return load_data(recipe, load_tokenizer(toy_preset), folder=tmp_path / "tokens")

    return load


def test_label_sets_that_hardly_recur_are_held_out_in_proportion(load):
    names = [f"l{number}" for number in range(14)]
    sets = ["|".join(one) for one in itertools.combinations(names, 4)][:1000]
    data = load(sets)
    assert data.problem.kind == "multi_label" and len(data.validation) == 100
    expected = np.concatenate([data.train.targets(), data.validation.targets()]).mean(axis=0)
    np.testing.assert_allclose(data.validation.targets().mean(axis=0), expected, atol=0.02)


def test_large_scores_keep_their_differences(load):
    scores = [1.7e9 + 1.5 * number for number in range(200)]
    data = load(scores, problem="regression", validation_split=0.0)
    assert data.mean == np.mean(scores) and data.std == np.std(scores)
    assert data.train.labels.dtype == np.float32
    np.testing.assert_allclose(data.train.labels * data.std + data.mean, scores, atol=1e-4)


def test_scores_to_evaluate_on_are_as_they_were_read(load):
    scores = [1.7e9 + 1.5 * number for number in range(200)]
    validation = load(scores, problem="regression").validation.labels
    assert validation.dtype == np.float64 and set(validation) <= set(scores)


def test_a_score_that_float32_cannot_hold_is_a_bad_row(load):
    with pytest.raises(DataError, match="1 row is bad") as caught:
        load([0.5, 1.25, "1e39", 2.0], problem="regression")
    assert "train.csv:4" in caught.value.where and "1e+38" in caught.value.where


def _rest(start, labels):
    return [*itertools.islice(itertools.cycle(start), 10_000), *labels]


@pytest.mark.parametrize(
    ("labels", "message", "fix", "line"),
    [
        (_rest(["0.0", "1.0"], [number / 1000 + 0.0005 for number in range(3000)]),
         "3,002 different values in 13,000 rows", "regression", 10_002),
        (_rest(["0", "1"], ["1", "0.25", "0.75"]), "few different ones", "regression", 10_003),
        (_rest(["a", "b"], ["a", "a|b", "b|a"]), "list labels with '|'", "multi_label", 10_003),
        (_rest(["a", "b"], ["a", *(f"id{n}" for n in range(12_000))]),
         "hardly recur", "single_label", 10_003),
        (_rest(["3,4", "3", "4"], ["3", *(f"{n},{n}" for n in range(5, 30_000))]),
         "hardly recur", "single_label", None),
    ],
    ids=["scores", "halves", "lists", "ids", "texts"],
)  # fmt: skip
def test_labels_after_the_sample_that_are_something_else(load, labels, message, fix, line):
    with pytest.raises(DataError, match="What to predict is not clear") as caught:
        load(labels)
    assert message in caught.value.what and f"data.problem={fix}" in caught.value.fix
    assert f"train.csv:{line or 10_003}, the first row unlike" in caught.value.where


@pytest.mark.parametrize("options", [{"problem": "single_label"}, {}])
def test_labels_after_the_sample_that_are_as_set_or_as_before(load, options):
    rest = ["0.25", "7"] if options else ["7", "8"]
    data = load(_rest(["0", "1"], rest), **options)
    assert set(data.labels.raw) == {"0", "1", *rest}
