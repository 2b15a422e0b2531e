"""Training language models by recipe: from scratch, on, and on conversations with an adapter."""

import io
import json
import os

import keras_hub
import numpy as np
import pytest
from rich.console import Console

from kerasllm.errors import DataError, RecipeError
from kerasllm.models.adapters import load_adapter
from kerasllm.models.decoder import load_causal_lm
from kerasllm.models.layers import trainable_share
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.tasks.task import task_of
from kerasllm.workflows.finetune import finetune
from kerasllm.workflows.report import Report
from kerasllm.workflows.trained import open_trained
from tests.toy_language_model import book_settings, chat_settings
from tests.workflows.toy_runs import assert_same, stopped_at


@pytest.fixture(autouse=True)
def cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))


def run_recipe(name, settings, output, **options):
    """Trains; returns the run and all that was shown."""
    shown = io.StringIO()
    report = Report(Console(file=shown, width=200))
    run = finetune(load(name, settings), name=name, output=output, report=report, **options)
    return run, shown.getvalue()


def logits_of(model, ids):
    return np.asarray(model({"token_ids": np.asarray(ids, np.int32)}))


def test_a_model_from_scratch_learns_and_keras_hub_loads_it_alone(toy_language_model):
    run = Run(toy_language_model)
    rows = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] - 1
    validation = run.read_metrics()["validation"]
    assert validation["loss"] < losses[0] - 1
    assert validation["perplexity"] == pytest.approx(np.exp(validation["loss"]))
    assert 2 < validation["bits_per_byte"] < 5

    model = load_causal_lm(run.model)
    ids = [model.tokenizer.encode_whole("Call me Ishmael. Some years ago")]
    task = keras_hub.models.CausalLM.from_preset(str(run.model))
    hub = task({"token_ids": np.array(ids), "padding_mask": np.ones_like(ids)})
    np.testing.assert_allclose(hub, logits_of(model, ids), atol=1e-5)
    assert list(task.preprocessor.tokenizer("Call me")) == model.tokenizer.encode_whole("Call me")
    assert model.max_length == 32


def test_the_run_says_what_it_reads_and_writes_samples(tmp_path):
    settings = [*book_settings(tmp_path), "training.epochs=1", "training.sample_every=epoch"]
    settings.append('training.sample_prompts=["The"]')
    run, shown = run_recipe("gpt_lm", settings, tmp_path / "run")
    assert "full blocks of 32 tokens" in shown and "byte-level BPE, 400 tokens" in shown
    assert f"the end of {tmp_path}/book.txt" in shown
    assert shown.count("sample  The") == 1 and "bits per byte" in shown
    assert f"kerasllm generate {run.path}" in shown


def test_bits_per_byte_are_of_the_end_of_the_text(toy_language_model):
    """The loss of the model on the last tenth, computed with all logits at once, by hand."""
    run = Run(toy_language_model)
    model = load_causal_lm(run.model)
    book = (run.path.parent / "book.txt").read_text(encoding="utf-8")
    cut = book.index("\n", int(len(book) * 0.9)) + 1
    ids = model.tokenizer.encode_whole(book[cut:])
    end = model.tokenizer.end_of_text_id
    row = np.array([end, *ids, end])
    total = 0.0
    for start in range(0, len(row) - 1, 32):
        piece = row[start : start + 33]
        logits = logits_of(model, [piece[:-1]])[0].astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        total -= logs[np.arange(len(piece) - 1), piece[1:]].sum()
    found = run.read_metrics()["validation"]
    assert found["tokens"] == len(row) - 1
    bits = total / np.log(2) / len(book[cut:].encode())
    assert found["bits_per_byte"] == pytest.approx(bits, rel=1e-4)


def test_a_stopped_run_resumes_to_the_same_model(tmp_path):
    settings = [
        *book_settings(tmp_path),
        "model.dropout=0.1",
        "training.epochs=1",
        "training.checkpoint_every=5",
        "training.keep_checkpoints=99",
    ]
    straight, _ = run_recipe("gpt_lm", settings, tmp_path / "straight")
    copy = stopped_at(straight.path, 10, "stopped")
    resumed, shown = run_recipe("gpt_lm", settings, copy, resume=True)
    assert "resuming after step 10" in shown
    assert_same(resumed.path, straight.path)


@pytest.mark.parametrize("quantize", [None, pytest.param("int4", marks=pytest.mark.slow)])
def test_an_adapter_learns_conversations_and_is_saved_and_merged(
    quantize, toy_language_model, tmp_path
):
    preset = Run(toy_language_model).model
    settings = [*chat_settings(tmp_path, preset), f"model.quantize={json.dumps(quantize)}"]
    run, shown = run_recipe("gpt_sft_lora", settings, tmp_path / "run")
    rows = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    assert run.read_metrics()["test"]["loss"] < 0.7 * losses[0]
    assert "conversations in 32 tokens, without attention between them" in shown
    assert "assistant messages" in shown

    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 16
    adapted = load_causal_lm(preset)
    load_adapter(adapted.backbone, run.adapter, quantize=quantize)
    merged = load_causal_lm(run.model)
    ids = [merged.tokenizer.encode_whole("What of the whale?")]
    np.testing.assert_allclose(logits_of(adapted, ids), logits_of(merged, ids), atol=2e-5)
    if quantize is None:  # as `--adapter` of the verbs does it
        opened = open_trained(preset).open(precision="float32", adapter=run.adapter)
        np.testing.assert_allclose(logits_of(opened, ids), logits_of(merged, ids), atol=2e-5)
    before = logits_of(load_causal_lm(preset), ids)
    assert np.abs(before - logits_of(merged, ids)).max() > 0.1
    assert merged.chat_template is not None
    contents = run.read_environment()["contents"]
    assert contents["train"].startswith("54 conversations, ")
    assert contents["validation"].startswith("6 conversations, ")
    assert contents["test"].startswith("12 conversations, ")
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.stat().st_mode & 0o666 != 0o666 & ~umask]
    # So that a prompt is answered; of a text it is continued.
    assert merged.conversational and not adapted.conversational


def test_the_plan_counts_the_parameters_of_a_quantized_base(toy_language_model, tmp_path):
    preset = Run(toy_language_model).model
    recipe = load("gpt_sft_lora", [*chat_settings(tmp_path, preset), "model.quantize=int4"])
    task = task_of(recipe)
    model = task.build(recipe, task.load(recipe), "float32")
    whole = load_causal_lm(preset).backbone.count_params()
    assert model.adapters.base.parameters == whole
    train, total = trainable_share(model.task)
    embeddings = sum(np.prod(v.shape) for v in model.backbone.token_embedding.variables)
    embeddings += sum(np.prod(v.shape) for v in model.backbone.position_embedding.variables)
    assert total == whole + train - embeddings  # which train beside the adapter
    facts = dict(task.model_facts(recipe, model))
    assert facts["base"].startswith(f"{whole:,} parameters in ") and "4 bits" in facts["base"]


@pytest.mark.parametrize(
    ("name", "change", "error", "said"),
    [
        ("gpt_lm", "data.train={chats}", DataError, "cannot be trained on conversations"),
        ("gpt_sft_lora", "data.chat_template=auto", RecipeError, "no chat template of its own"),
        ("gpt_sft_lora", "data.chat_template=nothing.jinja", RecipeError, "nothing.jinja"),
        ("gpt_sft_lora", "data.max_length=64", RecipeError, "reads 32 tokens at most"),
        ("gpt_sft_lora", "model.lora.targets=[nonsense]", RecipeError, "nonsense"),
        ("gpt_sft_lora", "data.train={broken}", DataError, "broken.jsonl:2"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    name, change, error, said, toy_language_model, tmp_path
):
    preset = Run(toy_language_model).model
    settings = book_settings(tmp_path) if name == "gpt_lm" else chat_settings(tmp_path, preset)
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    bad = '{"messages": [{"role": "user", "content": "a"}]}'
    (tmp_path / "broken.jsonl").write_text(f"{good}\n{bad}\n", encoding="utf-8")
    (tmp_path / "chats.jsonl").write_text(f"{good}\n", encoding="utf-8")
    change = change.format(chats=tmp_path / "chats.jsonl", broken=tmp_path / "broken.jsonl")
    with pytest.raises(error) as caught:
        run_recipe(name, [*settings, change], tmp_path / "run")
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()
