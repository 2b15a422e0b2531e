"""What a card tells of a run: nothing of the machine that made it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.export.card_facts import facts_of_preset, facts_of_run, without_folder
from kerasllm.recipe import load
from kerasllm.run import Run

NAME = st.text(st.characters(codec="ascii", exclude_characters="/\\\0"), min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("/home/alice/data/reviews.csv", "reviews.csv"),
        ("~/data/2026-*.csv", "2026-*.csv"),
        ("../alice/texts/", "texts"),
        ("C:\\Users\\alice\\reviews.csv", "reviews.csv"),
        ("s3://alice-bucket/data/reviews.parquet", "reviews.parquet"),
        ("s3://alice:secret@bucket/a/b.csv?endpoint_override=host.example&k=secret#c", "b.csv"),
        ("https://alice.example", "https://"),
        ("file:///home/alice/[ab].csv", "[ab].csv"),
        ("hf://user:secret@owner/name?token=secret", "hf://owner/name"),
        ("reviews.csv", "reviews.csv"),
        ("starter:movie_reviews/test", "starter:movie_reviews/test"),
        ("hf://owner/name", "hf://owner/name"),
        ("minilm_l6_en_uncased", "minilm_l6_en_uncased"),
    ],
)
def test_a_path_is_told_by_its_last_part(spec, told):
    assert without_folder(spec) == told


@given(st.lists(NAME.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4))
def test_no_folder_is_left(parts):
    assert "/" not in without_folder("/" + "/".join(parts))


@pytest.fixture
def run_of_alice(tmp_path) -> Run:
    """A run whose recipe and environment are full of her folders."""
    run = Run(tmp_path / "alice" / "spam")
    run.path.mkdir(parents=True)
    settings = [
        'data.train=["/home/alice/mail/a.csv", "/home/alice/mail/b.csv"]',
        "data.test=/home/alice/mail/test.csv",
        'data.label_names={"0": "n/a", "1": "/politics/uk"}',
        "model.preset=/home/alice/models/bert",
    ]
    run.recipe.write_text(load("bert_cls", settings).to_yaml())
    environment = {
        "command": "kerasllm finetune --train /home/alice/mail/a.csv",
        "platform": "Linux-alices-laptop",
        "seed": 7,
        "data": {"train": "a" * 64, "test": "b" * 64},
        "rows": {"train": 900, "validation": 100, "test": 50},
        "contents": {"train": "900 rows"},
        "versions": {"keras": "3.15.1"},
    }
    run.environment.write_text(json.dumps(environment))
    run.metrics.write_text(json.dumps({"test": {"accuracy": 0.9}}))
    return run


def test_a_run_is_told_without_its_owner(run_of_alice):
    recipe = load(str(run_of_alice.recipe))
    facts = facts_of_run(run_of_alice, recipe)
    assert "alice" not in json.dumps(facts)
    assert facts["data"]["train"] == {
        "files": ["a.csv", "b.csv"],
        "fingerprint": "a" * 64,
        "rows": 900,
        "contents": "900 rows",
    }
    assert facts["data"]["validation"] == {
        "files": [],
        "fingerprint": None,
        "rows": 100,
        "contents": None,
    }
    assert facts["base"] == "bert" and facts["licence"] is None and facts["seed"] == 7
    assert facts["metrics"]["test"]["accuracy"] == 0.9


def test_the_recipe_is_told_whole_but_for_folders(run_of_alice, tmp_path):
    recipe = load(str(run_of_alice.recipe))
    told = tmp_path / "told.yaml"
    told.write_text(facts_of_run(run_of_alice, recipe)["recipe"])
    read = load(str(told))
    assert read.training == recipe.training
    assert read.data.train == ["a.csv", "b.csv"] and read.model.preset == "bert"
    # Labels only look like paths.
    assert read.data.label_names == {"0": "n/a", "1": "/politics/uk"}


def test_the_licence_of_a_known_preset_and_of_bundled_data_is_told(run_of_alice):
    assert facts_of_preset("minilm_l6_en_uncased")["licence"] == "Apache-2.0"
    assert facts_of_preset(None) == {"base": None}
    facts = facts_of_run(run_of_alice, load("bert_cls"))
    assert facts["data_licences"] == {"starter:movie_reviews": "MIT"}
