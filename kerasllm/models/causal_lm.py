"""A causal language model that trains with `fit`, scores text, and is saved with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import keras_hub
import tensorflow as tf

from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.models.decoder_forward import can_be_walked, hidden_states, logits
from kerasllm.models.save_preset import save_causal_lm
from kerasllm.training.chunked_loss import chunked_loss, chunked_scores, tokens_at_once
from kerasllm.training.fit import FineTunedModel

SCORING_INPUTS = ("targets", "counted")
"""What `predict` takes beside the inputs, to score a text: see `CausalLM.predict_step`."""


class TokenAccuracy(keras.metrics.Mean):
    """The share of target tokens that were the most likely."""

    def update_state(self, y_true, correct, sample_weight=None):
        """Counts `correct`, float `[rows, length]`, each item by its weight."""
        return super().update_state(correct, sample_weight=sample_weight)


class CausalLM(FineTunedModel):
    """A KerasHub causal language model with its tokenizer and its chat template.

    Trains on `(x, y, sample_weight)`, each `[rows, length]`: `x` holds `token_ids` and, for texts
    packed into a row, `segment_ids`; `y` the next token of each. The logits of all tokens are never
    in memory at once: the loss is computed in pieces.

    Args:
        task: A KerasHub `CausalLM`.
        tokenizer: Its tokenizer.
        chat_template: How conversations are written. Defaults to `None`: it has none.
        rematerialize: Whether the backward pass computes each layer again, to use less memory.
            Defaults to `False`.
        loss_tokens: How many tokens' logits are in memory at once. Defaults to `None`: about
            128 MB of them.
        longest: The most tokens that it reads. Defaults to `None`: as many as its backbone says.

    Attributes:
        chat_template: As given; may be set.
        conversational: Whether it was tuned on conversations, so that a prompt is what a user says;
            may be set, and is saved with the model.
        rematerialize: As given; may be set before `compile`.
        loss_tokens: As given; may be set before `compile`.
        packs: Whether rows hold several texts, which then do not see each other; may be set before
            `compile` where `can_pack`.
        pad_to: A length that every batch has, or `None`: any length gives the same result, as no
            token sees what comes after it; may be set.
        adapters: The adapters attached to it, or `None`.
    """

    def __init__(
        self,
        task: keras_hub.models.CausalLM,
        tokenizer: TokenizerJson,
        *,
        chat_template: ChatTemplate | None = None,
        rematerialize: bool = False,
        loss_tokens: int | None = None,
        longest: int | None = None,
    ):
        super().__init__(task)
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self.conversational = False
        self.rematerialize = rematerialize
        self.loss_tokens = loss_tokens or tokens_at_once(self.backbone.vocabulary_size)
        self.packs = False
        self.pad_to = None
        self.adapters = None
        self._longest = longest

    @property
    def backbone(self) -> keras_hub.models.Backbone:
        """The layers below the head."""
        return self.task.backbone

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of a training step."""
        return ("token_ids", "segment_ids") if self.packs else ("token_ids",)

    @property
    def can_pack(self) -> bool:
        """Whether texts in one row can be kept from seeing each other."""
        return can_be_walked(self.backbone)

    @property
    def max_length(self) -> int | None:
        """The most tokens that it reads; `None` where nothing says."""
        return self._longest or getattr(self.backbone, "max_sequence_length", None)

    def call(self, inputs, training=None):
        """Returns the logits, float32 `[rows, length, vocabulary]`."""
        return logits(self.backbone, self._hidden(inputs, training))

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        loss: keras.losses.Loss | None = None,
        metrics: Sequence[keras.metrics.Metric] | None = None,
        **kwargs,
    ):
        """Sets how the model is trained; see `FineTunedModel.compile`.

        Args:
            optimizer: A Keras optimizer.
            loss: A Keras loss on logits. Defaults to `None`: the cross-entropy of the next token.
            metrics: Keras metrics of whether each target was the most likely token. Defaults
                to `None`: their mean, `accuracy`.
            **kwargs: See `FineTunedModel.compile`.
        """
        if metrics is None:
            with self.distribute_strategy.scope():
                metrics = [TokenAccuracy(name="accuracy")]
        super().compile(optimizer, loss, metrics, **kwargs)

    def loss_and_outputs(self, x, y, share, training: bool = True):
        """Returns the loss, and whether each target was the most likely, `[rows, length]`."""
        return chunked_loss(
            self._hidden(x, training),
            y,
            share,
            head=self._logits,
            loss=self.item_loss,
            variables=self.backbone.token_embedding.trainable_variables if training else (),
            tokens=self.loss_tokens,
        )

    def predict_step(self, data):
        """Scores texts.

        Args:
            data: The inputs, and `targets` and `counted`, each int32 `[rows, length]`; see
                `kerasllm.data.sequences.scoring_inputs`.

        Returns:
            float32 `[rows, 3]`: the negative log-likelihood, in nats, of the targets that count,
            how many they are, and how many of them were the most likely token.
        """
        each, correct = chunked_scores(
            self._hidden(data, training=False),
            data["targets"],
            head=self._logits,
            tokens=self.loss_tokens,
        )
        counted = tf.cast(data["counted"], tf.float32)
        sums = [tf.reduce_sum(values * counted, -1) for values in (each, tf.ones_like(each), correct)]
        return tf.stack(sums, axis=-1)

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes a KerasHub preset folder, which `keras_hub` loads alone, with the tokenizer and
        the chat template; adapters are merged into the weights."""
        save_causal_lm(self, Path(folder))

    def _logits(self, hidden):
        return logits(self.backbone, hidden)

    def _hidden(self, inputs, training):
        return hidden_states(
            self.backbone,
            inputs["token_ids"],
            inputs.get("segment_ids"),
            training=bool(training),
            rematerialize=self.rematerialize and bool(training),
        )
