"""The loss of a span: cross-entropy of the tokens that it starts and ends at."""

from __future__ import annotations

import keras
from keras import ops

_NEVER = -1e9


@keras.saving.register_keras_serializable(package="kerasllm")
class SpanCrossentropy(keras.losses.Loss):
    """The mean of the cross-entropies of a span's first and its last token.

    Each is a choice among the tokens of a context, and the first token of the row, which stands for
    no span. Other tokens, and padding, are no choices.

    Args:
        label_smoothing: Float from 0 to below 1: how much of the target is spread over all choices.
            Defaults to `0.0`.
        **kwargs: See `keras.losses.Loss`.

    Call arguments:
        y_true: int `[batch, 4]`: the first and the last token of the span, both 0 for no span; the
            first token of the context, and the one after its last.
        y_pred: float `[batch, length, 2]`, the logits of starts and ends.

    Example:

    >>> loss = SpanCrossentropy()
    >>> float(loss([[2, 2, 2, 3]], [[[0.0, 0.0]] * 4]))
    0.6931...
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "span_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        targets = ops.cast(y_true, "int32")
        # [batch, 2, length]
        logits = ops.transpose(ops.cast(y_pred, "float32"), (0, 2, 1))
        possible = possible_tokens(targets, ops.shape(logits)[-1])
        chances = ops.log_softmax(ops.where(possible[:, None], logits, _NEVER), axis=-1)
        chosen = ops.take_along_axis(chances, targets[:, :2, None], axis=-1)[..., 0]
        loss = -ops.mean(chosen, axis=-1)
        if not self.label_smoothing:
            return loss
        counted = ops.cast(possible, "float32")[:, None]
        spread = -ops.sum(chances * counted, axis=-1) / ops.sum(counted, axis=-1)
        smoothing = self.label_smoothing
        return (1.0 - smoothing) * loss + smoothing * ops.mean(spread, axis=-1)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def possible_tokens(targets, length):
    """Returns which tokens of rows a span may start and end at, bool `[batch, length]`.

    Args:
        targets: int `[batch, 4]`, see `SpanCrossentropy`.
        length: The number of tokens of a row.
    """
    targets = ops.cast(targets, "int32")
    places = ops.arange(length, dtype="int32")[None]
    return (places >= targets[:, 2:3]) & (places < targets[:, 3:4]) | (places == 0)


@keras.saving.register_keras_serializable(package="kerasllm")
class SoftenedSpanDivergence(keras.losses.Loss):
    """KL divergence of a student's choice of tokens from its teacher's, both at a temperature.

    It is the mean of that of starts and that of ends, multiplied by the square of the temperature,
    so that its gradients are as large at any.

    Args:
        temperature: What the logits are divided by. Defaults to `1.0`.
        **kwargs: See `keras.losses.Loss`.

    Call arguments:
        y_true: float `[batch, length, 3]`: the teacher's logits of starts and ends, and 0 for
            tokens that are no choices, such as padding, 1 for others.
        y_pred: float `[batch, length, 2]`, the student's logits.
    """

    def __init__(self, temperature: float = 1.0, name: str = "span_divergence", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, "float32")
        never = ops.where(y_true[..., 2:] > 0, 0.0, _NEVER)
        teacher, student = (
            ops.log_softmax(ops.cast(logits, "float32") / self.temperature + never, axis=1)
            for logits in (y_true[..., :2], y_pred)
        )
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=1)
        return self.temperature**2 * ops.mean(divergence, axis=-1)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
