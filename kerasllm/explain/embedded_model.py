"""A model from its embeddings on, as a function of vectors instead of tokens.

Integrated gradients go from the vectors of a baseline to those of a text, through vectors that are
of no token. So a Keras model is cut after its token embedding, and computed from there: Keras makes
a model of any tensors of a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from kerasllm.errors import PresetError
from kerasllm.models.accelerated.embedded_encoder import EmbeddedEncoder, can_embed


class EmbeddedModel:
    """A functional KerasHub model that is computed from the vectors of its tokens on.

    Args:
        graph: A backbone, or a task with a `backbone`; it shares the weights.

    Raises:
        PresetError: If it has no token embedding to be cut at.

    Example:

    ```python
    embedded = EmbeddedModel(model.task)
    logits = embedded(embedded.vectors(token_ids), inputs)
    ```
    """

    def __init__(self, graph: keras.Model):
        backbone = getattr(graph, "backbone", graph)
        self._embedding = _embedding_of(backbone)
        self._encoder = EmbeddedEncoder(graph, self._embedding) if can_embed(graph) else None
        self._names = tuple(backbone.input)
        # As lists: Keras wants the keys of a dictionary to be the names of tensors.
        inputs = [*backbone.input.values(), self._embedding.output]
        self._backbone = keras.Model(inputs, backbone.output)
        self._head = None if graph is backbone else _head_of(graph, backbone)

    def vectors(self, token_ids: Any) -> Any:
        """Returns the vectors of tokens, `[rows, tokens, width]`, before any norm or dropout.

        Of a family that adds positions in the same layer, with these.
        """
        return self._embedding(token_ids, training=False)

    def __call__(self, vectors: Any, inputs: Mapping[str, Any]) -> Any:
        """Returns what the model computes.

        Args:
            vectors: `[rows, tokens, width]`.
            inputs: The inputs of the graph for as many rows. Its token ids are not embedded.
        """
        if self._encoder is not None:
            return self._encoder(vectors, inputs)
        given = [inputs[name] for name in self._names]
        states = self._backbone([*given, vectors], training=False)
        if self._head is None:
            return states
        return self._head([*given, *keras.tree.flatten(states)], training=False)


def _embedding_of(backbone: keras.Model) -> keras.Layer:
    """Returns the layer that makes vectors of tokens, alone or with their positions."""
    tokens = getattr(backbone, "token_embedding", None)
    for layer in backbone.layers:
        if tokens is not None and tokens in (layer, getattr(layer, "token_embedding", None)):
            return layer
    raise PresetError(
        f"A {type(backbone).__name__} has no token embedding layer to start explanations from",
        fix="explain a model with a BERT, RoBERTa, GPT-2 or Llama backbone or the like",
    )


def _head_of(task: keras.Model, backbone: keras.Model) -> keras.Model:
    """Returns what a task computes of the outputs of its backbone."""
    found = []

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if layer is backbone:
            found.append(outputs)
        return outputs

    # The same layers again, on new symbolic tensors, to see those that the backbone gives.
    copy = keras.models.clone_model(task, clone_function=lambda layer: layer, call_function=call)
    inputs = [copy.input[name] for name in backbone.input]
    return keras.Model([*inputs, *keras.tree.flatten(found[0])], copy.output)
