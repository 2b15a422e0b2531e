"""Trains under one strategy with each feature that could tell replicas apart from one device.

    python -m tests.distribution.features STRATEGY FILE.npz

Run by test_features.py, in a process of its own for each strategy (or worker).
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from kerasllm.distribution import strategy
from kerasllm.distribution.strategies import worker_count
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy
from kerasllm.training.optimizers import OPTIMIZERS, build_optimizer
from tests.training.tiny import Steps, small_model, tiny_batches

STEPS = 4


def features() -> dict[str, dict]:
    """Returns the settings of each case, by name."""
    plain = {"optimizer": "sgd", "learning_rate": 0.1}
    seen = ("sgd", "adam")
    return {
        # A row of great weight: its replica's gradient alone would be clipped, the other's not.
        "clipping": plain | {"clip_norm": 0.1, "heavy_row": True},
        "ema, layer decay, smoothing": plain | {"ema": 0.5, "layer_decay": 0.5, "smoothing": 0.3},
        "frozen, L2": plain | {"frozen": True, "l2": 0.1},
        # 4 steps, 3 and then 1.
        "lora, executions": plain | {"lora": True, "steps_per_execution": 3},
        "skipped": plain | {"infinite_row": True},
        "mixed_float16": plain | {"precision": "mixed_float16", "overflow": True},
        "mixed_bfloat16": plain | {"precision": "mixed_bfloat16", "clip_norm": 0.1},
        "bfloat16": {"optimizer": "adamw", "learning_rate": 0.01, "precision": "bfloat16"},
        **{f"optimizer {name}": {"optimizer": name} for name in OPTIMIZERS if name not in seen},
    }


def for_workers() -> list[str]:
    """Returns the cases that two workers are tried with.

    An optimizer sees nothing of how gradients were summed. Weights in bfloat16 cannot be sent from
    one worker to another: TensorFlow's broadcast does not take them.
    """
    return [name for name in features() if name != "bfloat16" and "optimizer" not in name]


def numbers(
    scope,
    *,
    optimizer: str,
    learning_rate: float = 1e-2,
    precision: str = "float32",
    weight_decay: float = 0.01,
    clip_norm: float | None = None,
    ema: float | None = None,
    layer_decay: float | None = None,
    smoothing: float = 0.0,
    l2: float = 0.0,
    frozen: bool = False,
    lora: bool = False,
    steps_per_execution: int = 1,
    heavy_row: bool = False,
    infinite_row: bool = False,
    overflow: bool = False,
) -> dict:
    """Returns the losses, the gradients' norms and the weights of a short training."""
    with scope.scope():
        model = small_model(precision=precision)
        if frozen:
            next(layer for layer in model.task.layers if layer.weights).trainable = False
        if lora:
            for layer in model.task.layers:
                if isinstance(layer, keras.layers.Dense):
                    layer.enable_lora(2)
        variables = model.trainable_variables
        before = flat(variables)
        if l2:
            variables[-2].regularizer = keras.regularizers.L2(l2)
        multipliers = None
        if layer_decay:
            multipliers = {v.path: layer_decay**depth for depth, v in enumerate(variables)}
        made = build_optimizer(
            optimizer,
            learning_rate,
            variables,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            ema=ema,
            multipliers=multipliers,
        )
        loss = SmoothedSparseCategoricalCrossentropy(smoothing)
        if overflow:
            # At this scale the gradients leave float16, at half of it they do not.
            made = keras.optimizers.LossScaleOptimizer(made, initial_scale=2.0**16)
        model.compile(made, loss, steps_per_execution=steps_per_execution)

    def weigh(number, batch):
        x, y, weight = batch
        if heavy_row:
            weight = tf.concat([[50.0], weight[1:]], 0)
        if infinite_row:
            at_fault = tf.where(number == 1, np.float32("inf"), weight[0])
            weight = tf.concat([[at_fault], weight[1:]], 0)
        return x, y, weight

    steps = Steps()
    dataset = tiny_batches(rows=8 * STEPS).enumerate().map(weigh)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    model.fit(dataset.with_options(options), verbose=0, callbacks=[steps])
    results = {name: steps.all(name) for name in ("step_loss", "gradient_norm", "applied")}
    results["moved"] = flat(model.trainable_variables) - before
    results["iterations"] = int(model.optimizer.iterations.numpy())
    if overflow:
        results["scale"] = float(model.optimizer.dynamic_scale.numpy())
    return results


def outputs_with_dropout(scope, *, xla: bool) -> np.ndarray:
    """Returns the outputs of 3 steps of 8 rows, all the same row, in order of their size."""
    x, y, _ = next(iter(tiny_batches()))
    same = tf.nest.map_structure(lambda part: tf.repeat(part[:1], 8, axis=0), (x, y))
    seen = []

    class Outputs(keras.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            tf.py_function(lambda logits: seen.append(logits.numpy()), [y_pred], [])
            return super().update_state(y_pred)

    with scope.scope():
        model = small_model(dropout=0.5)
        model.compile(keras.optimizers.SGD(0.0), metrics=[Outputs()], accumulate=2, xla=xla)
    model.fit(tf.data.Dataset.from_tensors(same).repeat(3), verbose=0)
    outputs = np.concatenate(seen)
    return outputs[np.argsort(outputs[:, 0])]


def flat(variables) -> np.ndarray:
    return np.concatenate([np.asarray(v.numpy(), "float32").ravel() for v in variables])


def main(name: str, path: str) -> None:
    scope = strategy(name)
    results = {}
    for feature, settings in features().items():
        if worker_count(scope) > 1 and feature not in for_workers():
            continue
        for key, value in numbers(scope, **settings).items():
            results[f"{feature}/{key}"] = value
    if worker_count(scope) == 1:
        for xla in (False, True):
            for run in (1, 2):
                results[f"dropout/xla={xla} {run}"] = outputs_with_dropout(scope, xla=xla)
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
