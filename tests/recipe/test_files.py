"""The recipes that are shipped: found by name, whole, explained and accepted by the schema."""

import re

import pytest

from kerasllm import recipe
from kerasllm.errors import RecipeError
from kerasllm.recipe import files as recipe_files
from kerasllm.recipe.schema import known_keys

RECIPES = [recipe.path_of(name) for name in recipe.names()]


def test_recipes_are_found_by_name():
    assert "bert_cls" in recipe.names()
    assert recipe.path_of("bert_cls").name == "bert_cls.yaml"
    assert recipe.load("bert_cls") == recipe.load(recipe.path_of("bert_cls"))


def test_a_name_wins_over_a_file_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert_cls").write_text("not: a recipe\n")
    assert recipe_files.find("bert_cls") == recipe.path_of("bert_cls")
    assert recipe_files.find("./bert_cls").read_text() == "not: a recipe\n"


@pytest.mark.parametrize("wrong", ["bert_csl", "bert_cls.yaml", "folder/bert_cls.yml"])
def test_a_wrong_name_is_answered_with_the_nearest(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=f"no recipe is named '{wrong}'") as caught:
        recipe.load(wrong)
    assert "did you mean bert_cls?" in caught.value.fix


def test_a_name_too_long_for_a_file_is_refused_like_any_other():
    with pytest.raises(RecipeError, match="no recipe is named 'xxx"):
        recipe.load("x" * 5000)


def test_a_name_like_no_other_is_answered_with_all_names():
    with pytest.raises(RecipeError) as caught:
        recipe.path_of("zzz")
    assert all(name in caught.value.fix for name in recipe.names())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_fits_the_schema(path):
    assert recipe.validate(path) == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_opens_with_what_it_is_for_and_the_command(path):
    text = path.read_text(encoding="utf-8")
    assert recipe_files.describe(path)
    opening = text[: text.index("\ntask:")]
    method = path.stem.removeprefix("compress_")
    command = f"compress my_run --method {method} " if method != path.stem else None
    assert f"kerasllm {command or f'finetune --recipe {path.stem}'}" in opening


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_writes_and_comments_every_key(path):
    text = path.read_text(encoding="utf-8")
    for *section, name in known_keys(type(recipe.load(path))):
        if len(section) == 1:
            assert re.search(rf"^  {name}: .*  # \S", text, re.MULTILINE), f"{section}.{name}"


def test_a_file_without_a_comment_has_no_description(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"task: \xff\n# late\n")
    assert recipe_files.describe(path) == ""
    path.write_bytes(b"")
    assert recipe_files.describe(path) == ""
