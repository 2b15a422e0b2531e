"""Pairs, several labels, scores and calibration, as a user meets them: files in, answers out."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.cli.main import main
from kerasllm.errors import CommandError, DataError, RecipeError
from kerasllm.evaluation.multi_label import best_thresholds, sigmoid
from kerasllm.models.classify import predict_logits
from kerasllm.recipe import load
from kerasllm.tasks.task import task_of
from kerasllm.workflows.evaluate import evaluate
from kerasllm.workflows.finetune import finetune
from kerasllm.workflows.job import prepare
from kerasllm.workflows.predict import predict
from kerasllm.workflows.report import Report
from kerasllm.workflows.trained import open_run
from tests.conftest import cached_in, toy_settings
from tests.toy import toy_rows, write_csv

WORDS = {"glad": "good bright", "sad": "dull bad"}


def status(*arguments) -> int:
    """Runs a command and returns its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def _train(recipe, folder, preset, *more):
    loaded = load(recipe, [*toy_settings(folder, preset), *more])
    return finetune(loaded, output=folder / "run", report=Report.silent())


@pytest.fixture(scope="module", autouse=True)
def cache(session_cache):
    with cached_in(session_cache):
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, toy_preset):
    """A run on pairs whose first text says nothing about the label."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, count, seed in (("train", 160, 0), ("test", 40, 1)):
        rows = [("the film .", text, label) for text, label in toy_rows(count, seed=seed)]
        write_csv(folder / f"{name}.csv", rows, ("premise", "hypothesis", "label"))
    return _train("pair_cls", folder, toy_preset)


@pytest.fixture(scope="module")
def several(tmp_path_factory, toy_preset):
    """A run on texts that have none, one or both of two labels."""
    folder = tmp_path_factory.mktemp("several")
    random = np.random.default_rng(0)
    for name, count in (("train", 240), ("test", 60)):
        given = random.integers(0, 2, (count, 2))
        rows = []
        for one in given:
            words = [WORDS[label] for label, has in zip(WORDS, one) if has]
            rows.append((" ".join(["the film was", *words]), *one))
        write_csv(folder / f"{name}.csv", rows, ("text", *WORDS))
    more = ("data.label=[sad, glad]", "model.pooling=mean", "data.leaks=warn")
    return _train("multi_label_cls", folder, toy_preset, *more)


@pytest.fixture(scope="module")
def scores(tmp_path_factory, toy_preset):
    """A run on scores whose unit is far from that of the weights."""
    folder = tmp_path_factory.mktemp("scores")
    random = np.random.default_rng(0)
    for name, count in (("train", 200), ("test", 40)):
        rows = []
        for good in random.integers(0, 5, count):
            text = random.permutation(["good"] * good + ["bad"] * (4 - good))
            rows.append((" ".join(text), 1000.5 + 100 * good))
        write_csv(folder / f"{name}.csv", rows, ("text", "score"))
    return _train("text_regression", folder, toy_preset, "training.epochs=10")


def test_a_model_of_pairs_learns_from_the_second_text(pairs):
    assert pairs.read_metrics()["test"]["accuracy"] > 0.9
    facts = json.loads((pairs.model / "outputs.json").read_text())
    assert facts["pair"] is True and facts["problem"] == "single_label"


def test_pairs_are_predicted_from_arguments_files_and_with_their_columns_swapped(pairs, tmp_path):
    opened = open_run(pairs.path)
    first, second = ("the film .", "a good bright film .")
    (found,) = predict(opened, [(first, second)])
    assert found["label"] == "positive"
    file = write_csv(tmp_path / "rows.csv", [(second, first)], ("one", "two"))
    output = tmp_path / "out.jsonl"
    arguments = ["--input", str(file), "--text", "two", "--text-pair", "one"]
    assert status("predict", str(pairs.path), *arguments, "--output", str(output)) == 0
    row = json.loads(output.read_text())
    assert row["probabilities"]["positive"] == pytest.approx(
        found["probabilities"]["positive"], abs=1e-5
    )


def test_a_line_of_a_text_file_holds_a_pair_as_on_stdin(pairs, tmp_path, capsys):
    file = tmp_path / "pairs.txt"
    file.write_text("the film .\ta good film\n", encoding="utf-8")
    assert status("predict", str(pairs.path), "--input", str(file)) == 0
    assert capsys.readouterr().out.endswith("\tthe film .\ta good film\n")
    file.write_text("the film .\ta good film\nonly one\n", encoding="utf-8")
    refused = ("--input", str(file), "--on-bad-row", "error")
    assert status("predict", str(pairs.path), *refused) == 2
    assert f"{file.name}:2" in capsys.readouterr().err


def test_one_text_for_a_model_of_pairs_is_refused(pairs, capsys):
    assert status("predict", str(pairs.path), "only one") == 2
    assert "two texts" in " ".join(capsys.readouterr().err.split())


def test_a_file_of_one_text_a_row_is_refused_by_a_model_of_pairs(pairs, tmp_path, capsys):
    file = write_csv(tmp_path / "rows.csv", [("a good film", "positive")])
    for command, option in (("predict", "--input"), ("evaluate", "--data")):
        assert status(command, str(pairs.path), option, str(file)) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "reads two texts" in told and "--text-pair COLUMN" in told


def test_a_second_column_for_a_model_of_single_texts_is_refused(toy_run, toy_data, capsys):
    arguments = ["--input", str(toy_data / "test.csv"), "--text-pair", "label"]
    assert status("predict", str(toy_run), *arguments) == 2
    assert "reads one text at a time" in " ".join(capsys.readouterr().err.split())


def test_a_table_of_one_text_for_a_model_of_pairs_is_refused(pairs, tmp_path, capsys):
    (tmp_path / "a.tsv").write_text("7\ta good bright film\n8\ta dull bad film\n")
    assert status("predict", str(pairs.path), "--input", str(tmp_path / "a.tsv")) == 2
    assert "--text COLUMN --text-pair COLUMN" in " ".join(capsys.readouterr().err.split())


def test_thresholds_are_those_of_the_validation_data_and_are_saved(several):
    opened = open_run(several.path)
    model = opened.open()
    found = several.read_metrics()
    assert found["test"]["micro_f1"] > 0.9 and "micro_f1_at_0.5" in found["test"]
    held_out = opened.task.load(opened.recipe).validation
    logits = predict_logits(model, held_out, buckets=opened.buckets)
    expected = best_thresholds(held_out.targets(), sigmoid(logits))
    np.testing.assert_allclose(model.outputs.thresholds, expected, atol=1e-4)
    assert found["thresholds"] == pytest.approx(dict(zip(WORDS, model.outputs.thresholds)))


def test_each_text_has_the_labels_at_their_thresholds(several):
    opened = open_run(several.path)
    thresholds = dict(zip(WORDS, opened.open().outputs.thresholds))
    found = list(predict(opened, ["the film was", "the film was good bright dull bad"]))
    assert [row["labels"] for row in found] == [[], ["glad", "sad"]]
    for row in found:
        expected = [name for name, p in row["probabilities"].items() if p >= thresholds[name]]
        assert row["labels"] == expected


def test_scores_come_back_in_their_own_unit(scores):
    metrics = scores.read_metrics()["test"]
    assert metrics["pearson"] > 0.9 and metrics["rmse"] < 60
    found = list(predict(open_run(scores.path), ["bad bad bad bad", "good good good good"]))
    assert found[0]["score"] == pytest.approx(1000.5, abs=120)
    assert found[1]["score"] == pytest.approx(1400.5, abs=120)


def test_early_stopping_watches_what_the_problem_has(scores, toy_preset):
    with pytest.raises(RecipeError, match="monitor one of loss, pearson"):
        prepare(
            load(
                "text_regression",
                [
                    *toy_settings(scores.path.parent, toy_preset),
                    "training.early_stopping={patience: 1, metric: accuracy}",
                ],
            ),
            Report.silent(),
        )


def test_a_calibrated_model_keeps_its_labels_and_its_temperature(tmp_path, toy_preset):
    random = np.random.default_rng(0)
    other = {"negative": "positive", "positive": "negative"}
    for name, count, seed in (("train", 300, 0), ("test", 100, 1)):
        rows = [
            (text, other[label] if random.random() < 0.3 else label)
            for text, label in toy_rows(count, seed=seed)
        ]
        write_csv(tmp_path / f"{name}.csv", rows)
    more = ("data.validation_split=0.3", "training.calibrate=true", "training.epochs=12")
    run = _train("bert_cls", tmp_path, toy_preset, *more)
    found = run.read_metrics()["calibration"]
    assert found["temperature"] > 1.05 and found["ece_after"] < found["ece_before"]
    facts = json.loads((run.model / "outputs.json").read_text())
    assert facts["temperature"] == pytest.approx(found["temperature"])
    # The weights that were saved already have it.
    opened = open_run(run.path)
    rows = opened.task.load(opened.recipe).validation
    again = opened.task.evaluate(opened.open(), rows, buckets=opened.buckets).metrics
    assert again["ece"] == pytest.approx(found["ece_after"], abs=1e-3)
    assert (run.path / "reliability.png").stat().st_size > 1000


def test_a_temperature_needs_validation_data(tmp_path, toy_preset):
    write_csv(tmp_path / "train.csv", toy_rows(60))
    write_csv(tmp_path / "test.csv", toy_rows(20, seed=1))
    more = ("data.validation_split=0", "training.calibrate=true")
    with pytest.raises(RecipeError, match="temperature on validation data"):
        prepare(load("bert_cls", [*toy_settings(tmp_path, toy_preset), *more]), Report.silent())


def test_true_and_false_are_measured_as_they_were_trained(tmp_path, toy_preset):
    for name, count, seed in (("train", 120, 0), ("test", 30, 1)):
        rows = [(text, label == "positive") for text, label in toy_rows(count, seed=seed)]
        write_csv(tmp_path / f"{name}.csv", rows)
    run = _train("bert_cls", tmp_path, toy_preset, "training.epochs=1")
    found = evaluate(open_run(run.path), str(tmp_path / "test.csv"), report=Report.silent())
    assert found["accuracy"] == run.read_metrics()["test"]["accuracy"]
    # Other data may write them as 0 and 1, or in another format.
    texts = [text for text, _ in rows]
    numbers = pa.table({"text": texts, "label": [int(label) for _, label in rows]})
    pq.write_table(numbers, tmp_path / "test.parquet")
    again = evaluate(open_run(run.path), str(tmp_path / "test.parquet"), report=Report.silent())
    assert again["accuracy"] == found["accuracy"]


def test_what_the_data_may_not_mean_is_told_with_the_data(tmp_path, toy_preset):
    rows = [
        (text, "Positive" if n % 9 == 0 else "positive") for n, (text, _) in enumerate(toy_rows(90))
    ]
    rows += [("dull", "negative"), ("bad", "N/A")] * 10
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "test.csv", [("dull", "negative"), ("good", "positive"), ("x", "N/A")])
    recipe = load("bert_cls", toy_settings(tmp_path, toy_preset))
    task = task_of(recipe)
    remarks = task.facts(recipe, task.load(recipe)).remarks
    assert any("'positive' (80 rows) and 'Positive' (10 rows)" in one for one in remarks)
    assert any("'N/A' (10 rows), the first at " in one for one in remarks)
    assert "test: has no examples of these labels (count in train): Positive (9)" in remarks
    names = "data.label_names={Positive: positive, positive: positive}"
    settings = [*toy_settings(tmp_path, toy_preset), names, "data.ignore_labels=[N/A]"]
    recipe = load("bert_cls", settings)
    data = task.load(recipe)
    assert data.labels.names == ("negative", "positive")
    remarks = task.facts(recipe, data).remarks
    assert "train: 10 rows have no label (N/A) and are skipped" in remarks
    assert "test: 1 row has no label (N/A) and is skipped" in remarks
    assert not any("warning" in one for one in remarks)


def test_a_label_is_left_out_below_a_probability(toy_run, toy_data, tmp_path):
    (tmp_path / "texts.txt").write_text("a good bright film\nthe the the\n", encoding="utf-8")
    output = tmp_path / "labels.csv"
    arguments = ["predict", str(toy_run), "--input", str(tmp_path / "texts.txt")]
    assert status(*arguments, "--abstain-below", "1", "--output", str(output)) == 0
    with open(output, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # No probability of a model is exactly 1, and what is left out is still measured.
    assert [row["label"] for row in rows] == ["", ""]
    assert all(0 < float(row["probability_positive"]) < 1 for row in rows)
    output.unlink()
    assert status(*arguments, "--abstain-below", "0.5", "--output", str(output)) == 0
    with open(output, encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["label"] == "positive"


def test_only_one_label_can_be_left_out(several):
    from kerasllm.tasks.task import PredictOptions

    with pytest.raises(CommandError, match="can abstain"):
        list(predict(open_run(several.path), ["a film"], options=PredictOptions(abstain_below=0.5)))


def test_a_column_that_can_be_read_in_two_ways_stops_the_command(tmp_path, toy_preset):
    rows = [(text, number % 400) for number, (text, _) in enumerate(toy_rows(500))]
    write_csv(tmp_path / "train.csv", rows)
    with pytest.raises(DataError, match="400"):
        prepare(
            load("bert_cls", [*toy_settings(tmp_path, toy_preset), "data.test=null"]),
            Report.silent(),
        )


def test_the_plan_says_what_the_head_reads(toy_preset, tmp_path):
    write_csv(tmp_path / "train.csv", toy_rows(60))
    write_csv(tmp_path / "test.csv", toy_rows(20, seed=1))
    for pooling, words in (("auto", "cls"), ("mean", "mean over all tokens")):
        settings = [*toy_settings(tmp_path, toy_preset), f"model.pooling={pooling}"]
        job = prepare(load("bert_cls", settings), Report.silent())
        facts = dict(job.task.model_facts(job.recipe, job.model))
        assert words in facts["pooling"]
