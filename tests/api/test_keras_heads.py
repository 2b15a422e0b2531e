"""Heads from Python: scores in their own unit, trained heads, adapters, and refused arguments."""

import dataclasses
import inspect

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import RecipeError
from kerasllm.models.adapters.base import frozen_layers
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.text_classifier import Outputs, TextClassifier
from tests.conftest import cached_in
from tests.toy import save_toy_preset, toy_rows
from tests.toy_language_model import save_toy_decoder

LABELS = ["negative", "positive"]
ROWS = toy_rows(32, seed=5)
TEXTS = [text for text, _ in ROWS]
NAMES = [label for _, label in ROWS]
SCORES = [250.0 + 50 * LABELS.index(label) for label in NAMES]


@pytest.fixture(autouse=True)
def _own_cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """The folder of a toy encoder with one layer, which is traced in no time."""
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=1)


def classifier(preset, **options) -> TextClassifier:
    options = {"labels": LABELS, "precision": "float32", "dropout": 0.0, "max_length": 64} | options
    return TextClassifier.from_preset(preset, **options)


# Scores, in their own unit


def regressor(preset) -> TextClassifier:
    model = classifier(preset, labels=["stars"], outputs=Outputs("regression"))
    model.compile(keras.optimizers.Adam(5e-3), fused=False, slices=1)
    return model


def test_files_of_callbacks_hold_scores_in_their_own_unit(preset, tmp_path):
    class Saver(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save_to_preset(tmp_path / "preset")
            self.measured = self.model.evaluate(TEXTS, SCORES, verbose=0)

    model, saver = regressor(preset), Saver()
    files = [tmp_path / "whole.keras", tmp_path / "some.weights.h5"]
    callbacks = [
        keras.callbacks.ModelCheckpoint(files[0]),
        keras.callbacks.ModelCheckpoint(files[1], save_weights_only=True),
        saver,
    ]
    model.fit(TEXTS, SCORES, epochs=2, verbose=0, callbacks=callbacks)
    wanted = model.predict(TEXTS, verbose=0)
    assert 200 < wanted.mean() < 350
    loss = model.evaluate(TEXTS, SCORES, verbose=0)
    assert saver.measured == pytest.approx(loss, rel=1e-3)

    whole = keras.models.load_model(files[0])
    np.testing.assert_allclose(whole.predict(TEXTS, verbose=0), wanted, rtol=1e-4)
    tokens = whole.preprocessor(TEXTS)
    np.testing.assert_allclose(whole.predict(tokens, verbose=0), wanted, rtol=1e-4)
    assert whole.evaluate(TEXTS, SCORES, verbose=0) == pytest.approx(loss, rel=1e-3)
    saved = TextClassifier.from_preset(tmp_path / "preset", precision="float32")
    np.testing.assert_allclose(saved.predict(TEXTS, verbose=0), wanted, rtol=1e-4)

    # The weights alone: on a new model, which then trains on from there.
    other = regressor(preset)
    other.load_weights(files[1])
    np.testing.assert_allclose(other.predict(TEXTS, verbose=0), wanted, rtol=1e-4)
    other.optimizer.learning_rate = 0.0
    other.fit(TEXTS, SCORES, verbose=0)
    np.testing.assert_allclose(other.predict(TEXTS, verbose=0), wanted, rtol=1e-4)


def test_a_regression_goes_on_where_it_was(preset, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    options = {"epochs": 2, "batch_size": 16, "verbose": 0, "seed": 1}
    whole, cut, again = (regressor(preset) for _ in range(3))
    for model in (cut, again):
        model.set_weights(whole.get_weights())
    whole.fit(TEXTS, SCORES, **options)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(TEXTS, SCORES, **options, callbacks=[backup(), Stop()])
    again.fit(TEXTS, SCORES, **options, callbacks=[backup()])
    np.testing.assert_allclose(
        again.predict(TEXTS, verbose=0), whole.predict(TEXTS, verbose=0), rtol=1e-4
    )


def test_the_best_weights_of_a_regression_come_back(preset):
    model, found = regressor(preset), []

    class Note(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.append(self.model.predict(TEXTS, verbose=0))
            # Worse from here on.
            self.model.optimizer.learning_rate = 1.0

    stopping = keras.callbacks.EarlyStopping(monitor="loss", restore_best_weights=True)
    model.fit(TEXTS, SCORES, epochs=3, verbose=0, callbacks=[Note(), stopping])
    best = found[stopping.best_epoch]
    np.testing.assert_allclose(model.predict(TEXTS, verbose=0), best, rtol=1e-4)


# A trained head, built again with other options


@pytest.fixture(scope="module")
def trained(preset, tmp_path_factory, session_cache):
    """The folder of a classifier of several labels with a head of its own, and its logits."""
    model = classifier(preset, labels=["bad", "good"], problem="multi_label")
    head = model.task.layers[-1]
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
    model.outputs = dataclasses.replace(model.outputs, thresholds=(0.3, 0.7), temperature=1.5)
    folder = tmp_path_factory.mktemp("trained") / "model"
    model.save_to_preset(folder)
    return folder, model.predict(TEXTS, verbose=0)


@pytest.mark.parametrize(
    "options",
    [
        {"labels": ["bad", "good"], "max_length": 64},
        {"lora": {"rank": 2}},
        {"freeze": 1, "dropout": 0.3},
        {"load_weights": True, "num_classes": 2},
        {"problem": "multi_label"},
    ],
    ids=str,
)
def test_a_trained_head_stays_with_other_options(trained, options, recwarn):
    folder, logits = trained
    model = TextClassifier.from_preset(folder, precision="float32", **options)
    np.testing.assert_allclose(model.predict(TEXTS, verbose=0), logits, atol=1e-5)
    assert model.outputs.thresholds == (0.3, 0.7) and model.outputs.temperature == 1.5
    assert list(model.labels) == ["bad", "good"] and model.max_length == 64
    assert not [each for each in recwarn if each.category is UserWarning]


def test_a_trained_regression_stays_with_other_options(preset, tmp_path):
    model = regressor(preset)
    model.fit(TEXTS, SCORES, verbose=0)
    model.save_to_preset(tmp_path)
    again = TextClassifier.from_preset(tmp_path, precision="float32", lora={"rank": 2})
    wanted = model.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(again.predict(TEXTS, verbose=0), wanted, rtol=1e-4)
    again.compile(keras.optimizers.Adam(0.0))
    again.fit(TEXTS, SCORES, verbose=0)
    np.testing.assert_allclose(again.predict(TEXTS, verbose=0), wanted, rtol=1e-4)


def test_another_head_is_said_to_be_new(trained):
    folder, _ = trained
    with pytest.warns(UserWarning, match="labels are a, b, and were bad, good") as found:
        model = classifier(folder, labels=["a", "b"], problem="multi_label")
    assert model.outputs.thresholds is None and found[0].filename == __file__
    with pytest.warns(UserWarning, match="problem is regression, and was multi label"):
        classifier(folder, labels=None, problem="regression")
    with pytest.raises(ValueError, match="pooling is mean, and was cls"):
        classifier(folder, labels=None, pooling="mean")
    with pytest.warns(UserWarning, match="problem is single label, and was multi label"):
        classifier(folder, labels=["a", "b", "c"])


# The problem


@pytest.mark.parametrize("options", [{}, {"num_classes": 1}, {"labels": ["stars"]}], ids=str)
def test_a_regression_by_name(preset, options):
    model = TextClassifier.from_preset(preset, problem="regression", **options)
    assert model.outputs.problem == "regression" and model.labels.names in (("score",), ("stars",))


def test_several_labels_and_pairs_by_name(preset):
    model = classifier(preset, problem="multi_label", pair=True)
    assert model.outputs == Outputs("multi_label", pair=True)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"outputs": "regression"}, ValueError, "problem='regression'"),
        ({"problem": "regresion"}, ValueError, "did you mean 'regression'"),
        ({"problem": "regression"}, ValueError, "one score"),
        ({"outputs": Outputs(), "pair": True}, ValueError, "Give either"),
        ({"lora": 4}, ValueError, 'lora={"rank": 4}'),
        ({"lora": True}, ValueError, 'lora={"rank": 8}'),
        ({"lora": {"r": 8}}, ValueError, "write 'rank'"),
        ({"lora": {"target_modules": ["query"]}}, ValueError, "write 'targets'"),
        ({"lora": {"rank": 0}}, ValueError, "`rank`"),
        ({"lora": {"targets": "query"}}, ValueError, r'targets=\["query"\]'),
        ({"lora": {"targets": ["nonsense"]}}, RecipeError, "where: targets"),
        ({"freeze": "all"}, ValueError, '"backbone"'),
        ({"freeze": True}, ValueError, "`freeze`"),
        ({"freeze": 9}, RecipeError, "where: freeze"),
        ({"max_length": 9000}, RecipeError, "where: max_length"),
        ({"labels": 2}, ValueError, "num_classes=2"),
        ({"labels": "good"}, ValueError, "list of the names"),
        ({"load_weight": False}, TypeError, "did you mean 'load_weights'"),
        ({"precision": "half"}, ValueError, "write 'mixed_float16'"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named(preset, options, error, words):
    with pytest.raises(error, match=words) as found:
        classifier(preset, **options)
    assert "model." not in str(found.value) and "data." not in str(found.value)


# What would fail half-way


def test_a_quantization_is_refused_before_anything_changes(preset):
    model = classifier(preset)
    before = model.predict(TEXTS, verbose=0)
    with pytest.raises(ValueError, match="kerasllm compress RUN --method int8"):
        model.quantize("int8")
    np.testing.assert_array_equal(model.predict(TEXTS, verbose=0), before)


def test_checkpoints_that_have_no_place_for_adapters_are_refused_at_once(preset, tmp_path):
    model = classifier(preset, lora={"rank": 2})
    model.compile()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "a.keras")
    with pytest.raises(ValueError, match="save_weights_only=True"):
        model.fit(TEXTS, NAMES, verbose=0, callbacks=[checkpoint])
    assert model.steps_done == 0


# Language models


@pytest.fixture(scope="module")
def decoder(tmp_path_factory, session_cache):
    with cached_in(session_cache):
        return save_toy_decoder(tmp_path_factory.mktemp("decoder") / "gpt2")


def test_adapters_of_any_family_by_rank_alone(decoder):
    model = CausalLM.from_preset(decoder, precision="float32", lora={"rank": 2})
    names = {layer.name for layer in frozen_layers(model.backbone)}
    assert names == {"query", "value"}
    with pytest.raises(RecipeError, match="where: targets") as found:
        CausalLM.from_preset(decoder, lora={"targets": ["nonsense"]})
    assert "model." not in str(found.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lora": 8}, 'lora={"rank": 8}'),
        ({"lora": {"r": 8}}, "write 'rank'"),
        ({"freeze": "backbone"}, "`freeze`"),
        ({"precision": "half"}, "mixed_float16"),
        ({"lora": {}, "quantize": "8bit"}, '"int8"'),
    ],
    ids=str,
)
def test_a_wrong_argument_of_a_language_model_is_named(decoder, options, words):
    with pytest.raises(ValueError, match=words):
        CausalLM.from_preset(decoder, **options)


def test_a_sampler_is_said_with_each_prompt(decoder):
    model = CausalLM.from_preset(decoder, precision="float32")
    with pytest.raises(ValueError, match=r"generate\(prompts, top_k=5\)"):
        model.compile(sampler="top_k")
    assert not model.compiled
    with pytest.raises(ValueError, match=r"top_p=0\.1"):
        model.compile("adamw", sampler=keras_hub.samplers.TopPSampler(0.9))
    assert "accumulate" in inspect.signature(model.compile).parameters


def test_prompts_as_keras_has_them(decoder):
    model = CausalLM.from_preset(decoder, precision="float32")
    options = {"max_new_tokens": 3}
    wanted = model.generate("Call me", **options)
    assert model.generate("Call me", stop_token_ids="auto", **options) == wanted
    for one in (b"Call me", tf.constant("Call me"), np.array("Call me")):
        assert model.generate(one, **options) == wanted
    for several in ([b"Call me"], tf.constant(["Call me"]), np.array(["Call me"], object)):
        assert model.generate(several, **options) == [wanted]
    assert model.generate("Call me", stop=" ", **options) in wanted
    for wrong in ({"token_ids": [[1]]}, [1, 2], None, 3):
        with pytest.raises(ValueError, match="`inputs` must be a text"):
            model.generate(wrong)


def test_metrics_of_scores_are_in_their_own_unit(preset):
    model = regressor(preset)
    model.compile(keras.optimizers.Adam(5e-3), metrics=["mae"])
    for _ in range(2):
        history = model.fit(TEXTS, SCORES, verbose=0, validation_data=(TEXTS, SCORES)).history
        found = model.evaluate(TEXTS, SCORES, verbose=0, return_dict=True)["mae"]
        assert history["val_mae"][-1] == pytest.approx(found, rel=1e-3)
        assert 5 < history["mae"][0] < 60
