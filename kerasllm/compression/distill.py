"""Distillation: a student is trained on the logits and hidden states of a teacher."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kerasllm.compression.student import even_layers
from kerasllm.errors import RecipeError
from kerasllm.models.answer_model import AnswerModel
from kerasllm.models.layers import parts_of
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.models.text_model import TextModel
from kerasllm.models.token_classifier import TokenClassifier
from kerasllm.training.span_loss import possible_tokens

HIDDEN_LOSSES = {
    "mse": keras.losses.MeanSquaredError,
    "cosine": keras.losses.CosineSimilarity,
}


class Distilled(TextModel):
    """A model that trains on labels, and on what a teacher makes of the same texts.

    What is minimised, on average over the rows, or over the tokens that have a label:

        labels * loss(label, logits)
        + logits * student.distillation_loss(temperature)(teacher's logits, logits)
        + hidden * FeatureDistillation(hidden_loss)(teacher's hidden states, hidden states)

    Logits are compared by their softmax, the sigmoid of each label where there are several, or
    as they are where they are a score; see `TextClassifier.distillation_loss`. The hidden states
    after each student layer are compared with those after the teacher layer of the same relative
    depth, averaged over the tokens of a text and over the layers.

    Args:
        student: The model to train; both have the same weights from then on.
        teacher: A trained classifier of the same labels and outputs; it is not changed.
        temperature: Softens the probabilities of both; above 1 the less likely classes count for
            more. A score has none. Defaults to `2.0`.
        labels: Weight of the loss on the labels. Defaults to `1.0`.
        logits: Weight of the loss on the logits. Defaults to `1.0`.
        hidden: Weight of the loss on hidden states; 0 leaves it out. Defaults to `1.0`.
        hidden_loss: `"mse"` or `"cosine"`. Defaults to `"mse"`.

    Raises:
        RecipeError: If hidden states cannot be compared, as they are of different widths.

    Reference:
        [Distilling the knowledge in a neural network](https://arxiv.org/abs/1503.02531);
        [TinyBERT](https://arxiv.org/abs/1909.10351) for hidden states.

    Example:

    ```python
    model = DistilledClassifier(student_of(teacher, layers=3), teacher)
    model.compile(keras.optimizers.AdamW(1e-4))
    model.fit(batches, steps_per_epoch=steps)
    ```
    """

    def __init__(
        self,
        student: TextModel,
        teacher: TextModel,
        *,
        temperature: float = 2.0,
        labels: float = 1.0,
        logits: float = 1.0,
        hidden: float = 1.0,
        hidden_loss: str = "mse",
    ):
        super().__init__(student.task, **self._like(student))
        depth, layers = (len(parts_of(model.task).blocks) for model in (teacher, student))
        widths = [model.task.backbone.hidden_dim for model in (teacher, student)]
        if hidden and widths[0] != widths[1]:
            raise RecipeError(
                f"The teacher's hidden states have a width of {widths[0]}, the student's of "
                f"{widths[1]}",
                where="distillation.hidden",
                fix="set distillation.hidden=0, to learn from logits and labels alone",
            )
        if hidden and layers > depth:
            raise RecipeError(
                f"The student has {layers} layers, and the teacher {depth}",
                where="distillation.hidden",
                fix="set distillation.hidden=0, or choose a student with fewer layers",
            )
        self._weights_of = {"labels": labels, "logits": logits, "hidden": hidden}
        self._logits_loss = student.distillation_loss(temperature)
        self._logits_loss.reduction = "sum"
        self._hidden_loss = HIDDEN_LOSSES[hidden_loss]
        matched = even_layers(depth, layers) if hidden else []
        views = (
            with_hidden_states(teacher.task, matched),
            with_hidden_states(student.task, range(layers) if hidden else []),
        )
        # In a function, so that the weights of this model are the student's and no others.
        self._views = lambda: views

    def _like(self, student: TextModel) -> dict[str, Any]:
        """Returns the arguments that make a model as a student is, besides its task."""
        raise NotImplementedError

    def _wanted(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Returns what the loss on logits compares with: the teacher's logits of targets `y`."""
        return logits

    def loss_and_outputs(self, x, y, share, training: bool = True):
        """Returns the loss, and the student's logits."""
        if not training:
            return super().loss_and_outputs(x, y, share, training=False)
        teacher, student = self._views()
        wanted = keras.tree.map_structure(
            lambda state: tf.stop_gradient(tf.cast(state, tf.float32)),
            teacher(x, training=False),
        )
        found = keras.tree.map_structure(
            lambda state: tf.cast(state, tf.float32), student(x, training=True)
        )
        weights = self._weights_of
        loss = weights["labels"] * self.item_loss(y, found["logits"], sample_weight=share)
        if weights["logits"]:
            loss += weights["logits"] * self._logits_loss(
                self._wanted(wanted["logits"], y), found["logits"], sample_weight=share
            )
        if weights["hidden"]:
            mask = tf.cast(x.get("padding_mask", tf.ones_like(x["token_ids"])), tf.float32)
            # A padding row has no tokens.
            parts = tf.math.divide_no_nan(mask, tf.reduce_sum(mask, -1, keepdims=True))
            of_row = tf.convert_to_tensor(share)
            of_row = of_row if of_row.shape.rank == 1 else tf.reduce_sum(of_row, -1)
            of_tokens = of_row[:, None] * parts
            matched = keras.distillation.FeatureDistillation(
                [_shared(self._hidden_loss, of_tokens)] * len(found["hidden"])
            )
            total = matched.compute_loss(wanted["hidden"], found["hidden"])
            loss += weights["hidden"] * total / len(found["hidden"])
        return loss, found["logits"]


class DistilledClassifier(Distilled, TextClassifier):
    """A classifier of texts that learns from a teacher; see `Distilled`."""

    def __init__(self, student: TextClassifier, teacher: TextClassifier, **settings):
        super().__init__(student, teacher, **settings)
        self.standardized = student.standardized

    def _like(self, student):
        return {"labels": student.labels, "outputs": student.outputs}


class DistilledTokenClassifier(Distilled, TokenClassifier):
    """A token classifier that learns from a teacher; see `Distilled`."""

    def _like(self, student):
        return {"labels": student.labels, "tagging": student.tagging}


class DistilledAnswerModel(Distilled, AnswerModel):
    """A model that finds answers and learns from a teacher; see `Distilled`."""

    def _like(self, student):
        return {"answering": student.answering}

    def _wanted(self, logits, y):
        possible = tf.cast(possible_tokens(y, tf.shape(logits)[1]), logits.dtype)
        return tf.concat([logits, possible[..., None]], -1)


_KINDS = {
    TextClassifier: DistilledClassifier,
    TokenClassifier: DistilledTokenClassifier,
    AnswerModel: DistilledAnswerModel,
}


def distilled(student: TextModel, teacher: TextModel, **settings) -> Distilled:
    """Returns a model that trains as a student of a teacher; see `Distilled`."""
    kind = next(made for kind, made in _KINDS.items() if isinstance(student, kind))
    return kind(student, teacher, **settings)


def with_hidden_states(task: keras.Model, layers) -> keras.Model:
    """Returns a model with the layers of a classifier that also returns hidden states.

    Args:
        task: A KerasHub `TextClassifier`.
        layers: The numbers of the transformer layers, from 0, whose outputs it returns.

    Returns:
        A model from the inputs of `task` to `logits`, and to `hidden`, a list of `[rows, length,
        width]`.
    """
    backbone = task.backbone
    blocks = parts_of(task).blocks
    states = [_output(blocks[number][-1]) for number in layers]
    inside = keras.Model(backbone.input, {"outputs": backbone.output, "hidden": states})
    seen = []

    def call(layer, *args, **kwargs):
        if layer is not backbone:
            return layer(*args, **kwargs)
        results = inside(*args, **kwargs)
        seen.extend(results["hidden"])
        return results["outputs"]

    again = keras.models.clone_model(task, clone_function=lambda layer: layer, call_function=call)
    return keras.Model(again.input, {"logits": again.output, "hidden": seen})


def _output(layer: keras.Layer):
    """Returns the hidden states that a layer gives in its backbone."""
    output = layer.output
    return output[0] if isinstance(output, (list, tuple)) else output


def _shared(loss: type[keras.losses.Loss], share: tf.Tensor) -> keras.losses.Loss:
    """Returns a loss whose value is the sum over its items, each counted by its share.

    Keras' distillation losses take the mean of what their loss returns, and know no weights: a
    scalar stays what it is, so that micro-batches and replicas add up to the whole batch.
    """

    class Shared(loss):
        def __call__(self, y_true, y_pred):
            return super().__call__(y_true, y_pred, sample_weight=share)

    return Shared(reduction="sum")
