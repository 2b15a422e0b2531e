"""A model as one TensorFlow function on token ids, from which other engines' files are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.length_batches import in_length_batches
from kerasllm.export.token_rows import TokenRows
from kerasllm.models.decoder_forward import hidden_states, logits

if TYPE_CHECKING:
    from kerasllm.export.source import Source

# The logits of all of a language model's tokens come back.
_ROWS_AT_ONCE, _ROWS_OF_A_DECODER = 32, 4


@dataclass(frozen=True)
class TokenGraph:
    """A function on token ids.

    Args:
        call: Takes int32 `[batch, length]` tensors in the order of `specs`, any number of rows, of
            any length up to the model's. Returns the numeric outputs of the model's head, and what
            they are made of, `logits`: float32 `[batch, outputs]`, or `[batch, length, outputs]` of
            a language model and of a head on every token.
        specs: The inputs: `token_ids`, and of an encoder those that it has of `padding_mask` (1 for
            a token, 0 for padding) and `segment_ids`.
        weights: The variables that it reads.
    """

    call: Callable[..., dict[str, tf.Tensor]]
    specs: list[tf.TensorSpec]
    weights: list[keras.Variable]


def token_graph(source: Source) -> TokenGraph:
    """Makes the function of a model."""
    forward = forward_pass(source)

    def call(*ids):
        raw = forward(dict(zip(source.input_names, ids, strict=True)))
        outputs = source.head.outputs(raw)
        numeric = {name: one for name, one in outputs.items() if one.dtype != tf.string}
        return {**numeric, "logits": raw}

    # Open, but for families whose results depend on the padding.
    shape = [None, source.model.pad_to]
    return TokenGraph(
        call,
        [tf.TensorSpec(shape, tf.int32, name=name) for name in source.input_names],
        # Not the states of random numbers, which dropout would draw from.
        [one for one in source.model.task.variables if not one.dtype.startswith("uint")],
    )


def forward_pass(source: Source) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """Returns the function from a model's inputs to what its head's outputs are made of."""
    if source.generates:
        backbone = source.model.backbone
        return lambda inputs: logits(backbone, hidden_states(backbone, inputs["token_ids"]))
    return encoder_pass(source.model.task)


def encoder_pass(task: keras.Model) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """Returns the function from an encoder's inputs to what its head's outputs are made of."""
    names = list(task.input)

    def forward(inputs):
        found = task({name: inputs[name] for name in names}, training=False)
        return tf.cast(found, tf.float32)

    return forward


def run_pass(
    source: Source,
    tokens: TokenRows,
    forward: Callable[[Mapping[str, tf.Tensor]], tf.Tensor],
) -> np.ndarray:
    """Runs a forward pass and the source's head on rows of ids; see `Format.predict`.

    Args:
        source: What was exported.
        tokens: The rows.
        forward: From the model's inputs to what its head's outputs are made of.
    """
    spec = tf.TensorSpec([None, source.model.pad_to], tf.int32)
    outputs = tf.function(
        lambda inputs: source.head.outputs(forward(inputs)),
        input_signature=[dict.fromkeys(source.input_names, spec)],
        autograph=False,
    )
    return run_in_batches(source, tokens, outputs)


def run_in_batches(
    source: Source,
    tokens: TokenRows,
    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
) -> np.ndarray:
    """Runs an engine on rows of ids, in batches of similar length; see `Format.predict`.

    Args:
        source: What was exported.
        tokens: The rows.
        run: Maps the model's inputs by name, int32 `[batch, length]`, to outputs by name.
    """
    lengths = tokens.lengths
    found: list = [None] * len(lengths)
    at_once = _ROWS_OF_A_DECODER if source.generates else _ROWS_AT_ONCE
    for rows in in_length_batches(lengths, at_once):
        inputs = tokens.inputs(rows, source.model.pad_to)
        outputs = run({name: inputs[name] for name in source.input_names})
        compared = np.asarray(outputs[source.head.compared])
        for row, one in zip(rows, source.compared_in(compared, lengths[rows]), strict=True):
            found[row] = one
    return np.concatenate(found)
