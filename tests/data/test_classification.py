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
