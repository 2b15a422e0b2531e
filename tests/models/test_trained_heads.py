"""A training that begins with a run keeps its head where the labels are the same, or says why."""

import warnings

import numpy as np
import pytest

from kerasllm.data.labels import Labels
from kerasllm.errors import PresetError, RunError
from kerasllm.export.formats import Options, load_format
from kerasllm.export.source import Source
from kerasllm.models import presets
from kerasllm.models.decoder import load_causal_lm, load_text_side
from kerasllm.models.encoder import build_task
from kerasllm.models.new_classifier import bert_classifier
from kerasllm.models.text_classifier import Outputs, TextClassifier
from kerasllm.models.trained_heads import folder_with_head, have_same_classes
from kerasllm.recipe import load
from kerasllm.tasks.task import find, task_of
from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv

INPUTS = {
    "token_ids": np.array([[2, 20, 7, 9, 3]]),
    "segment_ids": np.zeros((1, 5), int),
    "padding_mask": np.ones((1, 5), int),
}


@pytest.fixture(autouse=True)
def cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))


def logits(model):
    names = model.input_names
    return np.asarray(model({name: INPUTS[name] for name in names}, training=False))


def begun_with(preset, folder, *settings):
    """Returns the model of a training that begins with a preset, and what the plan says of it."""
    recipe = load("bert_cls", [*toy_settings(folder, preset), *settings])
    task = task_of(recipe)
    model = task.build(recipe, task.load(recipe), "float32")
    return model, dict(task.model_facts(recipe, model)).get("head")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_head_is_kept_where_the_labels_are_the_same(toy_data, toy_preset, tmp_path, pooling):
    trained = bert_classifier(
        toy_preset, labels=["negative", "positive"], pooling=pooling, precision="float32"
    )
    trained.save_to_preset(tmp_path / "trained")
    model, head = begun_with(tmp_path / "trained", toy_data, "model.pooling=auto")
    np.testing.assert_allclose(logits(model), logits(trained), atol=1e-6)
    assert head == f"trained, of {tmp_path / 'trained'}"
    _, head = begun_with(toy_preset, toy_data)
    assert head is None


def test_the_head_that_keras_hub_saved_is_kept_where_the_number_of_labels_fits(
    toy_data, toy_preset, tmp_path
):
    folder = tmp_path / "saved"
    task = build_task(toy_preset, 2)
    task.save_to_preset(str(folder))
    assert not (folder / "labels.json").exists()
    model, head = begun_with(folder, toy_data)
    assert head == (
        f"trained, of {folder}; its classes have no names and are taken in order: "
        "0 is negative, 1 is positive"
    )
    kernel = task.get_layer("logits").kernel
    np.testing.assert_array_equal(model.task.get_layer("logits").kernel, kernel)
    write_csv(toy_data / "train.csv", toy_rows(240, ("negative", "mixed", "positive")))
    model, head = begun_with(folder, toy_data, "data.test=null")
    assert head == "new: there are 3 labels, and were 2 classes"
    _, head = begun_with(folder, toy_data, "data.test=null", "data.problem=multi_label")
    assert head.startswith("new: the problem is multi label, and what it was is not known")


def test_the_head_of_another_task_is_none(toy_data, toy_preset, tmp_path):
    build_task(toy_preset, 2).save_to_preset(str(tmp_path / "saved"))
    task = (tmp_path / "saved" / "task.json").read_text()
    (tmp_path / "saved" / "task.json").write_text(task.replace("TextClassifier", "MaskedLM"))
    assert folder_with_head(tmp_path / "saved") is None


def test_a_new_head_is_told_with_what_differs(toy_data, toy_preset, tmp_path):
    trained = bert_classifier(
        toy_preset, labels=["negative", "positive"], pooling="cls", precision="float32"
    )
    trained.save_to_preset(tmp_path / "trained")
    write_csv(toy_data / "train.csv", toy_rows(240, ("negative", "mixed")))
    settings = ("data.test=null",)
    model, head = begun_with(tmp_path / "trained", toy_data, *settings)
    assert head == "new: the labels are mixed, negative, and were negative, positive"
    assert not np.allclose(logits(model), logits(trained))
    _, head = begun_with(tmp_path / "trained", toy_data, *settings, "model.pooling=mean")
    assert "the pooling is mean, and was cls" in head
    write_csv(toy_data / "train.csv", [(text, f"{len(text)}.5") for text, _ in toy_rows(240)])
    _, head = begun_with(tmp_path / "trained", toy_data, *settings, "data.problem=regression")
    assert head == "new: the problem is regression, and was single label"


@pytest.fixture(scope="module")
def trained(toy_preset):
    return bert_classifier(
        toy_preset,
        labels=["positive", "negative"],
        pooling="cls",
        precision="float32",
        max_length=64,
    )


def exported(trained, folder):
    folder.mkdir(exist_ok=True)
    source = Source(find("text_classification"), trained, "toy", trained.max_length, [])
    load_format("transformers").write(source, folder, Options())


@pytest.mark.parametrize("write", [lambda trained, to: trained.save_to_preset(to), exported])
def test_the_head_is_kept_in_the_order_of_the_new_labels(trained, toy_data, tmp_path, write):
    folder = tmp_path / "trained"
    write(trained, folder)
    model, head = begun_with(folder, toy_data)
    assert head == f"trained, of {folder}" and model.labels.names == ("negative", "positive")
    np.testing.assert_allclose(logits(model), logits(trained)[:, ::-1], atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = TextClassifier.from_preset(folder, labels=["negative", "positive"], dropout=0.2)
    np.testing.assert_allclose(logits(again), logits(trained)[:, ::-1], atol=1e-2)


def test_other_labels_are_named_in_python_and_in_the_plan(trained, toy_data, tmp_path):
    exported(trained, tmp_path / "trained")
    write_csv(toy_data / "train.csv", toy_rows(240, ("negative", "mixed")))
    _, head = begun_with(tmp_path / "trained", toy_data, "data.test=null")
    assert head == "new: the labels are mixed, negative, and were positive, negative"
    with pytest.warns(UserWarning, match="head of .* is not used.* were positive, negative"):
        TextClassifier.from_preset(tmp_path / "trained", labels=["negative", "mixed"])


def test_a_head_whose_classes_are_not_known_is_told(trained, toy_data, tmp_path):
    trained.save_to_preset(tmp_path / "trained")
    (tmp_path / "trained" / "labels.json").unlink()
    _, head = begun_with(tmp_path / "trained", toy_data)
    assert "its classes have no names and are taken in order: 0 is negative" in head
    (tmp_path / "trained" / "task.json").write_text('{"registered_name": "BertTextClassifier"}')
    _, head = begun_with(tmp_path / "trained", toy_data)
    assert head == (
        "new: the problem is single label, and what it was is not known, without labels.json"
    )


def test_the_same_classes_in_other_words():
    run = Labels(["0", "1"], ["negative", "positive"])
    for own in (["positive", "negative"], ["1", "0"], ["true", "false"]):
        assert have_same_classes(run, Labels(own))
    assert have_same_classes(Labels(["LABEL_0", "LABEL_1"]), Labels(["0", "1"]))
    for other in (["negative", "mixed"], ["0", "1", "2"], ["1", "2"]):
        assert not have_same_classes(run, Labels(other))


def test_a_head_of_scores_is_kept_in_the_unit_of_the_new_data(toy_data, toy_preset, tmp_path):
    trained = bert_classifier(
        toy_preset,
        labels=["score"],
        pooling="mean",
        precision="float32",
        outputs=Outputs("regression", std=9.0),
    )
    trained.save_to_preset(tmp_path / "trained")
    write_csv(toy_data / "train.csv", [(text, f"{len(text)}.5") for text, _ in toy_rows(240)])
    model, head = begun_with(
        tmp_path / "trained",
        toy_data,
        *("data.test=null", "data.problem=regression", "model.pooling=mean"),
    )
    assert head.startswith("trained")
    scores = logits(model) * model.outputs.std + model.outputs.mean
    # In the unit of the data, which is wide: what is rounded is a multiple of it.
    np.testing.assert_allclose(scores, logits(trained), rtol=1e-3, atol=2e-3)


def test_a_run_stands_for_its_trained_model(toy_run, toy_data, tmp_path):
    assert presets.resolve(toy_run) == toy_run / "model"
    assert presets.resolve(str(toy_run)) == toy_run / "model"
    _model, head = begun_with(toy_run, toy_data)
    assert head == f"trained, of {toy_run / 'model'}"
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text("task: text_classification\n")
    with pytest.raises(RunError, match="did not finish"):
        presets.resolve(tmp_path / "begun")


def test_a_run_of_a_language_model_is_continued(toy_language_model):
    model = load_causal_lm(toy_language_model)
    tokenizer, _ = load_text_side(str(toy_language_model))
    trained = load_causal_lm(toy_language_model / "model")
    ids = np.array([tokenizer.encode_whole("Call me")])
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    np.testing.assert_array_equal(model(inputs), trained(inputs))


def test_a_head_that_is_damaged_is_refused(toy_data, toy_preset, tmp_path):
    trained = bert_classifier(
        toy_preset, labels=["negative", "positive"], pooling="mean", precision="float32"
    )
    trained.save_to_preset(tmp_path / "trained")
    (tmp_path / "trained" / "head.safetensors").write_bytes(b"no")
    with pytest.raises(PresetError, match="trained head cannot be read"):
        begun_with(tmp_path / "trained", toy_data, "model.pooling=auto")
