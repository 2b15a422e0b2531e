"""A causal language model for preference tuning (DPO)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kerasllm.models.causal_lm import SCORING_INPUTS, CausalLM
from kerasllm.training.chunked_loss import chunked_loss, chunked_scores
from kerasllm.training.preference_loss import REWARDS, PreferenceLoss, RewardMean


class PreferenceLM(CausalLM):
    """A `CausalLM` that trains on pairs of answers, by `PreferenceLoss`.

    Trains on `(x, y, sample_weight)` of pairs: `x` holds `token_ids`, `targets` and `counted`, each
    int32 `[pairs, 2, length]`, of the chosen and the rejected answer; `y` the log-probabilities
    that the reference gives both, float32 `[pairs, 2]`. See `kerasllm.data.pairs.Pairs`.

    Args:
        model: The model to tune; both have the same weights from then on.
    """

    def __init__(self, model: CausalLM):
        super().__init__(
            model.task,
            model.tokenizer,
            chat_template=model.chat_template,
            rematerialize=model.rematerialize,
            loss_tokens=model.loss_tokens,
            longest=model.max_length,
        )
        self.conversational = model.conversational
        self.adapters = model.adapters

    @property
    def input_names(self) -> tuple[str, ...]:
        return (*super().input_names, *SCORING_INPUTS)

    def default_loss(self) -> PreferenceLoss:
        """Returns the loss of DPO."""
        return PreferenceLoss()

    def find_metrics(self, metrics: Any) -> Any:
        return metrics

    def default_metrics(self, loss: PreferenceLoss) -> list[keras.metrics.Metric]:
        """Returns the means of the rewards."""
        return [RewardMean(name, loss.beta) for name in REWARDS]

    def loss_and_outputs(self, x, y, share, training: bool = True):
        """Returns the loss, and the log-probabilities of the answers, float32 `[pairs, 2]`."""
        answers = {name: _answers_in_rows(values) for name, values in x.items()}
        hidden = self._hidden(answers, training)
        targets, counted = answers["targets"], ops.cast(answers["counted"], "float32")
        pieces = {"head": self._logits, "tokens": self.loss_tokens}
        if keras.config.backend() == "jax":
            # Its scores have a gradient, which makes the logits of each piece again.
            each, _ = chunked_scores(hidden, targets, **pieces)
            log_probabilities = ops.reshape(-ops.sum(each * counted, axis=-1), (-1, 2))
            loss = self.item_loss(y, log_probabilities, sample_weight=share)
            return loss, ops.stop_gradient(log_probabilities)
        each, _ = chunked_scores(tf.stop_gradient(hidden), targets, **pieces)
        sums = tf.stop_gradient(-tf.reduce_sum(each * counted, axis=-1))
        log_probabilities = tf.reshape(sums, [-1, 2])
        with tf.GradientTape() as tape:
            tape.watch(log_probabilities)
            loss = self.item_loss(y, log_probabilities, sample_weight=share)
        if not training:
            return loss, log_probabilities
        # What an answer counts for is known when the last of its tokens is. With that the gradient
        # is that of a cross-entropy, whose pieces need not be kept.
        of_answers = tf.reshape(tape.gradient(loss, log_probabilities), [-1, 1])
        surrogate, _ = chunked_loss(
            hidden,
            targets,
            -of_answers * counted,
            loss=_CROSSENTROPY,
            variables=self.backbone.token_embedding.trainable_variables,
            **pieces,
        )
        return tf.stop_gradient(loss - surrogate) + surrogate, log_probabilities


_CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")


def _answers_in_rows(values):
    """Makes `[2 * pairs, length]` of `[pairs, 2, length]`."""
    return ops.reshape(values, (-1, ops.shape(values)[-1]))
