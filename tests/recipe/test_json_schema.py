"""The JSON schema for editors: takes what kerasllm takes, and marks what it refuses."""

import re

import jsonschema
import pytest
import yaml

from kerasllm.recipe import files, load
from kerasllm.recipe.json_schema import json_schema


class Editor(yaml.SafeLoader):
    """YAML 1.2, as editors read it: 1e-5 is a number, and `no` a text."""


Editor.yaml_implicit_resolvers = {}
for tag, form, first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    Editor.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{form})$"), [*first])


@pytest.fixture(scope="module")
def wrong():
    """Returns where an editor would mark mistakes."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    return lambda text: [one.json_path for one in checker.iter_errors(yaml.load(text, Editor))]


@pytest.mark.parametrize("name", files.names())
def test_every_recipe_fits_as_it_is_and_with_all_keys(name, wrong):
    assert wrong(files.path_of(name).read_text(encoding="utf-8")) == []
    assert wrong(load(name).to_yaml()) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (("epochs: 1 ", "epochz: 1 "), "$.training"),
        (("epochs: 1 ", "epochs: 0 "), "$.training.epochs"),
        (("optimizer: adamw", "optimizer: adamv"), "$.training.optimizer"),
        (("task: text_classification", "task: text_classificatoin"), "$.task"),
        (("dropout: 0.1", "dropout: 1.5"), "$.model.dropout"),
    ],
)
def test_a_mistake_is_marked_where_it_stands(change, where, wrong):
    text = files.path_of("bert_cls").read_text(encoding="utf-8")
    assert change[0] in text
    assert where in wrong(text.replace(*change))


def test_a_text_may_be_a_number_as_in_a_recipe(wrong):
    text = files.path_of("bert_cls").read_text(encoding="utf-8")
    for line in ("label: null", "ignore_labels: null", "label_names: null"):
        assert line in text
    changed = text.replace("label: null", "label: 0").replace(
        "ignore_labels: null", "ignore_labels: [N/A, -1]"
    )
    assert wrong(changed) == []


def test_each_key_says_what_it_is():
    for name in ("bert_cls", "gpt_lm", "compress_prune"):
        schema = json_schema(load(name).task)
        sections = [one["properties"] for one in schema["$defs"].values()]
        assert [
            key
            for section in sections
            for key, value in section.items()
            if "description" not in value and "$ref" not in str(value)
        ] == []
