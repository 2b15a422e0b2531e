"""Heads from Python: scores in their own unit, trained heads, adapters, and refused arguments."""

import keras
import numpy as np
import pytest

from kerasllm.models.text_classifier import Outputs, TextClassifier
from tests.toy import save_toy_preset, toy_rows

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
