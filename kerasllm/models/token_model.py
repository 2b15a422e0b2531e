"""A model with outputs for every token of a text: what all of its kinds have in common."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import keras
import keras_hub
import tensorflow as tf

from kerasllm.data.dataset import Dataset
from kerasllm.data.rows import Rows
from kerasllm.data.tokenizers import Tokenizer, from_keras_hub
from kerasllm.models.accelerated.fused_encoder import FusedEncoder, can_fuse
from kerasllm.models.accelerated.packed_encoder import PackedEncoder, can_pack
from kerasllm.models.adapters.low_rank import is_frozen
from kerasllm.models.layers import walk
from kerasllm.models.text_model import TextModel, check_inputs
from kerasllm.models.token_head import TokenHead
from kerasllm.training.precision import only_cpus


class TokenModel(TextModel):
    """An encoder with a head on every token, and its tokenizer.

    It is trained and measured as a run.

    Args:
        task: The encoder with its head, and its preprocessor.
        tokenizer: The tokenizer of the preset. Defaults to `None`: it is made of the task's.
    """

    learning_rate = 1e-4
    prediction_batch = 64

    def __init__(self, task: TokenHead, tokenizer: Tokenizer | None = None, **kwargs):
        super().__init__(task, **kwargs)
        self._tokenizer = tokenizer
        self._packed = None

    @property
    def preprocessor(self) -> keras_hub.models.TextClassifierPreprocessor:
        """KerasHub's preprocessor: makes token ids of texts, padded to `max_length`."""
        return self.task.preprocessor

    @property
    def backbone(self) -> keras_hub.models.Backbone:
        """The encoder below the head."""
        return self.task.backbone

    @property
    def max_length(self) -> int:
        """The maximum number of tokens of a window, special tokens included."""
        return self.task.preprocessor.sequence_length

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the preset, which gives the reference's ids in bulk."""
        return self._tokenizer or from_keras_hub(self.task.preprocessor.tokenizer)

    @property
    def pad_to(self) -> None:
        """`None`: batches may have any length."""
        return None

    @property
    def packed(self) -> tf.types.experimental.PolymorphicFunction | None:
        """The padding-free forward pass, or `None` where the model has none.

        It takes the inputs, each int32 `[rows, length]`, and the rows' lengths, int32 `[rows]`, and
        returns the outputs of all real tokens.
        """
        if self.distribute_strategy.num_replicas_in_sync > 1 or not only_cpus():
            return None
        if not can_pack(self.task):
            return None
        weights, known = self.task.weights, self._packed and self._packed[0]
        # Quantizing it gives it others.
        if not known or len(known) != len(weights) or not all(map(operator.is_, weights, known)):
            ids = tf.TensorSpec([None, None], tf.int32)
            signature = [dict.fromkeys(self.task.input, ids), tf.TensorSpec([None], tf.int32)]
            function = tf.function(
                PackedEncoder(self.task), input_signature=signature, autograph=False
            )
            self._packed = (list(weights), function)
        return self._packed[1]

    @cached_property
    def forward(self) -> tf.types.experimental.PolymorphicFunction:
        """The forward pass, traced once for all shapes: inputs to `[rows, length, outputs]`."""
        spec = tf.TensorSpec([None, None], tf.int32)
        return tf.function(
            lambda inputs: self(inputs, training=False),
            input_signature=[dict.fromkeys(self.input_names, spec)],
            autograph=False,
        )

    def fuse(self) -> FusedEncoder | None:
        """Returns what computes the outputs in training on a CPU; `None` for other families."""
        return FusedEncoder(self.task) if can_fuse(self.task) else None

    def call(self, inputs, training=None):
        return super().call(self.prepare_inputs(inputs), training=training)

    def prepare_inputs(self, x):
        """Returns inputs as numbers: a mask may be given as bool, as KerasHub makes it."""
        check_inputs(x, self.input_names)
        return {name: keras.ops.cast(each, "int32") for name, each in x.items()}

    @property
    def has_adapters(self) -> bool:
        return any(map(is_frozen, walk([self.task])))

    def encode(self, dataset: Dataset, *, train: bool = False) -> Rows:
        raise ValueError(
            "This model is trained and evaluated as a run: use `kerasllm.finetune(...)` and "
            "`kerasllm.evaluate(...)`."
        )

    def predict_texts(self, texts: Sequence[Any], callbacks: keras.callbacks.CallbackList):
        raise ValueError(
            "The outputs of texts differ in length: use `kerasllm.load(RUN).predict(...)`."
        )

    def dataset_of(self, x: Any, y: Any = None, sample_weight: Any = None) -> Dataset:
        return self.encode(None)

    def get_config(self):
        raise NotImplementedError(
            "This model cannot be saved as a `.keras` file: use `save_to_preset(folder)`."
        )
