"""A run learns, leaves what it promises, speaks in label names, and repeats itself exactly."""

import io
import json
import re
from dataclasses import replace

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from kerasllm.data import classification
from kerasllm.data.readers.sources import Source
from kerasllm.errors import CommandError, DataError, JobError, RunError
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.training.checkpoints import CheckpointStore
from kerasllm.workflows.evaluate import evaluate
from kerasllm.workflows.finetune import finetune
from kerasllm.workflows.predict import predict
from kerasllm.workflows.report import Report
from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv


@pytest.fixture(autouse=True)
def cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))


def run_toy(toy_data, toy_preset, *settings, output="run", **options):
    """Runs the toy recipe; returns the run and all that was shown."""
    shown = io.StringIO()
    recipe = load("bert_cls", [*toy_settings(toy_data, toy_preset), *settings])
    report = Report(Console(file=shown, width=200))
    run = finetune(recipe, output=toy_data / output, report=report, **options)
    return run, shown.getvalue()


def test_it_learns_and_measures(toy_run):
    metrics = Run.open(toy_run).read_metrics()
    assert metrics["test"]["accuracy"] > 0.95
    assert metrics["validation"]["accuracy"] > 0.9
    assert metrics["train"]["loss"] < 0.3
    assert set(metrics["test"]["per_class"]) == {"negative", "positive"}
    assert np.sum(metrics["test"]["confusion_matrix"]) == 60
    timing = metrics["timing"]
    assert timing["steps"] == 6 * -(-216 // 32)
    assert 0 <= timing["padding"] < 0.25 and timing["real_tokens"] < timing["processed_tokens"]


def test_it_tells_where_the_time_went(toy_run):
    timing = Run.open(toy_run).read_metrics()["timing"]
    # Too few steps for XLA to pay.
    parts = ("import", "data", "load", "trace", "first_use", "train", "save", "test")
    assert all(timing[f"{part}_seconds"] >= 0 for part in parts)
    assert 0 < timing["trace_seconds"] < timing["first_step_seconds"] < timing["train_seconds"] + 1
    assert timing["data_seconds"] + timing["load_seconds"] < timing["ready_seconds"]
    assert timing["ready_seconds"] + timing["first_step_seconds"] < timing["total_seconds"]


def test_the_run_directory_holds_what_it_promises(toy_run):
    run = Run.open(toy_run)
    rows = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row][:3] == [1, 5, 7]
    assert len([row for row in rows if "validation" in row]) == 6
    assert rows[-2]["loss"] < rows[0]["loss"]
    assert load(str(run.recipe)).training.epochs == 6
    for name in ("step_seconds", "tokens_per_second", "input_wait", "peak_memory", "gradient_norm"):
        assert all(row[name] >= 0 for row in rows if "loss" in row)
    environment = json.loads(run.environment.read_text())
    assert environment["versions"]["keras-hub"]
    assert environment["data"] == {
        part: Source(toy_run.parent / f"{part}.csv").fingerprint for part in ("train", "test")
    }
    assert run.curve.read_bytes().startswith(b"\x89PNG")
    scalars = {}
    for file in run.tensorboard.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                scalars.setdefault(value.tag, []).append(event.step)
    assert len(scalars["train/loss"]) == len([row for row in rows if "loss" in row])
    assert len(scalars["validation/accuracy"]) == 6
    assert {"train/step_seconds", "train/input_wait", "train/peak_memory"} <= set(scalars)
    assert {"train/tokens_per_second", "train/gradient_norm"} <= set(scalars)


def test_keras_hub_loads_the_model_alone_and_says_the_same(toy_run):
    texts = [text for text, _ in toy_rows(8, seed=5)]
    task = keras_hub.models.TextClassifier.from_preset(str(Run.open(toy_run).model))
    logits = task.predict(texts, verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    ours = [list(row["probabilities"].values()) for row in predict(toy_run, texts)]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_predictions_come_in_order_and_by_name(toy_run):
    rows = toy_rows(50, seed=6)
    found = list(predict(toy_run, [text for text, _ in rows], chunk=16))
    assert [row["text"] for row in found] == [text for text, _ in rows]
    right = [row["label"] == label for row, (_, label) in zip(found, rows, strict=True)]
    assert np.mean(right) > 0.9
    for row in found:
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert max(row["probabilities"], key=row["probabilities"].get) == row["label"]


def test_a_text_does_not_change_by_its_neighbours(toy_run):
    texts = [text for text, _ in toy_rows(30, seed=7)]
    together = [row["probabilities"]["positive"] for row in predict(toy_run, texts)]
    alone = [next(predict(toy_run, [text]))["probabilities"]["positive"] for text in texts[:3]]
    np.testing.assert_allclose(together[:3], alone, atol=1e-5)


def test_texts_are_answered_one_by_one_or_read_ahead(toy_run):
    read = []

    def texts():
        for text, _ in toy_rows(6, seed=7):
            read.append(text)
            yield text
        raise DataError("a bad row")

    answers = predict(toy_run, texts(), chunk=1)
    next(answers)
    assert len(read) == 1
    read.clear()
    answers, found = predict(toy_run, texts(), chunk=2), []
    with pytest.raises(DataError):
        for answer in answers:
            found.append(answer["text"])
    # What stands before a bad row is not lost.
    assert found == read


def test_evaluate_agrees_with_the_test_metrics_of_the_run(toy_run):
    again = evaluate(toy_run, str(toy_run.parent / "test.csv"))
    expected = Run.open(toy_run).read_metrics()["test"]
    assert again["confusion_matrix"] == expected["confusion_matrix"]
    assert again["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_the_same_seed_gives_the_same_weights(toy_data, toy_preset):
    models = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = (f"training.seed={seed}", "training.epochs=1", "model.dropout=0.2")
        run, _ = run_toy(toy_data, toy_preset, *settings, output=name)
        models.append(keras_hub.models.TextClassifier.from_preset(str(run.model)).get_weights())
    same, other = models[1], models[2]
    assert all(np.array_equal(a, b) for a, b in zip(models[0], same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(models[0], other, strict=True))


def test_a_run_can_be_repeated_from_its_own_recipe(toy_run, tmp_path):
    again = finetune(load(str(Run.open(toy_run).recipe)), output=tmp_path / "again")
    assert again.read_metrics()["test"] == Run.open(toy_run).read_metrics()["test"]


def test_it_says_what_it_will_do_and_what_came_of_it(toy_data, toy_preset):
    _, shown = run_toy(toy_data, toy_preset, "training.epochs=1")
    for words in (
        "training.learning_rate  0.005  (default: 5e-05)",
        "240 rows",
        "24 rows held out of train, stratified",
        "7, batch size 32",
        "% of",
        "step 5/7",
        "tokens/s",
        "validation",
        "macro F1",
        "Most confident mistakes",
        "kerasllm predict",
    ):
        assert words in shown, words


def test_three_classes_named_and_weighted(toy_data, toy_preset):
    rows = toy_rows(300, ("negative", "positive", "mixed"))
    kept = [row for number, row in enumerate(rows) if row[1] != "mixed" or number % 2]
    codes = {"negative": "-1", "positive": "1", "mixed": "0"}
    write_csv(toy_data / "train.csv", [(text, codes[label]) for text, label in kept])
    write_csv(toy_data / "test.csv", [(t, codes[label]) for t, label in rows[:60]])
    run, shown = run_toy(
        toy_data,
        toy_preset,
        'data.label_names={"-1": bad, "0": mixed, "1": good}',
        "data.class_weights={mixed: 1.5}",
        "data.leaks=warn",
        "training.epochs=12",
    )
    report = run.read_metrics()["test"]
    assert list(report["per_class"]) == ["bad", "mixed", "good"]
    assert report["accuracy"] > 0.9
    assert "45 (20.0%)" in shown and "1.5" in shown


@pytest.mark.parametrize(
    "settings",
    [
        ("training.accumulate=4", "training.label_smoothing=0.1", "training.l2=1e-5"),
        ("training.ema=0.8", "training.optimizer=lion", "training.learning_rate=2e-3"),
        ("training.layer_decay=0.8", "training.precision=mixed_bfloat16"),
        ("training.early_stopping={patience: 6, metric: accuracy}", "training.evaluate_every=5"),
        ("model.lora={rank: 4}", "training.learning_rate=0.02"),
        pytest.param(("training.xla=true", "training.epochs=5"), marks=pytest.mark.slow),
    ],
)
def test_every_way_to_train_learns(toy_data, toy_preset, settings):
    run, _ = run_toy(toy_data, toy_preset, *settings)
    assert run.read_metrics()["test"]["accuracy"] > 0.85


def test_only_the_head_trains_when_the_backbone_is_frozen(toy_data, toy_preset):
    run, shown = run_toy(toy_data, toy_preset, "model.freeze=backbone", "training.epochs=1")
    trained = keras_hub.models.TextClassifier.from_preset(str(run.model))
    pretrained = keras_hub.models.BertBackbone.from_preset(str(toy_preset))
    for after, before in zip(trained.backbone.get_weights(), pretrained.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    assert "trainable" in shown


def test_a_label_that_training_lacks_is_refused_before_training(toy_data, toy_preset):
    write_csv(toy_data / "test.csv", [*toy_rows(4), ("a film .", "neutral")])
    with pytest.raises(DataError, match="'neutral'") as error:
        run_toy(toy_data, toy_preset)
    assert error.value.where.endswith("test.csv:6")
    assert not (toy_data / "run").exists()


def test_a_directory_in_use_is_refused_before_anything_is_read(toy_data, toy_preset):
    (toy_data / "run").mkdir()
    (toy_data / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        run_toy(toy_data, toy_preset, "model.preset=no_such_preset")


def test_a_training_that_diverges_stops_and_leaves_no_model(toy_data, toy_preset):
    settings = ("learning_rate=1e30", "clip_norm=null", "checkpoint_every=1")
    with pytest.raises(JobError, match="At step .* did not change any weights") as stopped:
        run_toy(toy_data, toy_preset, *(f"training.{setting}" for setting in settings))
    assert stopped.value.exit_status == 1 and "learning_rate" in stopped.value.fix
    step = int(re.match(r"At step (\d+)", stopped.value.what)[1])
    assert CheckpointStore(toy_data / "run" / "checkpoints").newest().step == step - 1
    with pytest.raises(RunError, match="did not finish"):
        Run.open(toy_data / "run")


def test_a_row_that_makes_the_loss_infinite_is_named_and_left_out(
    toy_data, toy_preset, monkeypatch
):
    load_data, lines = classification.load_data, []

    def load_with_a_bad_row(*arguments, **options):
        data = load_data(*arguments, **options)
        weights = np.ones(len(data.train), np.float32)
        weights[5] = np.inf
        data = replace(data, train=replace(data.train, weights=weights))
        lines.append(int(data.train.rows[5]) + 2)
        return data

    monkeypatch.setattr(classification, "load_data", load_with_a_bad_row)
    settings = ("training.epochs=2", "training.on_nan=skip")
    run, shown = run_toy(toy_data, toy_preset, *settings)
    skipped = [line for line in shown.splitlines() if "is skipped" in line]
    assert len(skipped) == run.read_metrics()["timing"]["skipped"] == 2
    with pytest.raises(JobError) as stopped:
        run_toy(toy_data, toy_preset, "training.epochs=2", output="stopped")
    for place in (*skipped, stopped.value.where):
        file, _, named = place.rpartition(", lines ")
        assert file.endswith(str(toy_data / "train.csv"))
        assert lines[0] in [int(line) for line in named.split(", ")]


def test_a_profile_beyond_the_last_step_is_refused(toy_data, toy_preset):
    with pytest.raises(CommandError, match="starts at step 50, and the training has 42"):
        run_toy(toy_data, toy_preset, profile=(50, 60))
    assert not (toy_data / "run").exists()


def test_early_stopping_without_validation_rows_is_refused(toy_data, toy_preset):
    write_csv(toy_data / "train.csv", toy_rows(2))
    with pytest.raises((CommandError, DataError), match="[Vv]alidation"):
        run_toy(
            toy_data,
            toy_preset,
            "training.early_stopping={patience: 2}",
            "data.validation_split=0.01",
        )
