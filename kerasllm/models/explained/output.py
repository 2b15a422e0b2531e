"""An output to explain, computed by a Keras model from its tokens."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasllm.data.rows import Tokens
from kerasllm.data.token_offsets import TokenOffsets
from kerasllm.errors import CommandError

# Of known names, in a message.
_NAMES_SHOWN = 12


@dataclass(frozen=True, eq=False)
class ExplainedOutput:
    """A number that a model computes of a row, which is explained by the words of its texts.

    Attributes:
        tokens: The row.
        graph: What computes it: a functional Keras model on token ids, a KerasHub task or backbone.
        value: Takes what `graph` computes of rows like this one, and returns the number of each,
            `[rows]`; of Keras operations, as gradients are taken through it.
        target: What the number is of, in a word or two: a label, `"score"`.
        described: The number in words: `"the logit of positive"`.
        predicted: What the model predicts of the row, in words: `"positive (0.98)"`.
        names: The names of the texts. Defaults to `("text",)`.
        group: What outputs of several rows have in common, such as a label, by which a global view
            groups them. Defaults to `None`: nothing.
        remarks: Sentences on what was left out. Defaults to none.
    """

    tokens: TokenOffsets
    graph: keras.Model
    value: Callable[[Any], Any]
    target: str
    described: str
    predicted: str
    names: tuple[str, ...] = ("text",)
    group: str | None = None
    remarks: Sequence[str] = ()


def graph_inputs(graph: keras.Model, tokens: TokenOffsets, rows: int = 1) -> dict[str, Any]:
    """Returns the inputs of a model for a row, as often as asked, int32 `[rows, tokens]` each."""
    found = {
        "token_ids": tokens.ids,
        "padding_mask": np.ones(len(tokens), np.int32),
        "segment_ids": tokens.segments,
    }
    return {
        name: keras.ops.convert_to_tensor(np.tile(found[name], (rows, 1))) for name in graph.input
    }


def outputs_of(graph: keras.Model, tokens: TokenOffsets) -> Any:
    """Returns what a model computes of a row; the first axis has one entry."""
    return graph(graph_inputs(graph, tokens), training=False)


def all_outputs(graph: keras.Model, tokens: Tokens) -> np.ndarray:
    """Returns what a model computes of all tokens of some rows, `[tokens, outputs]`, in order.

    Without tracing anything, which would take longer than a few rows do.
    """
    found = []
    for row, length in enumerate(tokens.lengths):
        inputs = _row(graph.input, tokens, row, int(length))
        found.append(keras.ops.convert_to_numpy(graph(inputs, training=False))[0])
    return np.concatenate(found)


def _row(names: Iterable[str], tokens: Tokens, row: int, length: int) -> Mapping[str, np.ndarray]:
    from kerasllm.data.rows import model_inputs

    return model_inputs(tokens, np.array([row]), length, list(names), 0)


def unknown_target(target: str, known: Sequence[str], noun: str = "label") -> CommandError:
    """Returns the error for a target that there is not, with the nearest one that there is.

    Args:
        target: What was asked for.
        known: All that there are.
        noun: What they are. Defaults to `"label"`.
    """
    near = difflib.get_close_matches(target, known, n=1)
    lowered = {name.casefold(): name for name in known}
    nearest = lowered.get(target.casefold()) or (near[0] if near else None)
    shown = ", ".join(known[:_NAMES_SHOWN])
    more = f" and {len(known) - _NAMES_SHOWN} more" if len(known) > _NAMES_SHOWN else ""
    return CommandError(
        f"The model has no {noun} {target!r}. It has: {shown}{more}",
        where="--target",
        fix=f"did you mean {nearest}?" if nearest else f"give one of its {noun}s",
    )
