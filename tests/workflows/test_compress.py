"""`compress`: a run becomes a smaller run that all verbs take, with the numbers of both."""

import json

import pytest

from kerasllm import audit
from kerasllm.compression.measure import Comparison, Measured
from kerasllm.compression.prune import kernels_of, sparsity_of
from kerasllm.errors import CommandError, JobError, RunError
from kerasllm.generation.settings import GenerationSettings
from kerasllm.models import digests
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.workflows.compress import compress
from kerasllm.workflows.evaluate import evaluate
from kerasllm.workflows.finetune import finetune
from kerasllm.workflows.generate import Prompt, generate
from kerasllm.workflows.predict import predict
from kerasllm.workflows.report import Report
from tests.conftest import toy_settings
from tests.tasks.toys.seq2seq import new_model

QUICK = ["training.epochs=1", "training.learning_rate=0.001", "training.precision=float32"]


@pytest.fixture(autouse=True)
def cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))


def compressed(run, output, recipe, *settings) -> dict:
    """Compresses a run; returns the metrics of the new one."""
    done = compress(run, load(recipe, settings), output=output, report=Report.silent())
    return done.read_metrics()


def test_a_quantized_run_is_used_like_any_other(toy_run, toy_data, tmp_path):
    metrics = compressed(toy_run, tmp_path / "small", "compress_int8")
    facts = metrics["compression"]
    assert facts["method"] == "int8" and facts["within_limit"] and facts["agreement"] > 0.98
    before, after = facts["before"], facts["after"]
    assert before["quality"]["accuracy"] == Run(toy_run).read_metrics()["test"]["accuracy"]
    assert after["quality"]["accuracy"] == metrics["test"]["accuracy"]
    assert before["rows_per_second"] > 0 and after["rows_per_second"] > 0
    assert after["gzipped_bytes"] < before["gzipped_bytes"]
    assert before["bytes"] == sum(
        file.stat().st_size for file in (toy_run / "model").rglob("*") if file.is_file()
    )
    measured = evaluate(tmp_path / "small", str(toy_data / "test.csv"), report=Report.silent())
    assert measured["accuracy"] == pytest.approx(metrics["test"]["accuracy"])
    # The recipe of the run, and how it was made.
    small = Run.open(tmp_path / "small")
    assert load(small.recipe) == load(toy_run / "recipe.yaml")
    assert load(tmp_path / "small" / "compression.yaml") == load("compress_int8")
    assert "compression.yaml" in small.recipe.read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(small.environment.read_text())["data"]
    [line] = map(json.loads, (tmp_path / "small" / audit.FILE).read_text().splitlines())
    assert line["event"] == "compress" and line["outcome"] == "done"
    assert line["parent"] == {"run": str(toy_run), "audit": audit.read(toy_run).sha256}
    assert line["preset"]["fingerprint"] == digests.fingerprint(toy_run / "model")
    assert line["data"] == Run(toy_run).read_environment()["data"]


def test_past_the_limit_a_run_is_kept_and_marked_with_its_zeros_in_the_file(toy_run, tmp_path):
    settings = ["pruning.sparsity=0.999", "pruning.every=3", "limit=0.0", *QUICK]
    with pytest.raises(JobError, match="the limit is 0.00%") as caught:
        compressed(toy_run, tmp_path / "sparse", "compress_prune", *settings)
    assert "before" in caught.value.what and "pruning.sparsity" in caught.value.fix
    metrics = Run.open(tmp_path / "sparse").read_metrics()
    facts = metrics["compression"]
    assert not facts["within_limit"] and facts["lost"] > 0
    assert facts["sparsity"] == pytest.approx(0.999, abs=0.001)
    assert 0 < facts["sparsity_of_all"] < facts["sparsity"] and max(facts["layers"].values()) <= 1
    assert metrics["train"]["loss"] > 0 and metrics["timing"]["steps"] == 7
    saved = TextClassifier.from_preset(tmp_path / "sparse" / "model", precision="float32")
    assert sparsity_of(kernels_of(saved.task.backbone)) == pytest.approx(facts["layers"])


def test_a_student_is_saved_without_its_teacher(toy_data, deep_toy_preset, tmp_path):
    settings = [*toy_settings(toy_data, deep_toy_preset), "training.epochs=1"]
    teacher = finetune(load("bert_cls", settings), output=tmp_path / "teacher").path
    settings = ["student.layers=1", "limit=0.9", *QUICK]
    metrics = compressed(teacher, tmp_path / "student", "compress_distill", *settings)
    before, after = (metrics["compression"][name] for name in ("before", "after"))
    assert after["parameters"] < before["parameters"] and after["bytes"] < before["bytes"]
    config = json.loads((tmp_path / "student" / "model" / "config.json").read_text())
    assert config["config"]["num_layers"] == 1
    rows = list(predict(tmp_path / "student", ["a good film"]))
    assert rows[0]["label"] in ("negative", "positive")


def test_a_language_model_is_quantized_and_still_writes(toy_language_model, tmp_path):
    metrics = compressed(toy_language_model, tmp_path / "small", "compress_int8")
    facts = metrics["compression"]
    assert facts["metric"] == "loss" and facts["within_limit"] and facts["agreement"] is None
    assert facts["after"]["quality"]["loss"] != facts["before"]["quality"]["loss"]
    settings = GenerationSettings(max_new_tokens=8, temperature=0.0)
    texts = [
        next(iter(generate(run, [Prompt("The whale", "here")], settings)))["text"]
        for run in (toy_language_model, tmp_path / "small")
    ]
    assert texts[0] == texts[1]
    with pytest.raises(RunError, match="with prune"):
        compressed(toy_language_model, tmp_path / "sparse", "compress_prune")


def test_an_encoder_decoder_is_quantized_and_still_writes(tmp_path):
    toy = new_model(tmp_path, None)
    recipe = load(toy.recipe, [*toy.overrides, "training.precision=float32"])
    trained = finetune(recipe, output=tmp_path / "run", report=Report.silent())
    metrics = compressed(trained.path, tmp_path / "small", "compress_int8")
    facts = metrics["compression"]
    assert facts["metric"] == "bleu" and facts["within_limit"]
    assert facts["after"]["bytes"] < facts["before"]["bytes"]
    assert facts["after"]["quality"]["loss"] != facts["before"]["quality"]["loss"]
    [row] = predict(tmp_path / "small", toy.inputs[:1])
    assert row["output"] and row["finish_reason"] == "stop"
    with pytest.raises(RunError, match="with gptq"):
        compressed(trained.path, tmp_path / "calibrated", "compress_gptq")


@pytest.mark.slow
def test_a_language_model_is_calibrated_on_its_training_data(toy_language_model, tmp_path):
    settings = ["quantization.group_size=16", "quantization.rows=4", "limit=0.5"]
    metrics = compressed(toy_language_model, tmp_path / "small", "compress_awq", *settings)
    assert metrics["compression"]["within_limit"]


def test_what_cannot_be_compressed_is_refused_before_anything_is_written(toy_run, tmp_path):
    with pytest.raises(CommandError, match="text_classification, which does not compress models"):
        compressed(toy_run, tmp_path / "new", "bert_cls")
    with pytest.raises(RunError, match="finished run"):
        compressed(toy_run, toy_run, "compress_int8")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("metric", "before", "after", "lost"),
    [("accuracy", 0.8, 0.76, 0.05), ("accuracy", 0.8, 0.84, -0.05), ("loss", 2.0, 2.1, 0.05)],
)
def test_what_is_lost_is_a_part_of_what_there_was(metric, before, after, lost):
    measured = [Measured(1, 1, 1, 1.0, {metric: value}) for value in (before, after)]
    higher_is_better = metric == "accuracy"
    comparison = Comparison(metric, higher_is_better, 0.049, *measured, None)
    assert comparison.lost == pytest.approx(lost)
    assert comparison.within_limit == (lost < 0)
    nothing = Measured(1, 1, 1, 1.0, {metric: float("nan")})
    assert not Comparison(metric, higher_is_better, 0.5, measured[0], nothing, None).within_limit
