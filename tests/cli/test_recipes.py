"""`kerasllm recipes`: list, show, copy, validate."""

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from kerasllm import recipe
from kerasllm.cli.recipes import recipes
from kerasllm.errors import CommandError, RecipeError


def run(*arguments):
    """Runs the command as `kerasllm` does, errors and all."""
    return CliRunner().invoke(recipes, list(map(str, arguments)), catch_exceptions=True)


def test_list_names_each_recipe_and_what_it_is_for():
    result = run("list")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines] == recipe.names()
    assert "classify texts" in lines[recipe.names().index("bert_cls")]


def test_list_imports_nothing_slow():
    code = (
        "import sys; from kerasllm.cli.recipes import recipes; "
        "recipes(['list'], standalone_mode=False); "
        "slow = {'pydantic', 'yaml', 'rich', 'numpy', 'keras', 'tensorflow'} & set(sys.modules); "
        "assert not slow, slow"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "bert_cls" in listed.stdout


def test_show_prints_a_recipe_that_loads_back_with_a_comment_on_each_key(tmp_path):
    result = run("show", "bert_cls", "--set", "training.epochs=3", "--set", "data.train=a.csv")
    assert result.exit_code == 0
    assert re.search("^  epochs: 3 +# passes over the training data$", result.output, re.MULTILINE)
    path = tmp_path / "shown.yaml"
    path.write_text(result.output, encoding="utf-8")
    assert recipe.load(path) == recipe.load("bert_cls", ["training.epochs=3", "data.train=a.csv"])


def test_show_takes_a_file_and_fills_in_what_it_leaves_out(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("task: text_classification\ndata: {train: mine.csv}\n")
    result = run("show", path)
    assert "train: mine.csv" in result.output
    assert "log_every: 10" in result.output


def test_show_refuses_what_does_not_fit():
    result = run("show", "bert_cls", "--set", "epochs=3")
    assert isinstance(result.exception, RecipeError)
    assert result.exception.exit_status == 2
    assert "did you mean training.epochs?" in str(result.exception)
    assert result.output == ""


def test_copy_writes_the_recipe_with_its_comments(tmp_path):
    path = tmp_path / "new" / "mine.yaml"
    result = run("copy", "bert_cls", path)
    assert result.exit_code == 0
    assert path.read_bytes() == recipe.path_of("bert_cls").read_bytes()
    assert f"kerasllm finetune --recipe {path}" in result.output
    assert [entry.name for entry in path.parent.iterdir()] == ["mine.yaml"]


def test_copy_replaces_a_file_only_when_told(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("my work")
    refused = run("copy", "bert_cls", path)
    assert isinstance(refused.exception, CommandError)
    assert "--overwrite" in str(refused.exception)
    assert path.read_text() == "my work"
    assert run("copy", "bert_cls", path, "--overwrite").exit_code == 0
    assert recipe.load(path) == recipe.load("bert_cls")


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("bert_csl", "mine.yaml", "did you mean bert_cls?"),
        ("bert_cls", ".", "is a folder"),
        ("bert_cls", "taken/mine.yaml", "cannot be written"),
        ("bert_cls", "x" * 300, "cannot be written"),
    ],
)
def test_copy_refuses_what_it_cannot_do_and_leaves_nothing(
    name, file, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file, no folder")
    result = run("copy", name, file)
    assert isinstance(result.exception, (CommandError, RecipeError))
    assert message in str(result.exception)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_validate_tells_every_problem_of_every_file(tmp_path):
    bad, worse = tmp_path / "bad.yaml", tmp_path / "worse.yaml"
    bad.write_text("task: text_classification\ndata: {trian: a.csv}\ntraining: {epochs: 0}\n")
    worse.write_text("task: [\n")
    result = run("validate", "bert_cls", bad, worse, tmp_path / "missing.yaml")
    assert result.output == "bert_cls: ok\n"
    assert isinstance(result.exception, RecipeError)
    assert result.exception.exit_status == 2
    told = str(result.exception)
    assert told.startswith("5 problems\n")
    for part in ("data.trian", "data.train is missing", f"{bad}:3", f"{worse}:2", "missing.yaml"):
        assert part in told


def test_validate_needs_a_file():
    result = run("validate")
    assert result.exit_code == 2
    assert "FILE" in result.output


def test_a_json_schema_is_of_all_recipes_or_of_one(kerasllm, tmp_path):
    file = tmp_path / "recipe.schema.json"
    result = kerasllm("recipes", "schema", "--output", file)
    assert result.status == 0 and str(file) in result.out
    tasks = json.loads(file.read_text(encoding="utf-8"))["properties"]["task"]["enum"]
    assert {"token_classification", "pruning"} <= set(tasks)
    assert json.loads(kerasllm("recipes", "schema", "ner").out)["title"] == (
        "Recipe: token_classification"
    )
    assert "did you mean ner?" in kerasllm("recipes", "schema", "nerr").err
    assert "# yaml-language-server: $schema=" in kerasllm("recipes", "schema", "--help").out
