"""Recipes and settings given in Python are checked as those of a file and of `--set`."""

from pathlib import Path

import numpy as np
import pytest

from kerasllm import recipe
from kerasllm.errors import RecipeError
from kerasllm.recipe.python_values import flat_settings


@pytest.mark.parametrize(
    ("overrides", "settings"),
    [
        ({"training": {"epochs": 3}}, ["training.epochs=3"]),
        ({"training.epochs": 3}, ["training.epochs=3"]),
        ({"training": {"epochs": np.int64(3)}}, ["training.epochs=3"]),
        ({"training": {"learning_rate": 1e-5}}, ["training.learning_rate=1e-5"]),
        ({"training": {"xla": True}}, ["training.xla=true"]),
        (
            {"training": {"early_stopping": {"patience": 2}}},
            ["training.early_stopping={patience: 2}"],
        ),
        ({"model": {"lora": {"rank": 8}}}, ["model.lora={rank: 8}"]),
        ({"model.lora": None}, ["model.lora=null"]),
        ({"data": {"train": Path("a.csv")}}, ["data.train=a.csv"]),
        ({"data": {"train": ("a.csv", "b.csv")}}, ["data.train=[a.csv, b.csv]"]),
        ({"data": {"label_names": {0: "bad", 1: "good"}}}, ["data.label_names={0: bad, 1: good}"]),
        ({"data": {"label_names": np.array(["bad", "good"])}}, ["data.label_names=[bad, good]"]),
        ({"training": {}}, []),
    ],
)
def test_a_mapping_means_what_set_means(overrides, settings):
    assert recipe.load("bert_cls", overrides) == recipe.load("bert_cls", settings)


def test_a_text_stays_a_text():
    assert recipe.load("bert_cls", {"data": {"text": "null"}}).data.text == "null"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"training": {"epoch": 3}}, ("unknown key training.epoch", "training.epochs?")),
        ({"epochs": 3}, ("unknown key epochs", "training.epochs?")),
        ({"trainin": {"epochs": 3}}, ("unknown key trainin", "training?")),
        ({"training": {"epochs": "three"}}, ("expected a whole number", "Received: three")),
        ({"training": {"epochs": True}}, ("expected a whole number", "Received: true")),
        ({"training": {"epochs": 0}}, ("from 1", "where: training.epochs=0")),
        ({"training": {"learning_rate": float("nan")}}, ("training.learning_rate: expected",)),
        ({"training": {"precision": "mixed_bfloat"}}, ("mixed_bfloat16?",)),
        ({"training": 3}, ("training is a section",)),
        ({"training": {"epochs": object()}}, ("training.epochs: a recipe holds", "object")),
        ({"training": {"epochs": 3}, "training.epochs": 4}, ("training.epochs is given twice",)),
        ({"training": {"": 3}}, ("not a key: 'training.'",)),
    ],
)
def test_what_set_refuses_is_refused_with_the_nearest_key(overrides, words):
    with pytest.raises(RecipeError) as caught:
        recipe.load("bert_cls", overrides)
    assert all(word in str(caught.value) for word in words), caught.value


def test_every_problem_is_told():
    found = recipe.validate("bert_cls", {"training": {"epoch": 3, "batch_size": 0}})
    assert len(found) == 2


def test_a_recipe_can_be_a_mapping_and_one_that_was_loaded():
    loaded = recipe.load({"task": "text_classification", "data": {"train": "a.csv"}})
    assert loaded.training.epochs == 1 and loaded.data.train == "a.csv"
    again = recipe.load(loaded, {"training.epochs": 5})
    assert again.training.epochs == 5
    assert recipe.load(again, {"training.epochs": 1}) == loaded


@pytest.mark.parametrize("given", [None, 3, ["bert_cls"], {}, {"task": "no_such"}, {"data": {}}])
def test_what_is_no_recipe_is_refused_by_kerasllm(given):
    with pytest.raises(RecipeError):
        recipe.load(given)


@pytest.mark.parametrize("overrides", ["training.epochs=0", [3], ["training.epochs"], [None]])
def test_what_is_no_setting_is_refused_by_kerasllm(overrides):
    with pytest.raises(RecipeError):
        recipe.load("bert_cls", overrides)
    assert recipe.load("bert_cls", "training.epochs=7").training.epochs == 7


def test_the_schema_itself_refuses_in_words():
    schema = recipe.schema_of("text_classification")
    values = recipe.load("bert_cls").model_dump()
    assert schema(**values) == schema.model_validate(values) == recipe.load("bert_cls")
    values["training"]["epochs"] = -1
    values["data"]["tetx"] = "review"
    for refused in (
        lambda: schema(**values),
        lambda: schema.model_validate(values),
        lambda: schema.model_validate(3),
        lambda: schema.model_validate_json("{}"),
        lambda: schema(training=object()),
    ):
        with pytest.raises(RecipeError):
            refused()
    with pytest.raises(RecipeError, match="training.epochs: expected a whole number"):
        schema(**values)


def test_a_section_alone_refuses_in_words():
    assert recipe.Training(epochs=2).epochs == 2
    with pytest.raises(RecipeError, match="unknown key epoch\n.*\n.*did you mean epochs?"):
        recipe.Training(epoch=2)
    with pytest.raises(RecipeError, match="patience: expected"):
        recipe.EarlyStopping(patience=-1)
    schema = recipe.schema_of("text_classification")
    with pytest.raises(RecipeError, match="2 problems"):
        schema(
            task="text_classification",
            data={"train": "a.csv", "tetx": "a"},
            training={"early_stopping": {"patience": -1}},
        )


def test_sections_are_flattened_and_mappings_below_them_are_values():
    assert flat_settings({"a": {"b": {"c": 1}}, "d.e": {"f": 2}, "g": 3}) == {
        "a.b": {"c": 1},
        "d.e": {"f": 2},
        "g": 3,
    }
