"""Losses that Keras lacks."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerasllm")
class SmoothedSparseCategoricalCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels, from logits, with label smoothing.

    With smoothing `s` and `C` classes the target distribution is `1 - s + s / C` for the true
    class and `s / C` for the others. Keras offers smoothing for one-hot labels only.

    Reference:
        - [Szegedy et al., 2016](https://arxiv.org/abs/1512.00567)

    Args:
        label_smoothing: Float from 0 to below 1. Defaults to `0.0`.
        **kwargs: See `keras.losses.Loss`.

    Call arguments:
        y_true: int `[batch]`, the classes.
        y_pred: float `[batch, classes]`, the logits.

    Example:

    >>> loss = SmoothedSparseCategoricalCrossentropy(label_smoothing=0.1)
    >>> float(loss([1], [[0.0, 0.0]]))
    0.6931...
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, "float32")
        labels = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
        # One fused operation of the backend, which matters where there are many classes.
        if not self.label_smoothing:
            return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return _smoothed(labels, logits, self.label_smoothing)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def _smoothed(labels, logits, smoothing: float):
    """Returns the cross-entropy of each item with a smoothed target.

    Its gradient is written out: of a large vocabulary the passes over the logits are what it costs.

    Args:
        labels: int `[...]`.
        logits: float32 `[..., classes]`.
        smoothing: The share of the target that is spread over all classes.
    """
    classes = logits.shape[-1]
    labels = ops.reshape(labels, (-1,))

    def parts_of(flat):
        normalizer = ops.logsumexp(flat, axis=-1)
        own = ops.take_along_axis(flat, labels[:, None], axis=-1)[:, 0]
        loss = normalizer - (1.0 - smoothing) * own - smoothing * ops.mean(flat, axis=-1)
        return normalizer, own, loss

    if keras.config.backend() == "jax":
        # A gradient of one's own may not use values of the step around it, as the labels are.
        *_, loss = parts_of(ops.reshape(logits, (-1, classes)))
        return ops.reshape(loss, ops.shape(logits)[:-1])

    @ops.custom_gradient
    def compute(flat):
        normalizer, own, loss = parts_of(flat)

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            share = smoothing / classes
            of_all = ops.exp(flat - normalizer[:, None]) - share
            of_own = ops.exp(own - normalizer) - share - (1.0 - smoothing)
            places = ops.stack([ops.arange(ops.shape(labels)[0], dtype="int32"), labels], axis=1)
            return ops.scatter_update(of_all, places, of_own) * upstream[:, None]

        return loss, gradient

    return ops.reshape(compute(ops.reshape(logits, (-1, classes))), ops.shape(logits)[:-1])


@keras.saving.register_keras_serializable(package="kerasllm")
class SoftenedKLDivergence(keras.losses.Loss):
    """KL divergence of a student's softmax from its teacher's, both at a temperature.

    It is multiplied by the square of the temperature, so that its gradients are as large at any.

    Reference:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531)

    Args:
        temperature: What the logits are divided by. Defaults to `1.0`.
        **kwargs: See `keras.losses.Loss`.

    Call arguments:
        y_true: float `[batch, classes]`, the teacher's logits.
        y_pred: float `[batch, classes]`, the student's logits.

    Example:

    >>> loss = SoftenedKLDivergence(temperature=2.0)
    >>> float(loss([[0.0, 1.0]], [[0.0, 1.0]]))
    0.0
    """

    def __init__(self, temperature: float = 1.0, name: str = "divergence", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        teacher, student = (
            ops.log_softmax(ops.cast(logits, "float32") / self.temperature)
            for logits in (y_true, y_pred)
        )
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        return self.temperature**2 * divergence

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="kerasllm")
class SoftenedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of a student's sigmoids with its teacher's, both at a temperature.

    It is the mean over the labels, multiplied by the square of the temperature, so that its
    gradients are as large at any.

    Args:
        temperature: What the logits are divided by. Defaults to `1.0`.
        **kwargs: See `keras.losses.Loss`.

    Call arguments:
        y_true: float `[batch, labels]`, the teacher's logits.
        y_pred: float `[batch, labels]`, the student's logits.

    Example:

    >>> loss = SoftenedBinaryCrossentropy(temperature=2.0)
    >>> float(loss([[0.0, 0.0]], [[0.0, 0.0]]))
    2.7725...
    """

    def __init__(self, temperature: float = 1.0, name: str = "binary_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        teacher, student = (
            ops.cast(logits, "float32") / self.temperature for logits in (y_true, y_pred)
        )
        each = ops.binary_crossentropy(ops.sigmoid(teacher), student, from_logits=True)
        return self.temperature**2 * ops.mean(each, axis=-1)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
