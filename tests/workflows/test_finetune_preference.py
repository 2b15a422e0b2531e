"""Tuning by preferences by recipe: learned, saved, resumed, and refused where it cannot be."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from kerasllm.errors import DataError, RecipeError
from kerasllm.models.adapters import add_adapter
from kerasllm.models.decoder import load_causal_lm
from kerasllm.models.likelihood import log_probabilities
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.workflows.export import export
from kerasllm.workflows.finetune import finetune
from kerasllm.workflows.job import prepare
from kerasllm.workflows.plan import plan
from kerasllm.workflows.report import Report
from tests.workflows.toy_runs import assert_same, stopped_at

QUESTIONS = ("The sea?", "Who is he?", "A whale?")


@pytest.fixture(autouse=True)
def cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))


def write_pairs(path, count=40):
    """Writes pairs whose chosen answers begin with `Aye`."""
    random = np.random.default_rng(count)
    words = ["the", "sea", "is", "a", "wide", "and", "cold", "thing", "of", "ships"]
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            said = [" ".join(random.choice(words, random.integers(1, 3))) for _ in range(2)]
            row = {"prompt": QUESTIONS[number % 3], "chosen": f"Aye {said[0]}", "rejected": said[1]}
            file.write(json.dumps(row) + "\n")
    return path


def pair_settings(folder, preset):
    settings = {
        "model.preset": str(preset),
        "data.train": str(write_pairs(folder / "pairs.jsonl")),
        "data.test": str(write_pairs(folder / "test.jsonl", 13)),
        # There are few different ones.
        "data.leaks": "warn",
        "data.chat_template": "plain",
        "data.max_length": 32,
        "data.buckets": 1,
        "training.epochs": 3,
        "training.beta": 0.5,
        "training.learning_rate": 0.03,
        "training.precision": "float32",
        "training.log_every": 1,
    }
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def run_recipe(settings, output, **options):
    """Trains; returns the run and all that was shown."""
    shown = io.StringIO()
    report = Report(Console(file=shown, width=200))
    run = finetune(
        load("gpt_dpo", settings), name="gpt_dpo", output=output, report=report, **options
    )
    return run, shown.getvalue()


def counting_scores(monkeypatch) -> list[int]:
    """Returns how many pairs each scoring is of, as they come."""
    scored = []

    def counting(model, pairs, *, buckets=16):
        scored.append(len(pairs))
        return log_probabilities(model, pairs, buckets=buckets)

    monkeypatch.setattr("kerasllm.models.likelihood.log_probabilities", counting)
    return scored


def test_an_adapter_learns_to_prefer_and_a_stopped_run_ends_the_same(
    toy_language_model, tmp_path, monkeypatch
):
    settings = [
        *pair_settings(tmp_path, Run(toy_language_model).model),
        "model.lora.dropout=0.1",
        "training.checkpoint_every=2",
        "training.keep_checkpoints=9",
    ]
    scored = counting_scores(monkeypatch)
    run, shown = run_recipe(settings, tmp_path / "run")
    # Of the three parts before the training; held-out ones after each epoch, and test at the end.
    assert scored[:3] == [36, 4, 13] and len(scored) == 3 + 3 + 1
    scored.clear()
    rows = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    first = rows[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=0.02)
    assert first["margin"] == pytest.approx(0, abs=0.05)
    assert {"accuracy", "chosen_reward", "rejected_reward"} <= set(first)
    found = run.read_metrics()
    for part in ("validation", "test"):
        assert found[part]["margin"] > 0.1 and found[part]["accuracy"] > 0.7
        assert found[part]["loss"] < math.log(2)
    assert found["validation"]["pairs"] == 4 and found["test"]["pairs"] == 13
    assert "36 pairs" in shown and "reward of rejected" in shown and "as it is" in shown
    assert f"kerasllm generate {run.path}" in shown

    assert json.loads((run.adapter / "adapter_config.json").read_text())["r"] == 16
    tuned = load_causal_lm(run.model)
    assert tuned.chat_template is not None and tuned.conversational

    exported = export(run.path, "keras_hub", output=tmp_path / "exported", report=Report.silent())
    assert exported.parity[0].holds and exported.parity[0].agreement == 1
    assert "13 pairs of test.jsonl" in (exported.folder / "README.md").read_text(encoding="utf-8")

    copy = stopped_at(run.path, 4, "stopped")
    scored.clear()
    resumed, shown = run_recipe(settings, copy, resume=True)
    assert "resuming after step 4" in shown
    # The reference is that of the first run, and not computed again.
    assert 36 not in scored
    assert_same(resumed.path, run.path)
    copy = stopped_at(run.path, 4, "stopped_elsewhere")
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "empty"))
    resumed, _ = run_recipe(settings, copy, resume=True)
    # Without the cache it is computed, of the model before its checkpoint is restored.
    assert scored.count(36) == 1
    assert_same(resumed.path, run.path)


def test_a_plan_scores_nothing(toy_language_model, tmp_path, monkeypatch):
    scored = counting_scores(monkeypatch)
    settings = pair_settings(tmp_path, Run(toy_language_model).model)
    found = plan(load("gpt_dpo", settings), report=Report.silent())
    assert np.isfinite(found["step"]["loss"]) and not scored


def test_the_reference_of_a_continued_adapter_has_it_too(toy_language_model, tmp_path):
    preset = Run(toy_language_model).model
    model = load_causal_lm(preset)
    adapter = add_adapter(model.backbone, rank=4, targets=["attention"])
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    adapter.save(tmp_path / "adapter")
    settings = [*pair_settings(tmp_path, preset), "model.lora=null"]
    jobs = [
        prepare(load("gpt_dpo", [*settings, *more]), Report.silent())
        for more in ([], [f"model.adapter={tmp_path / 'adapter'}"])
    ]
    for job in jobs:
        assert job.data.test.reference is None
        job.prepare_reference()
    base, adapted = (job.data.test.reference for job in jobs)
    assert np.abs(base - adapted).min() > 0.01
    # It was traced with the adapter.
    jobs[1].model.predict_function = None
    with jobs[1].model.adapters.disabled():
        found = log_probabilities(jobs[1].model, jobs[1].data.test)
    np.testing.assert_allclose(base, found, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ("data.train={broken}", DataError, "broken.jsonl:2"),
        ("data.train={chats}", DataError, "needs chosen and rejected"),
        ("training.beta=0", RecipeError, "training.beta"),
        ("training.loss=dpo", RecipeError, "sigmoid, ipo or hinge"),
        ("data.max_length=64", RecipeError, "reads 32 tokens at most"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    change, error, said, toy_language_model, tmp_path
):
    settings = pair_settings(tmp_path, Run(toy_language_model).model)
    good = '{"prompt": "a", "chosen": "b", "rejected": "c"}'
    (tmp_path / "broken.jsonl").write_text(f'{good}\n{{"prompt": "a", "chosen": "b"}}\n')
    chat = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    (tmp_path / "chats.jsonl").write_text(chat + "\n")
    change = change.format(chats=tmp_path / "chats.jsonl", broken=tmp_path / "broken.jsonl")
    with pytest.raises(error) as caught:
        run_recipe([*settings, change], tmp_path / "run")
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_cannot_be_is_refused():
    settings = ["training.loss=ipo", "training.label_smoothing=0.1"]
    with pytest.raises(RecipeError, match="does not support label smoothing"):
        load("gpt_dpo", settings)
    assert load("gpt_dpo", settings[1:]).training.label_smoothing == 0.1
    with pytest.raises(RecipeError, match="a new model cannot be trained on preferences"):
        load("gpt_dpo", ["model.preset=null", "model.lora=null"])
