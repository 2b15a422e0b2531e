"""Text in windows is scored as transformers scores it, and as a plain formula does."""

import json
from pathlib import Path

import numpy as np
import pytest

from kerasllm.data.sequences import whole_rows, windows
from kerasllm.data.token_store import open_or_write, row_batch
from kerasllm.data.tokenizers import train_byte_level_bpe
from kerasllm.errors import JobError
from kerasllm.models import decoders
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.likelihood import evaluate, score

REFERENCE = Path(__file__).parents[1] / "reference"
FOUND = json.loads((REFERENCE / "perplexity.json").read_text())


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def named_model(request):
    backbone = decoders.load_backbone(REFERENCE / "decoders" / request.param)
    task = decoders.family_of(backbone).task_cls(backbone=backbone, preprocessor=None)
    return request.param, CausalLM(task, train_byte_level_bpe(["a"], 257))


def store_of(ids, folder, trained=None):
    offsets = np.array([0, len(ids)])
    batch = row_batch(np.array(ids, np.int32), offsets, 0, np.array([1]), trained=trained)
    return open_or_write([str(folder), len(ids)], lambda: iter([batch]), ["text"], folder=folder)


def test_windows_give_the_perplexity_of_hugging_faces_guide(named_model, tmp_path):
    name, model = named_model
    store = store_of(FOUND["token_ids"], tmp_path)
    for case in FOUND["perplexity"]:
        if case["model"] == name:
            rows = windows(store, case["length"], case["stride"])
            metrics, scores = evaluate(model, rows)
            assert metrics["tokens"] == case["tokens"] == len(FOUND["token_ids"]) - 1
            assert scores[:, 0].sum() == pytest.approx(case["total"], rel=1e-5)
            assert metrics["perplexity"] == pytest.approx(np.exp(case["total"] / case["tokens"]))


def test_a_text_within_the_positions_is_scored_by_the_plain_formula(named_model, tmp_path):
    _, model = named_model
    ids = np.array(FOUND["token_ids"][:60])
    logits = np.asarray(model({"token_ids": ids[None, :-1].astype(np.int32)}), np.float64)[0]
    chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    said = []
    metrics, _ = evaluate(model, windows(store_of(ids, tmp_path), 64, 32), notify=said.append)
    assert metrics["loss"] == pytest.approx(-chances[np.arange(59), ids[1:]].mean(), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx((logits.argmax(-1) == ids[1:]).mean())
    assert said == ["scored 1 of 1 batches, 59 tokens in all"]


def test_continuations_are_as_likely_as_in_transformers(named_model, tmp_path):
    name, model = named_model
    for case in FOUND["continuations"]:
        if case["model"] == name:
            ids = FOUND["token_ids"][: case["to"]]
            trained = (np.arange(len(ids)) >= case["from"]).astype(np.uint8)
            scores = score(model, whole_rows(store_of(ids, tmp_path / str(case["to"]), trained)))
            assert -scores[0, 0] == pytest.approx(case["log_likelihood"], rel=1e-5)


def test_what_is_no_number_is_refused(tmp_path):
    backbone = decoders.load_backbone(REFERENCE / "decoders" / "llama")
    backbone.layer_norm.scale.assign(np.full(backbone.layer_norm.scale.shape, np.nan))
    task = decoders.family_of(backbone).task_cls(backbone=backbone, preprocessor=None)
    model = CausalLM(task, train_byte_level_bpe(["a"], 257))
    with pytest.raises(JobError, match="not finite for 1 of 1 rows") as error:
        score(model, whole_rows(store_of([3, 4, 5], tmp_path)))
    assert error.value.where == "text:1 is the first"
