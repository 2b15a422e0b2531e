"""The head of a masked language model: which token of the vocabulary stands in each place.

A dense layer, its activation and a norm; the matrix of the token embeddings, and a bias. KerasHub
has the same head, with the exact form of GELU and a norm of its own in every family; here it is
that of transformers, so that what is trained there or exported gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import keras_hub
import numpy as np
from keras import ops

from kerasllm.errors import PresetError
from kerasllm.models.token_head import TOKENS

_STDDEV = 0.02


class _Form(NamedTuple):
    """What differs between families.

    Attributes:
        approximate: Whether GELU is computed by its tanh form, as KerasHub's encoder does.
        epsilon: Of the norm.
    """

    approximate: bool
    epsilon: float


_FORMS = {
    "BertBackbone": _Form(True, 1e-12),
    "DistilBertBackbone": _Form(False, 1e-12),
    "RobertaBackbone": _Form(False, 1e-5),
    "XLMRobertaBackbone": _Form(False, 1e-5),
    "AlbertBackbone": _Form(True, 1e-12),
}
# Where KerasHub's own head has each weight, after its name.
_IN_KERAS_HUB = {
    "kernel": "intermediate_dense/kernel",
    "dense_bias": "intermediate_dense/bias",
    "gamma": "intermediate_layer_norm/gamma",
    "beta": "intermediate_layer_norm/beta",
    "bias": "output_bias",
}


@keras.saving.register_keras_serializable(package="kerasllm")
class VocabularyBias(keras.layers.Layer):
    """Adds a bias to the logits of the vocabulary."""

    def build(self, shape):
        self.bias = self.add_weight(name="bias", shape=(shape[-1],), initializer="zeros")
        self.built = True

    def call(self, logits):
        return logits + ops.cast(self.bias, logits.dtype)


@keras.saving.register_keras_serializable(package="kerasllm")
class VocabularyHead(keras_hub.models.Task):
    """An encoder with logits of the vocabulary for every token.

    The matrix of the logits is that of the token embeddings. `hidden` and `logits` compute them of
    some tokens alone, such as those that are hidden.

    Args:
        backbone: A KerasHub encoder: BERT, DistilBERT, RoBERTa, XLM-RoBERTa or ALBERT.
        preprocessor: A KerasHub preprocessor for text classification. Defaults to `None`.
        **kwargs: See `keras_hub.models.Task`.

    Raises:
        PresetError: The backbone is of another family.

    Example:

    ```python
    task = VocabularyHead(backbone, preprocessor)
    ```
    """

    pooling = TOKENS

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        preprocessor: keras_hub.models.TextClassifierPreprocessor | None = None,
        **kwargs,
    ):
        form = _FORMS.get(type(backbone).__name__)
        if form is None:
            known = ", ".join(name.removesuffix("Backbone") for name in _FORMS)
            raise PresetError(
                f"{type(backbone).__name__} is not supported for masked language modeling",
                fix=f"use a model of one of these families: {known}",
            )
        self.backbone = backbone
        self.preprocessor = preprocessor
        policy, embedding = backbone.dtype_policy, backbone.token_embedding
        self.dense = keras.layers.Dense(
            embedding.output_dim,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=_STDDEV),
            dtype=policy,
            name="vocabulary_dense",
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=form.epsilon, dtype=policy, name="vocabulary_norm"
        )
        self.bias = VocabularyBias(dtype=policy, name="vocabulary_bias")
        self.approximate = form.approximate
        states = states_of(backbone(backbone.input))
        super().__init__(inputs=backbone.input, outputs=self.logits(self.hidden(states)), **kwargs)

    def hidden(self, states):
        """Returns what is compared with the embeddings, `[..., width]`, of states of tokens."""
        return self.norm(ops.gelu(self.dense(states), approximate=self.approximate))

    def logits(self, hidden):
        """Returns the logits of the vocabulary, `[..., vocabulary]`, of what `hidden` gives."""
        return self.bias(self.backbone.token_embedding(hidden, reverse=True))

    @property
    def vocabulary_weights(self) -> list[keras.Variable]:
        """The weights that `logits` computes with."""
        return [self.backbone.token_embedding.embeddings, self.bias.bias]

    def head_weights(self) -> dict[str, keras.Variable]:
        """Returns the weights of the head by name, without the embeddings."""
        return {
            "kernel": self.dense.kernel,
            "dense_bias": self.dense.bias,
            "gamma": self.norm.gamma,
            "beta": self.norm.beta,
            "bias": self.bias.bias,
        }

    def assign_head(self, weights: Mapping[str, np.ndarray]) -> None:
        """Gives the head its weights, by the names of `head_weights`.

        Raises:
            PresetError: One is missing or of another shape.
        """
        for name, variable in self.head_weights().items():
            found = None if name not in weights else tuple(weights[name].shape)
            if found != tuple(variable.shape):
                raise PresetError(
                    f"{name} of the masked-LM head has the shape {found}, where the encoder needs "
                    f"{tuple(variable.shape)}",
                    fix="copy all files from the same model",
                )
            variable.assign(weights[name])

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Writes the folder of a KerasHub masked language model, which `keras_hub` loads alone.

        Args:
            preset_dir: The folder; is made.
            max_shard_size: See `keras_hub.models.Task`. Defaults to `10`.
        """
        kind = masked_lm_class(self.backbone)
        preprocessor = kind.preprocessor_cls(
            self.preprocessor.tokenizer, sequence_length=self.preprocessor.sequence_length
        )
        task = kind(backbone=self.backbone, preprocessor=preprocessor)
        own = self.head_weights()
        for name, variable in _of_keras_hub(task).items():
            variable.assign(own[name])
        task.save_to_preset(str(preset_dir), max_shard_size=max_shard_size)


class TokenStates(keras.Model):
    """The states of all tokens of an encoder, as a task without a head.

    Args:
        backbone: A KerasHub encoder.
    """

    pooling = TOKENS

    def __init__(self, backbone: keras_hub.models.Backbone):
        super().__init__(backbone.input, states_of(backbone(backbone.input)))
        self.backbone = backbone


def states_of(outputs: Any):
    """Returns the states of all tokens, of what a backbone gives."""
    return outputs["sequence_output"] if isinstance(outputs, Mapping) else outputs


def masked_lm_class(backbone: keras_hub.models.Backbone) -> type[keras_hub.models.MaskedLM]:
    """Returns KerasHub's class of masked language models on an encoder."""
    name = type(backbone).__name__.replace("Backbone", "MaskedLM")
    return getattr(keras_hub.models, name)


def head_of(task: keras_hub.models.MaskedLM) -> dict[str, np.ndarray]:
    """Returns the weights of the head of KerasHub's, by the names of `VocabularyHead`."""
    return {name: ops.convert_to_numpy(one) for name, one in _of_keras_hub(task).items()}


def _of_keras_hub(task: keras_hub.models.MaskedLM) -> dict[str, keras.Variable]:
    weights: Sequence[keras.Variable] = task.masked_lm_head.weights
    return {
        name: next(one for one in weights if one.path.endswith(ending))
        for name, ending in _IN_KERAS_HUB.items()
    }
