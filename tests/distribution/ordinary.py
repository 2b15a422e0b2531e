"""Uses `fit`, `evaluate` and `predict` as a notebook does, under one strategy.

    python -m tests.distribution.ordinary STRATEGY FILE.npz

Run by test_ordinary.py, in a process of its own for each strategy.
"""

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasllm.distribution import strategy, worker_count
from tests.training.tiny import small_model, tiny_batches, weights_of

# The last batch has 5 rows: 3 for one replica and 2 for the other.
ROWS = 21


def new_model(scope, learning_rate: float = 0.1, **options):
    with scope.scope():
        model = small_model()
        model.compile(keras.optimizers.SGD(learning_rate), **options)
    return model


def arrays() -> tuple:
    """Returns inputs, labels and weights."""
    return next(iter(tiny_batches(rows=ROWS, batch_size=ROWS)))


def datasets_and_arrays(scope) -> dict:
    """Returns what comes of the same rows as a dataset and as arrays."""
    x, y, weight = arrays()
    results = {}
    for name in ("dataset", "arrays"):
        model = new_model(scope)
        if name == "dataset":
            data, options = (tiny_batches(rows=ROWS),), {}
            inputs = tiny_batches(rows=ROWS).map(lambda x, y, weight: x)
        else:
            data, options = (x, y), {"batch_size": 8, "sample_weight": weight}
            inputs = x
        model.fit(*data, epochs=2, verbose=0, **options, **({"shuffle": False} if options else {}))
        results[f"{name}/weights"] = np.concatenate([w.ravel() for w in weights_of(model)])
        measured = model.evaluate(*data, verbose=0, return_dict=True, **options)
        results[f"{name}/measured"] = [measured["loss"], measured["accuracy"]]
        options.pop("sample_weight", None)
        results[f"{name}/outputs"] = model.predict(inputs, verbose=0, **options)
    # One row is fewer than the replicas.
    results["one row"] = model.predict({key: part[:1] for key, part in x.items()}, verbose=0)
    return results


def shuffled_arrays(scope) -> dict:
    model = new_model(scope)
    x, y, weight = arrays()
    model.fit(x, y, sample_weight=weight, batch_size=8, epochs=2, verbose=0)
    return {"shuffled": np.concatenate([w.ravel() for w in weights_of(model)])}


def callbacks(scope) -> dict:
    """Returns what Keras' own callbacks made of a training."""
    model = new_model(scope, 0.5)
    batches = []
    with tempfile.TemporaryDirectory() as folder:
        best = f"{folder}/best.weights.h5"
        history = model.fit(
            tiny_batches(rows=ROWS),
            epochs=12,
            validation_data=tiny_batches(rows=ROWS),
            verbose=0,
            callbacks=[
                keras.callbacks.ModelCheckpoint(
                    best, save_weights_only=True, save_best_only=True, monitor="val_loss"
                ),
                # The loss does not rise: the rate is halved after every epoch.
                keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, mode="max"),
                keras.callbacks.EarlyStopping(
                    "val_accuracy", patience=2, mode="max", restore_best_weights=True
                ),
                keras.callbacks.TensorBoard(f"{folder}/events", update_freq=1),
                keras.callbacks.LambdaCallback(
                    on_train_batch_end=lambda batch, logs: batches.append(float(logs["loss"]))
                ),
            ],
        ).history
        events = list(Path(folder).rglob("events.out*"))
        restored = model.evaluate(tiny_batches(rows=ROWS), verbose=0, return_dict=True)
        model.load_weights(best)
        loaded = model.evaluate(tiny_batches(rows=ROWS), verbose=0, return_dict=True)
    return {
        **{f"history/{name}": values for name, values in history.items()},
        "batches": batches,
        "checkpoint": [min(history["val_loss"]), loaded["loss"]],
        "restored": [max(history["val_accuracy"]), restored["accuracy"]],
        "events": len(events),
    }


def refusals(scope) -> dict:
    """Returns what is said where a part was made outside of the scope."""
    with scope.scope():
        model = small_model()
        optimizer = keras.optimizers.SGD(0.1)
    outside = small_model()

    def message(call) -> str:
        try:
            call()
        except ValueError as error:
            return str(error)
        return ""

    metric = keras.metrics.SparseCategoricalAccuracy()
    endless = tiny_batches().repeat()
    compiled = new_model(scope)
    return {
        "refused/optimizer": message(lambda: model.compile(keras.optimizers.SGD(0.1))),
        "refused/metric": message(lambda: model.compile(optimizer, metrics=[metric])),
        "refused/model": message(lambda: outside.compile(optimizer)),
        "refused/endless": message(lambda: compiled.evaluate(endless, verbose=0)),
        "refused/short": message(
            lambda: compiled.fit(tiny_batches(), steps_per_epoch=9, verbose=0)
        ),
    }


def progress(scope) -> dict:
    """Returns the last line that a progress bar shows."""
    model = new_model(scope)
    keras.utils.enable_interactive_logging()
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        history = model.fit(tiny_batches(rows=ROWS), epochs=2, verbose=1).history
    text = re.sub(r"\x1b\[[0-9;]*m|\x08", "", shown.getvalue())
    return {"bar": text.splitlines()[-1].split("\r")[-1], "bar/loss": history["loss"][-1]}


def main(name: str, path: str) -> None:
    scope = strategy(name)
    results = {}
    parts = [datasets_and_arrays, shuffled_arrays]
    if worker_count(scope) == 1:
        parts += [callbacks, progress, refusals]
    for part in parts:
        tf.random.set_seed(0)
        results |= part(scope)
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
