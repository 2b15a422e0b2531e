"""The arguments of `compile` as Keras objects: an optimizer, losses and metrics for each output."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kerasllm.training.optimizers import OPTIMIZERS, build_optimizer

_DECAY, _CLIP_NORM = 0.01, 1.0
_ON_LOGITS = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "binary_focal_crossentropy": keras.losses.BinaryFocalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "categorical_focal_crossentropy": keras.losses.CategoricalFocalCrossentropy,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
}
_ACCURACY = ("accuracy", "acc")
_CROSSENTROPY = ("crossentropy", "ce")


class FunctionLoss(keras.losses.Loss):
    """A function `(y_true, y_pred)` as a Keras loss.

    Args:
        function: Returns the loss of each item, or one number for the whole batch.
        name: The name of the loss. Defaults to `None`: that of the function.
    """

    def __init__(self, function, name: str | None = None, **kwargs):
        super().__init__(name=name or name_of(function, "loss"), **kwargs)
        self.function = function

    def call(self, y_true, y_pred):
        # As Keras' own losses take them: a target for each row, an output of width 1.
        if len(y_true.shape) == len(y_pred.shape) - 1 and y_pred.shape[-1] == 1:
            y_true = keras.ops.expand_dims(y_true, -1)
        return self.function(y_true, y_pred)


class LossMean(keras.metrics.Mean):
    """The mean of a loss, as a metric: of one output among several."""

    def __init__(self, loss: keras.losses.Loss, name: str):
        super().__init__(name=name)
        self._loss = unreduced(loss)

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = self._loss(y_true, y_pred)
        return super().update_state(values, sample_weight=sample_weight)


def find_optimizer(
    given: Any, variables: Sequence[keras.Variable], learning_rate: float | None
) -> keras.optimizers.Optimizer:
    """Returns the optimizer that `compile` was given, by name or as it is.

    Args:
        given: A Keras optimizer, its name, its configuration, or `"auto"`: AdamW.
        variables: The variables that will train.
        learning_rate: The highest learning rate of an optimizer that is given by name, which is
            then one for fine-tuning: weight decay 0.01, except for biases and norms, and gradients
            clipped to a norm of 1. `None`: the optimizer has Keras' own defaults.

    Raises:
        ValueError: If it is not an optimizer, or no optimizer has the name.
    """
    if isinstance(given, keras.optimizers.Optimizer):
        return given
    if isinstance(given, Mapping):
        return keras.optimizers.deserialize(dict(given))
    if isinstance(given, type) and issubclass(given, keras.optimizers.Optimizer):
        raise ValueError(
            f"`optimizer` must be an optimizer, not its class: write {given.__name__}(...). "
            f"Received: optimizer={given}"
        )
    if not isinstance(given, str):
        raise ValueError(
            "`optimizer` must be a Keras optimizer or the name of one, such as 'adamw'. Received: "
            f"optimizer={given!r}"
        )
    name = "adamw" if given == "auto" else given.lower()
    if learning_rate is not None and name in OPTIMIZERS:
        return build_optimizer(
            name, learning_rate, variables, weight_decay=_DECAY, clip_norm=_CLIP_NORM
        )
    try:
        optimizer = keras.optimizers.get(name)
    except ValueError:
        known = (*OPTIMIZERS, "adadelta", "adamax", "ftrl", "nadam")
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"There is no optimizer named {given!r}"
            + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}")
        ) from None
    if learning_rate is not None:
        optimizer.learning_rate = learning_rate
    return optimizer


def find_losses(given: Any, names: Sequence[str]) -> list[keras.losses.Loss | None]:
    """Returns a loss for each output.

    Args:
        given: One loss for all outputs, a list, or a dictionary by the names of the outputs: of
            Keras losses, their names, and functions `(y_true, y_pred)`. An output that a
            dictionary leaves out has no loss.
        names: The names of the outputs.

    Raises:
        ValueError: If a loss is none, or for no output.
    """
    losses = [find_loss(each) for each in by_output(given, names, "loss")]
    if not any(losses):
        raise ValueError(f"`loss` must have a loss for one of {', '.join(names)}.")
    return losses


def find_loss(given: Any) -> keras.losses.Loss | None:
    """Returns one loss; see `find_losses`."""
    if given is None or isinstance(given, keras.losses.Loss):
        return given
    if isinstance(given, type) and issubclass(given, keras.losses.Loss):
        raise ValueError(
            f"`loss` must be a loss, not its class: write {given.__name__}(...). "
            f"Received: loss={given}"
        )
    if isinstance(given, (str, Mapping)):
        try:
            found = keras.losses.get(given)
        except (ValueError, TypeError):
            raise ValueError(
                f"Keras has no loss named {given!r}; pass your own loss as a function `(y_true, "
                "y_pred)` or as a `keras.losses.Loss`"
            ) from None
        return found if isinstance(found, keras.losses.Loss) else FunctionLoss(found, str(given))
    if callable(given):
        return FunctionLoss(given)
    raise ValueError(
        "`loss` must be a `keras.losses.Loss`, its name, or a function `(y_true, y_pred)`. "
        f"Received: loss={given!r}"
    )


def reduced_by_sum(loss: keras.losses.Loss) -> keras.losses.Loss:
    """Returns a copy of a loss that sums over the items."""
    return _with_reduction(loss, "sum")


def unreduced(loss: keras.losses.Loss) -> keras.losses.Loss:
    """Returns a copy of a loss that gives the loss of each item."""
    return _with_reduction(loss, "none")


def find_metrics(
    given: Any, losses: Sequence[keras.losses.Loss | None], names: Sequence[str], widths: Sequence
) -> list[list[keras.metrics.Metric]]:
    """Returns the metrics of each output.

    Args:
        given: A metric or a list of them for the only output; a list of lists; or a dictionary by
            the names of the outputs: of Keras metrics, their names, and functions.
        losses: The loss of each output, by which `"accuracy"` is understood.
        names: The names of the outputs.
        widths: The last size of each output.

    Raises:
        ValueError: If a metric is none, or for no output.
    """
    if given is None:
        return [[] for _ in names]
    if len(names) == 1 and not isinstance(given, Mapping):
        given = [given if isinstance(given, (list, tuple)) else [given]]
    found = []
    for each, loss, width in zip(by_output(given, names, "metrics"), losses, widths, strict=True):
        each = each if isinstance(each, (list, tuple)) else [each]
        found.append([find_metric(one, loss, width) for one in each if one is not None])
    return found


def find_metric(given: Any, loss: keras.losses.Loss | None, width: int | None):
    """Returns one metric; see `find_metrics`."""
    if isinstance(given, keras.metrics.Metric):
        return given
    if isinstance(given, type) and issubclass(given, keras.metrics.Metric):
        raise ValueError(
            f"`metrics` must hold metrics, not their classes: write {given.__name__}(...). "
            f"Received: {given}"
        )
    if isinstance(given, str) and given.lower() in (*_ACCURACY, *_CROSSENTROPY):
        return _by_loss(given.lower(), loss, width)(name=given)
    try:
        found = keras.metrics.get(given)
    except (ValueError, TypeError):
        raise ValueError(
            f"Keras has no metric named {given!r}; pass your own metric as a function `(y_true, "
            "y_pred)` or as a `keras.metrics.Metric`"
        ) from None
    if not isinstance(found, keras.metrics.Metric):
        name = given if isinstance(given, str) else name_of(found, "metric")
        return keras.metrics.MeanMetricWrapper(_of_rows(found), name=name)
    if isinstance(given, str):
        found.name = given
    return found


def name_of(function: Any, default: str) -> str:
    """Returns the name of a function as a name that TensorFlow takes: `lambda` of `<lambda>`."""
    return re.sub(r"[^\w.-]", "", getattr(function, "__name__", "")) or default


def is_sparse(loss: keras.losses.Loss | None) -> bool:
    """Tells whether a loss takes classes as whole numbers."""
    return "sparse" in _name_of(loss)


def is_categorical(loss: keras.losses.Loss | None) -> bool:
    """Tells whether a loss takes classes as vectors of 0 and 1."""
    return "categorical" in _name_of(loss) and not is_sparse(loss)


def on_logits(loss: Any) -> Any:
    """Returns a loss that is given by name as one on logits; others stay as they are.

    Raises:
        ValueError: If it is a loss of Keras on probabilities.
    """
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", None)
    if isinstance(name, str) and name in _ON_LOGITS:
        return _ON_LOGITS[name](from_logits=True)
    config = loss.get_config() if isinstance(loss, tuple(_ON_LOGITS.values())) else {}
    if config.get("from_logits") is False:
        raise ValueError(
            "The model's outputs are logits: write "
            f"keras.losses.{type(loss).__name__}(from_logits=True)"
        )
    return loss


def refuse_loss_of_another_kind(loss: Any, problem: str) -> None:
    """Refuses losses of Keras that do not compare what a classifier gives.

    Args:
        loss: A loss of Keras, its name, or anything else, which is not judged.
        problem: `"single_label"`, `"multi_label"` or `"regression"`.

    Raises:
        ValueError: If it is a loss for another problem.
    """
    if isinstance(loss, str):
        try:
            keras.losses.get(loss)
        except ValueError:
            return
    own = isinstance(loss, keras.losses.Loss) and not type(loss).__module__.startswith("keras.")
    name = loss if isinstance(loss, str) else type(loss).__name__
    named = isinstance(loss, (str, keras.losses.Loss))
    if own or not named:
        return
    name = name.replace("_", "").lower()
    fits = {
        "single_label": name.startswith(("sparse", "categorical")),
        "multi_label": not name.startswith(("sparse", "categorical")),
        "regression": "crossentropy" not in name,
    }
    fitting = {
        "single_label": "'sparse_categorical_crossentropy' or 'categorical_crossentropy'",
        "multi_label": "'binary_crossentropy'",
        "regression": "'mse', 'mae' or 'huber'",
    }
    if not fits[problem]:
        raise ValueError(
            f"The model's problem is {problem}, but this loss is for another one: use "
            f"{fitting[problem]}, or a function of your own. Received: loss={loss!r}"
        )


def takes_probabilities(metric: keras.metrics.Metric) -> bool:
    """Tells whether a metric is one of Keras' that compare 0 and 1 with probabilities.

    Those for classes as whole numbers, and metrics of other packages, take logits as they are.
    """
    if not type(metric).__module__.startswith("keras."):
        return False
    # The wrapper is around a function of the user's.
    plain = keras.metrics.Mean, keras.metrics.Sum, keras.metrics.MeanMetricWrapper
    if "Sparse" in type(metric).__name__ or type(metric) in plain:
        return False
    return not (getattr(metric, "from_logits", False) or getattr(metric, "_from_logits", False))


def by_output(given: Any, names: Sequence[str], argument: str) -> list:
    """Returns what each output was given, of one value for all, a list, or a dictionary."""
    if isinstance(given, Mapping) and "class_name" not in given:
        if strangers := [name for name in given if name not in names]:
            raise ValueError(
                f"`{argument}` is for the outputs {', '.join(names)}. Received: {strangers[0]!r}"
            )
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ValueError(
                f"`{argument}` must have an entry for each of the {len(names)} outputs. Received: "
                f"{len(given)} entries"
            )
        return list(given)
    return [given] * len(names)


def _of_rows(function: Any) -> Any:
    """Returns a metric's function with a value for each row, where it gives one for the batch."""

    def measured(y_true, y_pred):
        values = function(y_true, y_pred)
        if len(keras.ops.shape(values)):
            return values
        return keras.ops.broadcast_to(values, keras.ops.shape(y_pred)[:1])

    return measured


def _with_reduction(loss: keras.losses.Loss, reduction: str) -> keras.losses.Loss:
    # A plain copy: that of Keras needs a loss class that is registered.
    copy = object.__new__(type(loss))
    vars(copy).update(vars(loss))
    copy.reduction = reduction
    return copy


def _by_loss(name: str, loss: keras.losses.Loss | None, width: int | None) -> type:
    """Returns the class that `"accuracy"` or `"crossentropy"` stands for beside a loss."""
    metrics = keras.metrics
    if "binary" in _name_of(loss) or width == 1:
        return metrics.BinaryAccuracy if name in _ACCURACY else metrics.BinaryCrossentropy
    if is_categorical(loss):
        return metrics.CategoricalAccuracy if name in _ACCURACY else metrics.CategoricalCrossentropy
    if name in _ACCURACY:
        return metrics.SparseCategoricalAccuracy
    return metrics.SparseCategoricalCrossentropy


def _name_of(loss: keras.losses.Loss | None) -> str:
    if isinstance(loss, FunctionLoss):
        return getattr(loss.function, "__name__", "")
    return "" if loss is None else type(loss).__name__.lower()
