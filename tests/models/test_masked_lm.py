"""Masked language models: the numbers of transformers, and a preset for KerasHub and every task."""

import json
from pathlib import Path

import keras_hub
import numpy as np
import pytest
import safetensors.numpy

from kerasllm.errors import PresetError, RecipeError
from kerasllm.export.formats import Options, load_format
from kerasllm.export.source import Source
from kerasllm.models.accelerated.fused_encoder import FusedEncoder
from kerasllm.models.encoder import load_tokenizer
from kerasllm.models.masked_lm import MaskedLM
from kerasllm.models.new_masked_lm import continued
from kerasllm.models.pooling import pooling_of
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.tasks.task import find

REFERENCE = Path(__file__).parents[1] / "reference" / "masked_lms"
NAMES = ("bert", "bert_with_pairs", "distilbert", "roberta", "xlm_roberta", "albert")
TASK = find("masked_lm")


def _expected(name):
    return np.load(REFERENCE / name / "expected.npz")


def _inputs(model, expected):
    found = {"token_ids": expected["ids"], "padding_mask": expected["mask"]}
    found["segment_ids"] = np.zeros_like(expected["ids"])
    return {name: found[name] for name in model.task.input}


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers_and_leave_as_they_came(name, tmp_path):
    expected = _expected(name)
    model = MaskedLM.from_preset(REFERENCE / name)
    found = np.asarray(model(_inputs(model, expected)))
    real = expected["mask"].astype(bool)
    np.testing.assert_allclose(found[real], expected["logits"][real], atol=2e-5, rtol=0)

    if name == "bert_with_pairs":
        model = continued(
            REFERENCE / name,
            load_tokenizer(REFERENCE / name),
            max_length=32,
            dropout=0.0,
            sentence_task="next",
        )
        pairs = model._sentence_logits(model._states(_inputs(model, expected), training=False))
        np.testing.assert_allclose(pairs, expected["pairs"], atol=2e-5, rtol=0)
    source = Source(TASK, model, "toy", model.max_length, [str(x) for x in expected["texts"]])
    written = load_format("transformers")
    written.refuse(source, Options())
    written.write(source, tmp_path, Options())
    before, after = (
        safetensors.numpy.load_file(folder / "model.safetensors")
        for folder in (REFERENCE / name, tmp_path)
    )
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        np.testing.assert_array_equal(after[key], tensor, err_msg=key)
    architecture, own = (
        json.loads((folder / "config.json").read_text())["architectures"]
        for folder in (REFERENCE / name, tmp_path)
    )
    assert architecture == own


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_a_saved_model_is_one_of_keras_hub(name, tmp_path):
    expected = _expected(name)
    model = MaskedLM.from_preset(REFERENCE / name)
    model.save_to_preset(tmp_path / "model")
    inputs = _inputs(model, expected)
    again = MaskedLM.from_preset(tmp_path / "model")
    np.testing.assert_array_equal(again(inputs), model(inputs))
    task = keras_hub.models.MaskedLM.from_preset(str(tmp_path / "model"), compile=False)
    places = np.tile(np.arange(expected["ids"].shape[1], dtype=np.int32), (len(expected["ids"]), 1))
    found = np.asarray(task({**inputs, "mask_positions": places}))
    # KerasHub's head has the exact form of GELU, and a norm of its own.
    np.testing.assert_allclose(found, model(inputs), atol=5e-3, rtol=0)


def test_a_matrix_of_its_own_is_refused(tmp_path):
    for file in (REFERENCE / "bert").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    table = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.weight"] = table
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    assert MaskedLM.from_preset(tmp_path)
    tensors["cls.predictions.decoder.weight"] = table + 1
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(PresetError, match=r"cls\.predictions\.decoder\.weight is not the matrix"):
        MaskedLM.from_preset(tmp_path)


def _model(sentence_task=None, **options):
    folder = REFERENCE / "bert_with_pairs"
    tokenizer = load_tokenizer(folder)
    return continued(
        folder, tokenizer, max_length=32, dropout=0.0, sentence_task=sentence_task, **options
    )


def _batch(model, sentence=False):
    expected = _expected("bert_with_pairs")
    positions = np.array([[1, 2], [1, 3], [2, 1], [1, 0]], np.int32)
    x = {**_inputs(model, expected), "mask_positions": positions}
    y = np.arange(8, dtype=np.int32).reshape(4, 2)
    weights = np.array([[1, 1], [1, 1], [1, 1], [1, 0]], np.float32)
    if sentence:
        y = {"tokens": y, "sentence": np.array([0, 1, 0, 1], np.int32)}
        weights = {"tokens": weights, "sentence": np.ones(4, np.float32)}
    return x, y, weights


@pytest.mark.parametrize(("sentence_task", "fused"), [(None, False), ("next", True)])
def test_the_loss_is_the_mean_over_hidden_tokens_and_that_of_pairs(sentence_task, fused):
    model = _model(sentence_task)
    x, y, weights = _batch(model, sentence_task is not None)
    expected = _expected("bert_with_pairs")
    rows = np.arange(4)[:, None]
    logits = expected["logits"][rows, x["mask_positions"]].astype(np.float64)
    of_tokens, own = (y["tokens"], weights["tokens"]) if sentence_task else (y, weights)
    loss = (_losses(logits, of_tokens) * own).sum() / own.sum()
    hits = ((logits.argmax(-1) == of_tokens) * own).sum() / own.sum()
    if sentence_task:
        loss += _losses(expected["pairs"].astype(np.float64), y["sentence"]).mean()
    model.compile("sgd", fused=fused, slices=1)
    assert isinstance(model._fused, FusedEncoder) == fused
    found = (
        model.train_on_batch(x, y, weights, return_dict=True)
        if fused
        else (model.test_on_batch(x, y, weights, return_dict=True))
    )
    assert found["loss"] == pytest.approx(loss, abs=1e-4)
    assert found["accuracy"] == pytest.approx(hits)


def _losses(logits, y):
    top = logits.max(-1, keepdims=True)
    total = top[..., 0] + np.log(np.exp(logits - top).sum(-1))
    return total - np.take_along_axis(logits, y[..., None], -1)[..., 0]


def test_a_pooler_without_a_use_stays_as_it_is_and_counts_as_untrained():
    model = _model()
    assert not model.backbone.pooled_dense.trainable
    assert _model("next").backbone.pooled_dense.trainable
    folder = REFERENCE / "roberta"
    with pytest.raises(RecipeError, match="no pooler"):
        continued(folder, load_tokenizer(folder), max_length=32, sentence_task="order")


def test_adapters_train_with_the_head_and_are_merged_when_saved(tmp_path):
    model = _model(lora={"rank": 2, "alpha": 4, "targets": ["query"]})
    names = {variable.path.split("/")[-1] for variable in model.trainable_variables}
    assert "embeddings" not in names and {"kernel", "bias", "gamma", "beta"} <= names
    x, y, weights = _batch(model)
    model.compile("sgd", fused=False)
    model.train_on_batch(x, y, weights)
    model.save_to_preset(tmp_path / "model")
    again = MaskedLM.from_preset(tmp_path / "model")
    np.testing.assert_allclose(again(x), model(x), atol=1e-5)


def test_words_are_filled_in(tmp_path):
    model = MaskedLM.from_preset(REFERENCE / "bert")
    text = "The [MASK] was very [MASK]  good ."
    alone, long = model.fill([text, "good film [MASK] " * 40], n_best=3)
    assert alone["text"] == text and len(long["masks"]) == 40
    for mask in (*alone["masks"], *long["masks"]):
        chances = [word["probability"] for word in mask["words"]]
        assert len(chances) == 3 and chances == sorted(chances, reverse=True)
        assert not any(word["token"].startswith("[") for word in mask["words"])
    assert model.fill(["A <mask> film."], n_best=3)[0]["filled"].endswith("film.")
    assert model.fill(["A <mask> film."])[0]["masks"][0]["end"] == 8
    assert [text[one["start"] : one["end"]] for one in alone["masks"]] == ["[MASK]"] * 2
    one, two = (mask["words"][0]["word"] for mask in alone["masks"])
    assert alone["filled"] == f"The {one} was very {two}  good ."
    # As transformers reads it: the space before a mask belongs to it.
    ids = model.tokenizer.encode([text], 40)[0]
    inputs = {name: np.zeros((1, len(ids)), np.int32) for name in model.task.input}
    inputs |= {"token_ids": ids[None], "padding_mask": np.ones((1, len(ids)), np.int32)}
    logits = np.asarray(model(inputs))[0, int(np.flatnonzero(ids == model.vocabulary.mask_id)[0])]
    chances = np.exp(logits - logits.max())
    expected = (chances / chances.sum())[model.vocabulary.words].max()
    assert alone["masks"][0]["words"][0]["probability"] == pytest.approx(expected, abs=1e-5)


def test_words_of_sentence_pieces_and_bytes_have_no_marks():
    for name, mask in (("roberta", "<mask>"), ("xlm_roberta", "<mask>")):
        model = MaskedLM.from_preset(REFERENCE / name)
        assert model.vocabulary.mask_token == mask
        [found] = model.fill([f"a [MASK] film {mask} ."])
        assert len(found["masks"]) == 2
        for place in found["masks"]:
            assert not any(set(word["word"]) & {"Ġ", "\u2581"} for word in place["words"]), name


def test_a_classifier_begins_with_the_encoder(tmp_path):
    model = _model()
    model.save_to_preset(tmp_path / "model")
    assert pooling_of(tmp_path / "model") == "mean"
    classifier = TextClassifier.from_preset(tmp_path / "model", labels=["bad", "good"])
    own = {each.path: each for each in model.backbone.weights}
    assert own
    for one, other in zip(model.backbone.weights, classifier.backbone.weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
