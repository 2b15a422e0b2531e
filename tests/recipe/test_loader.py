"""The schema of a recipe: what it takes, what it refuses, and how it says so."""

import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasllm import recipe
from kerasllm.errors import RecipeError
from kerasllm.recipe.schema import known_keys
from kerasllm.tasks.text_classification import (
    ClassificationData,
    ClassificationModel,
    ClassificationRecipe,
    ClassificationTraining,
)


@pytest.fixture
def write(tmp_path):
    """Writes a recipe file: `write("training: {epochs: 3}")` adds what every recipe needs."""

    def write(text, task="task: text_classification\n", data="data: {train: train.csv}\n"):
        path = tmp_path / "mine.yaml"
        path.write_text(task + data + text, encoding="utf-8")
        return path

    return write


def refused(file, *overrides):
    """Returns the one problem of a recipe."""
    with pytest.raises(RecipeError) as caught:
        recipe.load(file, overrides)
    return caught.value


def test_keys_that_are_not_written_take_their_defaults(write):
    loaded = recipe.load(write("training: {epochs: 3}\n"))
    assert loaded.task == "text_classification"
    assert loaded.data.train == "train.csv"
    assert loaded.training.epochs == 3
    assert loaded.training.batch_size == 32
    assert loaded.training.learning_rate == 5e-5
    assert loaded.model.preset == "minilm_l6_en_uncased"
    assert loaded.model.lora is None


def test_a_section_whose_keys_are_all_commented_out_is_at_its_defaults(write):
    assert recipe.load(write("training:\n  # epochs: 3\n")).training == ClassificationTraining()


def test_a_recipe_cannot_be_changed_after_it_was_checked(write):
    loaded = recipe.load(write(""))
    with pytest.raises(ValueError, match="frozen"):
        loaded.training.epochs = 0


@pytest.mark.parametrize(
    ("written", "section", "key", "value"),
    [
        ("training: {learning_rate: 5e-5}", "training", "learning_rate", 5e-5),
        ("training: {learning_rate: 1}", "training", "learning_rate", 1.0),
        ("training: {xla: no}", "training", "xla", False),
        ("training: {xla: on}", "training", "xla", True),
        ("training: {xla: True}", "training", "xla", True),
        ("training: {evaluate_every: 500}", "training", "evaluate_every", 500),
        ("training: {clip_norm: null}", "training", "clip_norm", None),
        ("training: {warmup: 100}", "training", "warmup", 100.0),
        ("model: {freeze: 2}", "model", "freeze", 2),
        ("model: {freeze: backbone}", "model", "freeze", "backbone"),
        ("model: {lora: {}}", "model", "lora", recipe.Lora()),
        ("model: {preset: 2024-01-01}", "model", "preset", "2024-01-01"),
        ("model: {preset: 12:30:45}", "model", "preset", "12:30:45"),
        ('model: {preset: "null"}', "model", "preset", "null"),
    ],
)
def test_a_value_means_what_its_key_takes(write, written, section, key, value):
    found = getattr(getattr(recipe.load(write(written)), section), key)
    assert (found, type(found)) == (value, type(value))


def test_labels_are_the_texts_that_were_written(write):
    data = "data: {train: a.csv, label_names: {0: no, yes: 1.50, 007: on, null: ~x}}\n"
    loaded = recipe.load(write("", data=data))
    assert loaded.data.label_names == {"0": "no", "yes": "1.50", "007": "on", "null": "~x"}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("training: {epochs: three}", "training.epochs: expected a whole number .* three$"),
        ("training: {epochs: 0}", "training.epochs: expected a whole number from 1 .* 0$"),
        ("training: {epochs: 1.5}", "training.epochs: expected a whole number"),
        ("training: {epochs: true}", "training.epochs: expected a whole number"),
        ("training: {epochs: 99999999999}", "training.epochs: expected a whole number"),
        ("training: {epochs: [1]}", r'training.epochs: .* Received: \["1"\]$'),
        ("training: {epochs: null}", "training.epochs: .* Received: null$"),
        ("training: {learning_rate: .nan}", "training.learning_rate: expected a number above 0"),
        ("training: {learning_rate: inf}", "training.learning_rate: expected a number above 0"),
        ("training: {learning_rate: -1e-5}", "training.learning_rate: expected a number above 0"),
        ("training: {ema: 1}", "training.ema: expected a number between 0 and 1 or null"),
        ("training: {layer_decay: 0}", "training.layer_decay: expected a number above 0, 1 at"),
        ("training: {xla: maybe}", "training.xla: expected auto, true or false. .* maybe"),
        ("training: {seed: 4294967296}", "training.seed: expected a whole number from 0"),
        ("training: 3", "training: expected a mapping with epochs, max_steps, batch_size, "),
        ("training: {early_stopping: {metric: f1}}", "early_stopping.metric: expected loss, acc"),
        ("model: {dropout: 1}", "model.dropout: expected a number from 0 to below 1"),
        ("model: {preset: ''}", 'model.preset: expected a text. Received: ""'),
        ("model: {freeze: -1}", "model.freeze: expected backbone or a whole number from 0"),
        ("model: {lora: {targets: []}}", "model.lora.targets: expected a list of layer names"),
        ("model: {lora: {targets: [query, null]}}", "model.lora.targets.1: expected a text"),
        ('model: {preset: "a\\nb", dropout: "a\\nb"}', r'model.dropout: .* Received: "a\\nb"$'),
        (f"training: {{epochs: {'9' * 200}}}", r"training.epochs: .* Received: 9{80}\.\.\.$"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_was_expected(write, written, message):
    error = refused(write(written))
    assert re.search(message, error.what)
    assert error.where.endswith("mine.yaml:3")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("data:", "data.train is missing. Expected: a file, a glob"),
        ("data: {train: []}", r"data.train: expected a file, .* Received: \[\]"),
        ("data: {train: ''}", "data.train: expected a file"),
        ("data: {train: {a: b}}", r'data.train: expected a file, .* Received: {"a": "b"}'),
        ("data: {train: a, max_length: 2}", "data.max_length: .* from 3 to 65536. Received: 2"),
        ("data: {train: a, class_weights: {bad: 0}}", "data.class_weights.bad: .* above 0"),
        ("data: {train: a, class_weights: {}}", "data.class_weights: expected balanced, a"),
        ("data: {train: a, text: x, label: x}", "data.label: .* the column of the texts, x"),
        ("data: {train: a, label_names: {0: x, 1: x}}", "labels 0 and 1 are both named x"),
        (
            "data: {train: a, label_names: {0: bad}, class_weights: {0: 2, good: 1}}",
            "data.class_weights: good is not a label",
        ),
        (
            "data: {train: a, label_names: {0: bad}, class_weights: {bad: 2, 0: 1}}",
            "data.class_weights: bad and 0 are the same label",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(write, data, message):
    error = refused(write("", data=data))
    assert re.search(message, error.what)
    assert error.where.endswith("mine.yaml:2")


@pytest.mark.parametrize(
    ("written", "message", "line"),
    [
        ("training:\n  batch_size: 10\n  accumulate: 4", "10 cannot be cut into 4 equal", 5),
        ("training:\n  warmup: 1.5", "warmup: 1.5 is neither a share", 4),
        ("model:\n  lora: {rank: 4}\n  freeze: backbone", "lora trains layers that freeze", 4),
        ("training:\n  early_stopping: {patience: 1}", "early_stopping monitors validation", 4),
    ],
)
def test_values_that_do_not_go_together_are_refused(write, written, message, line):
    path = write(written, data="data: {train: a.csv, validation_split: 0}\n")
    error = refused(path)
    assert message in error.what
    assert error.where == f"{path}:{line}"


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("epochs=3", "training.epochs"),
        ("num_epochs=3", "training.epochs"),
        ("training.epoch=3", "training.epochs"),
        ("training.dropout=0", "model.dropout"),
        ("model.dropuot=0", "model.dropout"),
        ("head-dropout=0", "model.head_dropout"),
        ("lr=1e-4", "training.learning_rate"),
        ("training.bs=8", "training.batch_size"),
        ("max_seq_length=8", "data.max_length"),
        ("rank=4", "model.lora.rank"),
        ("lora.rank=4", "model.lora"),
        ("train.epochs=3", "training"),
        ("training.Precision=auto", "training.precision"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_known_one(write, setting, meant):
    error = refused(write(""), setting)
    assert error.what.startswith("unknown key")
    assert error.where == f"--set {setting}"
    assert error.fix.startswith(f"did you mean {meant}?")


def test_an_unknown_key_like_no_other_is_answered_with_the_keys_there_are(write):
    assert refused(write(""), "model.zzz=1").fix == (
        "the keys of model are preset, dropout, head_dropout, pooling, freeze, lora and trust"
    )
    assert refused(write("zzz: 1")).fix == "the top-level keys are task, model, data and training"


def test_a_misspelt_choice_is_answered_with_the_nearest(write):
    error = refused(write("training: {optimizer: AdamW2}"))
    assert error.fix == "did you mean adamw?"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(write):
    path = write("model:\n  dropout: 2\n  dropout: 3\ntraining:\n  epochs: 0\n  epoch: 1\n")
    problems = recipe.validate(path, ["data.max_length=1", "nonsense"])
    assert [problem.where.removeprefix(f"{path}:") for problem in problems] == [
        *("4", "5", "7", "8"),
        *("--set nonsense", "--set data.max_length=1"),
    ]
    with pytest.raises(RecipeError) as caught:
        recipe.load(path, ["data.max_length=1", "nonsense"])
    told = str(caught.value)
    assert told.startswith("6 problems\n")
    assert all(str(problem) in told for problem in problems)


def test_a_good_recipe_has_no_problems(write):
    assert recipe.validate(write("")) == []


def test_a_setting_wins_over_the_file_and_the_last_one_over_the_others(write):
    loaded = recipe.load(
        write("training: {epochs: 2, batch_size: 8}\n"),
        ["training.epochs=3", " training.epochs = 4 ", "model.lora.rank=2", "training.xla=off"],
    )
    assert (loaded.training.epochs, loaded.training.batch_size) == (4, 8)
    assert loaded.model.lora == recipe.Lora(rank=2)
    assert loaded.training.xla is False


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.train=*.csv", "*.csv"),
        ("data.train=my reviews #1.csv", "my reviews #1.csv"),
        ("data.train=s3://bucket/a=b.csv", "s3://bucket/a=b.csv"),
        ("data.train=[a.csv, 'b c.csv']", ["a.csv", "b c.csv"]),
        ('data.train="[a].csv"', "[a].csv"),
        ("data.train=C: \\x", "C: \\x"),
        ("data.train=&x", "&x"),
    ],
)
def test_a_setting_takes_a_path_as_it_is_and_a_list_as_yaml(write, setting, value):
    assert recipe.load(write(""), [setting]).data.train == value


def test_a_setting_can_take_a_value_away(write):
    path = write("model: {lora: {rank: 4}}\ntraining: {clip_norm: 2}\n")
    loaded = recipe.load(path, ["model.lora=null", "training.clip_norm="])
    assert loaded.model.lora is None
    assert loaded.training.clip_norm is None


def test_other_training_data_drops_the_validation_and_test_data_of_the_file(write):
    path = write("", data="data: {train: a.csv, validation: b.csv, test: c.csv}\n")
    alone = recipe.load(path, ["data.train=mine.csv"]).data
    assert (alone.train, alone.validation, alone.test) == ("mine.csv", None, None)
    with_test = recipe.load(path, ["data.test=my_test.csv", "data.train=mine.csv"]).data
    assert (with_test.validation, with_test.test) == (None, "my_test.csv")
    untouched = recipe.load(path, ["data.text=review"]).data
    assert (untouched.validation, untouched.test) == ("b.csv", "c.csv")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs", "not a setting"),
        ("=3", "not a setting"),
        ("training..epochs=3", "not a setting"),
        ("training={epochs: 3}", "training is a section"),
        ("data.train=[a.csv", "not valid YAML"),
        ("data.label_names={0: a, 0: b}", "0 is written twice"),
        ("model.freeze.layers=3", 'model.freeze: .* Received: {"layers": "3"}'),
        ("training.epochs=!!python/name:os.system", "training.epochs: expected a whole number"),
        ("data.train=[!!python/name:os.system x]", "takes no tags. Received: !!python/name"),
        ("data.train=[*a]", "takes no aliases"),
    ],
)
def test_a_setting_that_is_none_is_refused(write, setting, message):
    error = refused(write(""), setting)
    assert re.search(message, error.what)
    assert error.where == f"--set {setting}"


def test_yaml_holds_every_key_and_can_explain_each(write):
    loaded = recipe.load(write(""))
    plain, explained = loaded.to_yaml(), loaded.to_yaml(explain=True)
    for key in (*ClassificationModel.model_fields, *ClassificationData.model_fields):
        assert f"\n  {key}: " in plain
    assert "#" not in plain
    for (*_, name), known in known_keys(ClassificationRecipe).items():
        assert known.description, f"{name} is not described"
    for line in explained.splitlines():
        assert len(line) <= 100
    assert "# auto | float32 | mixed_bfloat16 | mixed_float16 | bfloat16; " in explained


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["data.train", "model.lora", "training.xla", "data.label_names", "x", ""]),
    st.text(max_size=20) | st.text(alphabet="[]{}\"':,&*!#\\Ux~- ", max_size=12),
)
def test_no_setting_ends_in_anything_but_a_recipe_or_a_refusal(write, key, value):
    try:
        loaded = recipe.load(write(""), [f"{key}={value}"])
    except RecipeError as error:
        assert str(error)
    else:
        assert isinstance(loaded, ClassificationRecipe)


def test_checking_a_recipe_does_not_wait_for_tensorflow():
    code = (
        "import sys; from kerasllm import recipe; recipe.load('bert_cls'); "
        "heavy = {'tensorflow', 'keras', 'pyarrow', 'numpy', 'rich'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.optimizer=lamb", "lamb does not learn in pure bfloat16"),
        ("training.ema=0.99", "ema cannot average"),
    ],
)
def test_pure_bfloat16_is_refused_where_steps_would_be_lost(setting, words):
    with pytest.raises(RecipeError, match=words) as error:
        recipe.load("bert_cls", ["training.precision=bfloat16", setting])
    assert "mixed_bfloat16" in error.value.fix


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_without_bundled_data_asks_for_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = recipe.load(name)
    if not isinstance(getattr(getattr(loaded, "data", None), "train", None), str):
        return
    if loaded.data.train.startswith("starter:"):
        recipe.refuse_missing_data(name, loaded)
        return
    with pytest.raises(RecipeError, match=f"The recipe {name} has no bundled data") as caught:
        recipe.refuse_missing_data(name, loaded)
    assert "--train FILE" in caught.value.fix
    # A file that somebody named, and one that is there, are read.
    recipe.refuse_missing_data(name, recipe.load(name, ["data.train=mine.jsonl"]))
    (tmp_path / loaded.data.train).touch()
    recipe.refuse_missing_data(name, loaded)
