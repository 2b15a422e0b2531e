"""What a search space takes, and what it refuses before anything is trained."""

import pytest

from kerasllm.errors import RecipeError
from kerasllm.recipe import load, names
from kerasllm.tasks import task as tasks
from kerasllm.tuning.space import space_of


@pytest.fixture(scope="module")
def recipe():
    return load("bert_cls")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("training.learning_rate=log:1e-5:1e-3", "log:1e-05:0.001"),
        ("training.learning_rate=around:5", "log:2e-05:0.0005"),
        ("model.dropout=float:0:0.3", "float:0.0:0.3"),
        ("training.epochs=int:1:5", "int:1:5"),
        ("training.epochs=1,2,3", "1,2,3"),
        ("training.optimizer=choice:adamw,lion", "adamw,lion"),
        ("training.early_stopping=[null, {patience: 2}]", '[null, {"patience": "2"}]'),
    ],
)
def test_a_range_of_each_kind_is_read_and_written_alike(recipe, tmp_path, given, expected):
    space = space_of(recipe, [given])
    assert str(space.dimensions[0]) == expected
    file = tmp_path / "space.yaml"
    file.write_text(space.as_yaml())
    assert space_of(recipe, [str(file)]) == space


def test_a_file_may_have_sections(recipe, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("training:\n  epochs: [1, 2]\nmodel.dropout: float:0:0.3\n")
    keys = [dimension.key for dimension in space_of(recipe, [str(file)]).dimensions]
    assert keys == ["training.epochs", "model.dropout"]


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        ("training.learnin_rate=log:1e-5:1e-3", "unknown key", "did you mean training.learning_"),
        ("training.lr=log:1e-5:1e-3", "unknown key", "did you mean training.learning_rate?"),
        ("training.epochs=int:5:1", "the range is empty", "lower end first"),
        ("training.epochs=", "has no range", "give log:"),
        ("training.epochs=3", "a single value", "--set training.epochs=3"),
        ("training.epochs=1,1", "listed twice", "once"),
        ("training.epochs=float:1:3", "expected a whole number", "int:LOW:HIGH"),
        ("training.epochs=int:1:2.5", "takes whole numbers", ""),
        ("training.epochs=a,b", "expected a whole number", ""),
        ("training.epochs=exp:1:2", "there is no range type 'exp'", "give log:"),
        ("training.learning_rate=log:0:1", "must start above 0", "float:0:1"),
        ("training.learning_rate=log:1e-5:nan", "expected a number", ""),
        ("training.learning_rate=log:1e-5", "two ends", ""),
        ("model.dropout=float:0:1.5", "below 1. Received: 1.5", ""),
        ("training.optimizer=adamw,adan", "Received: adan", "did you mean adam?"),
        ("training=1,2", "is a section", "name the key"),
        ("data.test=a.csv,b.csv", "cannot be searched", "--set"),
        ("training.seed=1,2,3", "cannot be searched", "--set"),
        ("data.validation_split=0.1,0.2", "cannot be searched", "--set"),
        ("data.ignore_labels=[[neutral], []]", "cannot be searched", "--set"),
        ("data.label=stars,liked", "cannot be searched", "--set"),
        ("data.problem=single_label,regression", "cannot be searched", "--set"),
        ("no_file.yaml", "there is no file", "give log:"),
    ],
)
def test_what_the_recipe_does_not_take_is_refused_with_its_place(recipe, given, what, fix):
    with pytest.raises(RecipeError) as error:
        space_of(recipe, [given])
    assert what in error.value.what
    assert error.value.where == f"--space {given}"
    assert fix in (error.value.fix or "")


def test_all_problems_are_told_at_once(recipe, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("training.epochs: int:3:1\ntraining.bach_size: [8, 16]\n")
    with pytest.raises(RecipeError) as error:
        space_of(recipe, [str(file)])
    for words in (f"{file}:1", f"{file}:2", "the range is empty", "did you mean training.batch_s"):
        assert words in str(error.value)


def test_a_key_given_twice_is_refused(recipe):
    with pytest.raises(RecipeError, match="given twice"):
        space_of(recipe, ["training.epochs=1,2", "training.epochs=3,4"])


@pytest.mark.parametrize("name", [name for name in names() if not name.startswith("compress_")])
def test_each_task_has_a_space_that_holds_its_recipes_own_settings(name):
    recipe = load(name)
    space = space_of(recipe)
    assert {each.key for each in space.dimensions} == set(tasks.task_of(recipe).search_space)
    # The batch size is the user's.
    assert "training.batch_size" not in tasks.task_of(recipe).search_space
    if space.default() is not None:
        assert space.recipe_of(space.default()) == recipe


def test_values_are_rounded_so_that_a_recipe_can_be_read(recipe):
    dimension = space_of(recipe, ["training.learning_rate=log:1e-5:1.2345e-3"]).dimensions[0]
    assert dimension.rounded(4.37123e-05) == 4.37e-05
    assert dimension.rounded(1.2345e-3) <= 1.2345e-3
