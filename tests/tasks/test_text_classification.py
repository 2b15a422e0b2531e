"""The data of a run: parts, weights, places; and models that must be padded to one length."""

import numpy as np
import pytest

from kerasllm.data.classification import class_weights, load_data
from kerasllm.data.labels import Labels
from kerasllm.errors import DataError, RecipeError
from kerasllm.evaluation.classification import classification_report
from kerasllm.models import bert_classifier, load_tokenizer
from kerasllm.models.classify import classify
from kerasllm.tasks import task
from kerasllm.tasks.text_classification import ClassificationData as Data
from tests.models.families import save_preset
from tests.toy import toy_rows, write_csv

LABELS = Labels(["0", "1", "2"], ["low", "mid", "high"])


def test_balanced_weights_make_all_classes_weigh_the_same():
    classes = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights("balanced", classes, LABELS)
    sums = [weights[number] * np.sum(classes == number) for number in range(3)]
    np.testing.assert_allclose(sums, [10 / 3] * 3, rtol=1e-6)


def test_named_weights_go_to_their_classes_by_either_name():
    np.testing.assert_array_equal(class_weights({"high": 3.0, "1": 2.0}, None, LABELS), [1, 2, 3])
    assert class_weights(None, None, LABELS) is None
    with pytest.raises(DataError, match="'hihg'") as error:
        class_weights({"hihg": 3.0}, None, LABELS)
    assert error.value.where == "data.class_weights"


def test_the_split_is_stratified_by_seed_and_the_weights_are_the_classes(toy_data, toy_preset):
    rows = toy_rows(100) + toy_rows(100, ("negative", "negative", "negative", "positive"), seed=9)
    write_csv(toy_data / "train.csv", rows)
    recipe = Data(train=str(toy_data / "train.csv"), class_weights="balanced", validation_split=0.2)
    tokenizer = load_tokenizer(toy_preset)

    def load(seed):
        return load_data(recipe, tokenizer, seed=seed, folder=toy_data / "tokens")

    data = load(seed=1)
    assert len(data.train) == 160 and len(data.validation) == 40 and data.test is None
    assert np.bincount(data.validation.labels).tolist() == [25, 15]
    assert not set(data.train.rows) & set(data.validation.rows)
    np.testing.assert_array_equal(load(seed=1).validation.rows, data.validation.rows)
    assert load(seed=2).validation.rows.tolist() != data.validation.rows.tolist()
    np.testing.assert_allclose(np.unique(data.train.weights), [160 / 200, 160 / 120])
    assert data.validation.weights is None


def test_one_class_for_all_rows_is_doubted_where_there_are_several():
    doubts = task.find("text_classification").doubts

    def measured(labels, predicted):
        return classification_report(labels, np.eye(3)[predicted], LABELS.names)

    (told,) = doubts(measured([0] * 10 + [1] * 10, [2] * 20))
    assert told.startswith("predicts 'high' for all 20 rows, which have 2 labels: train for more")
    assert doubts(measured([0] * 20, [2] * 20)) == []
    assert doubts(measured([0] * 10 + [1] * 10, [2] * 19 + [0])) == []
    assert doubts(measured([0, 1], [2, 2])) == [], "of two rows it says nothing"
    assert doubts({"loss": 1.0, "pearson": 0.5}) == []


@pytest.mark.parametrize("family", ["f_net", "roformer_v2"])
def test_a_family_that_sees_padding_is_padded_to_one_length(family, tmp_path):
    model = bert_classifier(
        save_preset(family, tmp_path / family), 2, max_length=16, precision="float32"
    )
    texts = ["good", "a very dull film", "the quick brown fox a good bad film very dull"]
    together = [row["probabilities"]["1"] for row in classify(model, texts)]
    alone = [classify(model, [text])[0]["probabilities"]["1"] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert model.pad_to == 16


def test_a_length_that_the_model_cannot_read_is_refused(toy_preset):
    with pytest.raises(
        RecipeError, match="reads 64 tokens at most, but data.max_length is 65"
    ) as error:
        bert_classifier(toy_preset, 2, max_length=65)
    assert error.value.where == "data.max_length"
