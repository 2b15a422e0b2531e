"""The attention that the tokens of a text receive, for inspection; not an explanation.

Attention weights say where a layer reads from, not what moves the output: other weights may give
the same output.

Reference:
    S. Jain, B. Wallace, "Attention is not Explanation", 2019, https://arxiv.org/abs/1902.10186.
"""

from __future__ import annotations

from typing import Any

import keras
import keras_hub
import numpy as np

from kerasllm.errors import CommandError
from kerasllm.explain.explanation import Explanation, Word
from kerasllm.explain.words import NO_WORD, words_of, words_of_tokens
from kerasllm.models.explained.output import ExplainedOutput, graph_inputs
from kerasllm.models.layers import parts_of

_REMARK = (
    "attention shows where layers attend, not what the output depends on; use integrated gradients "
    "for that"
)


def attention_of(output: ExplainedOutput) -> Explanation:
    """Returns how much attention each word receives, beside the maps of all layers.

    The score of a word is the share of attention that its tokens receive: the mean over layers,
    heads and the tokens that attend.

    Args:
        output: What would be explained; its row is read.

    Raises:
        CommandError: If the layers of this family do not expose their attention scores.
    """
    tokens = output.tokens
    maps = attention_maps(output)
    words = [words_of(text) for text in tokens.texts]
    of_tokens = words_of_tokens(tokens, words)
    received = maps.mean(axis=(0, 1))
    found, number = [], 0
    for text, places in enumerate(words):
        for start, end in places:
            mine = of_tokens == number
            score = float(received[mine].sum()) if mine.any() else None
            found.append(Word(text, start, end, tokens.texts[text][start:end], score))
            number += 1
    value = output.value(output.graph(graph_inputs(output.graph, tokens), training=False))
    return Explanation(
        texts=tokens.texts,
        names=output.names,
        method="attention",
        target=output.target,
        output=output.described,
        predicted=output.predicted,
        words=tuple(found),
        value=float(keras.ops.convert_to_numpy(value)[0]),
        baseline=None,
        baseline_value=None,
        other=float(received[of_tokens == NO_WORD].sum()),
        group=output.group,
        remarks=(*output.remarks, _REMARK),
        attention=maps.round(6).tolist(),
        tokens=tuple(_named(output, token) for token in range(len(tokens))),
    )


def attention_maps(output: ExplainedOutput) -> np.ndarray:
    """Returns the mean attention over the heads of each layer, `[layers, tokens, tokens]`.

    Each row, the attention of a token, sums to 1.
    """
    graph = output.graph
    backbone = getattr(graph, "backbone", graph)
    layers: list[Any] = []
    if backbone is not graph:
        layers = [layer for block in parts_of(graph).blocks for layer in block]
    kind = keras_hub.layers.TransformerEncoder
    if not layers or not all(isinstance(layer, kind) for layer in layers):
        raise CommandError(
            f"The layers of a {type(backbone).__name__} do not expose their attention scores",
            where="--method attention",
            fix="use it with a BERT, RoBERTa, ALBERT or the like; or leave --method out",
        )
    given = graph_inputs(backbone, output.tokens)
    # Only when it computes tensors, and not in a graph, does a layer of KerasHub return two.
    states = keras.Model(backbone.input, keras.tree.flatten(layers[0].input)[0])(given)
    maps = []
    for layer in layers:
        states, scores = layer(
            states, padding_mask=given["padding_mask"], return_attention_scores=True
        )
        maps.append(keras.ops.convert_to_numpy(scores)[0].mean(axis=0))
    return np.stack(maps)


def _named(output: ExplainedOutput, token: int) -> str:
    tokens = output.tokens
    start, end = tokens.spans[token]
    owner = int(tokens.owners[token])
    return tokens.texts[owner][start:end] if owner >= 0 else f"<{tokens.ids[token]}>"
