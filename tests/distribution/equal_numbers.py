"""Trains, measures and predicts under one strategy, in every way that must not change the numbers.

    python -m tests.distribution.equal_numbers STRATEGY FILE.npz

Run by test_equal_numbers.py, in a process of its own for each strategy (or worker).
"""

import itertools
import sys

import numpy as np

from kerasllm.data import pipeline
from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.examples import Examples
from kerasllm.data.pipeline import prediction_dataset, prediction_rows, training_dataset
from kerasllm.data.rows import TokensInMemory
from kerasllm.distribution import strategy
from kerasllm.training.optimizers import build_optimizer
from tests.training.tiny import CLASSES, LENGTH, Steps, small_model

# Of 26 rows in batches of 10 the last has 6; 10 rows are cut into 4 parts of 3, or 8 of 2.
ROWS, BATCH_SIZE, WIDTHS, EPOCHS = 26, 10, 2, 2


def examples() -> Examples:
    """Returns rows of 2 to 8 tokens whose classes weigh 0.5, 1 and 2 in the loss."""
    random = np.random.default_rng(0)
    lengths = random.integers(2, LENGTH + 1, ROWS)
    ids = random.integers(1, 50, lengths.sum()).astype("int32")
    tokens = TokensInMemory(ids, np.concatenate([[0], np.cumsum(lengths)]))
    labels = random.integers(0, CLASSES, ROWS).astype("int32")
    plain = Examples(tokens, np.arange(ROWS), labels)
    return plain.weighted(np.array([0.5, 1.0, 2.0]))


def numbers(scope, *, measure: bool, **options) -> dict:
    """Returns everything that must be the same however it is computed."""
    data = examples()
    with scope.scope():
        model = small_model()
        optimizer = build_optimizer(
            "adamw", 1e-2, model.trainable_variables, weight_decay=0.01, clip_norm=0.5
        )
        model.compile(optimizer, **options)
    inputs = model.input_names
    plans = EpochPlans(data.lengths, BATCH_SIZE, WIDTHS, seed=0)
    assert len(plans(0).shapes) == WIDTHS
    batches = {"inputs": inputs, "pad_id": 0, "strategy": scope}
    stream = training_dataset(
        data, plans, epochs=EPOCHS, accumulate=options["accumulate"], **batches
    )
    steps = Steps()
    history = model.fit(
        stream, epochs=EPOCHS, steps_per_epoch=plans.steps, verbose=0, callbacks=[steps]
    ).history
    results = {
        "losses": steps.all("step_loss"),
        "history": [history["loss"], history["accuracy"]],
        "weights": np.concatenate([v.numpy().ravel() for v in model.trainable_variables]),
    }
    if measure:
        ordered = EpochPlans(data.lengths, BATCH_SIZE, WIDTHS)
        stream = training_dataset(data, ordered, epochs=1, **batches)
        measured = model.evaluate(stream, steps=ordered.steps, verbose=0, return_dict=True)
        results["measured"] = [measured["loss"], measured["accuracy"]]
        outputs = model.predict(prediction_dataset(data, ordered(), **batches), verbose=0)
        results["logits"] = np.full((ROWS, CLASSES), np.nan)
        results["logits"][prediction_rows(ordered(), scope)] = outputs
    return results


def cases():
    """Yields the ways to compute; several steps an execution once without XLA and once with."""
    for xla, accumulate in itertools.product((False, True), (1, 4)):
        executions = 2 if xla == (accumulate == 4) else 1
        yield {"xla": xla, "accumulate": accumulate, "steps_per_execution": executions}


def main(name: str, path: str) -> None:
    scope = strategy(name)
    results = {}
    for case in cases():
        label = ", ".join(f"{key}={value}" for key, value in case.items())
        # These are computed alike in all cases.
        measure = case == next(cases())
        for key, value in numbers(scope, measure=measure, **case).items():
            results[f"{label}/{key}"] = value
    if name == "virtual:2":
        # As for the hosts of a TPU pod: this process hands out what the replicas cannot ask for.
        pipeline.drives_other_hosts = lambda strategy: True
        case = {"xla": False, "accumulate": 4, "steps_per_execution": 2}
        for key, value in numbers(scope, measure=True, **case).items():
            results[f"handed out/{key}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
