"""A model as one TensorFlow function on token ids, from which other engines' files are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kerasllm.export.source import Source
from kerasllm.models.decoder_forward import hidden_states, logits

_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class TokenGraph:
    """A function on token ids.

    Args:
        call: Takes int32 `[batch, length]` tensors in the order of `specs`, any number of rows, of
            any length up to the model's. Returns `probabilities` and `logits`, float32 `[batch,
            classes]`, of a classifier; of a language model `logits`, `[batch, length, vocabulary]`.
        specs: The inputs: `token_ids`, and for a classifier `padding_mask` (1 for a token, 0 for
            what fills a row up) and, for some families, `segment_ids` (0 for one text).
        weights: The variables that it reads.
    """

    call: Callable[..., dict[str, tf.Tensor]]
    specs: list[tf.TensorSpec]
    weights: list[keras.Variable]


def token_graph(source: Source) -> TokenGraph:
    """Makes the function of a model."""
    task = source.model.task
    names = list(task.input) if source.is_classifier else ["token_ids"]
    # Open, but for families whose results depend on how far rows are filled up.
    length = source.model.pad_to

    def call(*ids):
        if source.is_classifier:
            values = task(dict(zip(names, ids, strict=True)), training=False)
            values = tf.cast(values, tf.float32)
            return {"probabilities": tf.nn.softmax(values), "logits": values}
        backbone = source.model.backbone
        return {"logits": logits(backbone, hidden_states(backbone, ids[0]))}

    return TokenGraph(
        call,
        [tf.TensorSpec([None, length], tf.int32, name=name) for name in names],
        # Not the states of random numbers, which dropout would draw from.
        [variable for variable in task.variables if not variable.dtype.startswith("uint")],
    )


def run_in_batches(
    source: Source,
    ids: list[np.ndarray],
    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    names: list[str],
) -> np.ndarray:
    """Runs an engine on rows of ids; see `Format.predict`.

    Args:
        source: What was exported.
        ids: The rows.
        run: Maps inputs by name, int32 `[batch, length]`, to outputs by name.
        names: The inputs that it takes.
    """
    parts, order = [], []
    for rows, inputs in _batches(source, ids):
        outputs = run({name: inputs[name] for name in names})
        order.append(rows)
        if source.is_classifier:
            parts.append(np.asarray(outputs["probabilities"]))
        else:
            last = inputs["padding_mask"].sum(axis=1) - 1
            parts.append(np.asarray(outputs["logits"])[np.arange(len(rows)), last])
    found = np.concatenate(parts)
    found[np.concatenate(order)] = found.copy()
    return found


def _batches(
    source: Source, ids: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields the numbers of rows of like length, and their inputs."""
    lengths = np.array([len(row) for row in ids])
    # The logits of all of a language model's tokens come back.
    step = _ROWS_AT_ONCE if source.is_classifier else 4
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        width = source.model.pad_to or int(lengths[rows].max())
        tokens = np.full((len(rows), width), source.model.tokenizer.pad_token_id, np.int32)
        mask = np.zeros_like(tokens)
        for place, row in enumerate(rows):
            tokens[place, : lengths[row]] = ids[row]
            mask[place, : lengths[row]] = 1
        yield rows, {
            "token_ids": tokens,
            "padding_mask": mask,
            "segment_ids": np.zeros_like(tokens),
        }
