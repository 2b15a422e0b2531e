"""Ordinal classification: classes with an order, such as one to five stars."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from kerasllm.recipe.types import Text
from kerasllm.tasks.task import Headline
from kerasllm.tasks.text_classification import (
    ClassificationData,
    ClassificationEarlyStopping,
    ClassificationRecipe,
    ClassificationTraining,
    TextClassification,
)


class OrdinalData(ClassificationData):
    """Which texts are read. The names of the labels are needed: they are the order."""

    label_names: Annotated[list[Text], Field(min_length=2), "a list of two or more labels"] = Field(
        description="all labels, from the lowest to the highest"
    )
    problem: Literal["single_label"] = Field(
        "single_label", description="each text has one label, also where labels are numbers"
    )


class OrdinalEarlyStopping(ClassificationEarlyStopping):
    """Stop when validation no longer improves, and restore the best weights."""

    metric: Literal["loss", "accuracy", "kappa", "mae"] = Field(
        "loss", description="validation metric that is monitored"
    )


class OrdinalTraining(ClassificationTraining):
    """How the model is trained."""

    early_stopping: OrdinalEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )


class OrdinalRecipe(ClassificationRecipe):
    """What a run does that trains an ordinal classifier."""

    task: Literal["ordinal"] = Field(description="what the model learns")
    data: OrdinalData = Field(description="paths are relative to the current folder")
    training: OrdinalTraining = Field(OrdinalTraining(), description="how the weights are trained")


class OrdinalClassification(TextClassification):
    """One of several classes with an order.

    The model is a text classifier. Its loss is the ranked probability score (Epstein, 1969): the
    squared error of the cumulative probabilities, so that a mistake costs more the farther it is
    from the true class.
    """

    name = "ordinal"
    Recipe = OrdinalRecipe
    headline = Headline("kappa")
    metrics = {"kappa": "quadratic weighted kappa", **TextClassification.metrics}
    watched = {"single_label": ("loss", "accuracy", "kappa", "mae")}

    def loss(self, recipe, data):
        import keras

        class RankedProbabilityScore(keras.losses.Loss):
            def call(self, y_true, y_pred):
                return ranked_probability_score(y_true, y_pred)

        return RankedProbabilityScore()

    def evaluate(self, model, rows, *, buckets=16, notify=None):
        import numpy as np

        found = super().evaluate(model, rows, buckets=buckets, notify=notify)
        score = ranked_probability_score(rows.labels, found.outputs)
        distance = np.abs(rows.labels.astype(int) - found.decisions)
        metrics = {
            "loss": float(np.mean(score)),
            "kappa": weighted_kappa(found.metrics["confusion_matrix"]),
            "mae": float(distance.mean()),
        }
        return dataclasses.replace(found, metrics=found.metrics | metrics)


def ranked_probability_score(ranks, logits):
    """Returns the score of each example, float32 `[examples]`.

    Args:
        ranks: int `[examples]`, the true classes.
        logits: float `[examples, classes]`.
    """
    from keras import ops

    logits = ops.cast(logits, "float32")
    cumulative = ops.cumsum(ops.softmax(logits), axis=-1)
    ranks = ops.reshape(ops.cast(ranks, "int32"), (-1, 1))
    target = ops.cast(ranks <= ops.arange(logits.shape[-1]), "float32")
    return ops.sum(ops.square(cumulative - target), axis=-1)


def weighted_kappa(confusion_matrix) -> float:
    """Returns Cohen's kappa with quadratic weights; 0 where it is not defined."""
    import numpy as np

    counts = np.asarray(confusion_matrix, float)
    ranks = np.arange(len(counts))
    cost = np.subtract.outer(ranks, ranks) ** 2
    by_chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    expected = (cost * by_chance).sum()
    return float(1 - (cost * counts).sum() / expected) if expected else 0.0
