"""Encoder-decoders in Python: `fit` on texts, teacher forcing, adapters, files."""

from pathlib import Path

import keras
import numpy as np
import pytest

import kerasllm
from kerasllm.data.seq2seq_rows import INPUTS, Seq2SeqRows
from kerasllm.errors import DataError, RecipeError
from kerasllm.models.encoder_decoder import open_encoder_decoder
from kerasllm.models.seq2seq_lm import Seq2SeqLM, limit_training
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

REFERENCE = Path(__file__).parents[1] / "reference" / "encoder_decoders"
SOURCES = ["a dog", "two men talk in the park", "a cat and a dog", "the park"] * 4
TARGETS = ["dogs", "men talk", "a cat runs", "a park in the park"] * 4


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))


def opened(family="bart", **options) -> Seq2SeqLM:
    return Seq2SeqLM(open_encoder_decoder(REFERENCE / family), **options)


@pytest.fixture(scope="module")
def bart():
    """A model that no test changes."""
    return opened()


def rows_of(model, sources=SOURCES, targets=TARGETS) -> Seq2SeqRows:
    return model.encode(model.dataset_of(sources, targets))


def test_fit_learns_from_texts_and_generate_writes():
    model = kerasllm.Seq2SeqLM.from_preset(REFERENCE / "bart", precision="float32", dropout=0.0)
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(SOURCES, TARGETS, epochs=40, batch_size=4, verbose=0, seed=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert model.evaluate(SOURCES, TARGETS, verbose=0, return_dict=True)["accuracy"] > 0.8
    written = model.generate(SOURCES[:4], beams=2, max_new_tokens=12)
    assert sum(one == other for one, other in zip(written, TARGETS)) >= 2
    assert model.generate(SOURCES[0]) == model.predict(SOURCES[:1], verbose=0)[0]


def test_the_loss_is_the_mean_over_target_tokens_whatever_is_padded(bart):
    """As computed by hand, with label smoothing, from the logits of each row alone."""
    rows = rows_of(bart)
    smoothed = SmoothedSparseCategoricalCrossentropy(0.1, reduction="sum")
    total = tokens = 0
    for row in range(4):
        x, y, weights = rows.batch(np.array([row]), tuple(rows.lengths[row]), INPUTS, 1)
        assert weights.all()
        total += float(smoothed(y, bart(x)))
        tokens += weights.sum()
    bart.compile("adam", SmoothedSparseCategoricalCrossentropy(0.1))
    found = bart.evaluate(SOURCES[:4], TARGETS[:4], verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(total / tokens, rel=1e-5)


def test_a_decoder_does_not_see_the_token_that_it_is_to_tell(bart):
    rows = rows_of(bart)
    x, y, _ = rows.batch(np.array([3]), tuple(rows.lengths[3]), INPUTS, 1)
    logits = np.asarray(bart(x))
    changed = {**x, "decoder_token_ids": x["decoder_token_ids"].copy()}
    changed["decoder_token_ids"][0, 3:] = 7
    np.testing.assert_allclose(np.asarray(bart(changed))[0, :3], logits[0, :3], atol=1e-5)
    assert x["decoder_token_ids"][0, 0] == bart.parts.start_token_id
    assert y[0, -1] == bart.parts.end_token_id


@pytest.mark.parametrize("family", ["bart", pytest.param("t5", marks=pytest.mark.slow)])
def test_adapters_train_alone_and_are_merged_when_saved(family, tmp_path):
    model = opened(family)
    limit_training(model, 0, {"rank": 2, "targets": ["query", "value"]})
    assert model.has_adapters
    assert all("lora" in variable.path for variable in model.trainable_variables)
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(SOURCES, TARGETS, epochs=2, verbose=0, seed=0)
    expected = model.evaluate(SOURCES, TARGETS, verbose=0)
    model.save_to_preset(tmp_path / "saved")
    again = Seq2SeqLM.from_preset(tmp_path / "saved", precision="float32", dropout=0.0)
    assert not again.has_adapters
    again.compile("adam")
    assert again.evaluate(SOURCES, TARGETS, verbose=0) == pytest.approx(expected, rel=1e-4)


def test_what_is_frozen_stays():
    model = opened()
    limit_training(model, "encoder", None)
    sides = {path.split("/")[0] for path in (v.path for v in model.trainable_variables)}
    assert not any("encoder_layer" in side or side.startswith("encoder") for side in sides), sides
    with pytest.raises(RecipeError, match="layers in its encoder"):
        limit_training(model, 99, None)


def test_the_settings_are_saved_with_the_model(tmp_path):
    model = opened(prefix="translate: ", max_length=9, max_target_length=7)
    model.parts.generation = {"num_beams": 2, "max_new_tokens": 5}
    model.save_to_preset(tmp_path / "saved")
    again = Seq2SeqLM.from_preset(tmp_path / "saved", precision="float32")
    assert (again.prefix, again.max_length, again.max_target_length) == ("translate: ", 9, 7)
    assert again.parts.generation["num_beams"] == 2
    assert again.generate(SOURCES[:2]) == model.generate(SOURCES[:2])
    (tmp_path / "saved" / "seq2seq.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        Seq2SeqLM.from_preset(tmp_path / "saved")


def test_texts_that_are_no_pairs_are_refused(bart):
    bart.compile("adam")
    with pytest.raises(ValueError, match="`y` is missing"):
        bart.fit(SOURCES)
    with pytest.raises(DataError, match="16 sources and 3 targets"):
        bart.fit(SOURCES, TARGETS[:3])
