"""A model as one TensorFlow function on token ids, from which other engines' files are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kerasllm.export.source import Source
from kerasllm.models.decoder_forward import hidden_states, logits

_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class TokenGraph:
    """A function on token ids.

    Args:
        function: Takes int32 `[batch, length]` tensors in the order of `specs`, any number of
            rows, of any length up to the model's. Returns `probabilities` and `logits`, float32
            `[batch, classes]`, of a classifier; of a language model `logits`, `[batch, length,
            vocabulary]`.
        specs: The inputs: `token_ids`, and for a classifier `padding_mask` (1 for a token, 0 for
            what fills a row up) and, for some families, `segment_ids` (0 for one text).
        module: What holds the weights.
    """

    function: tf.types.experimental.PolymorphicFunction
    specs: list[tf.TensorSpec]
    module: tf.Module


def token_graph(source: Source) -> TokenGraph:
    """Makes the function of a model."""
    length = source.model.pad_to
    names = list(source.model.task.input) if source.is_classifier else ["token_ids"]
    specs = [tf.TensorSpec([None, length], tf.int32, name=name) for name in names]

    @tf.function(input_signature=specs)
    def serve(*ids):
        if source.is_classifier:
            values = source.model.task(dict(zip(names, ids)), training=False)
            values = tf.cast(values, tf.float32)
            return {"probabilities": tf.nn.softmax(values), "logits": values}
        backbone = source.model.backbone
        return {"logits": logits(backbone, hidden_states(backbone, ids[0]))}

    module = tf.Module()
    module.weights = [variable.value for variable in source.model.task.variables]
    module.serve = serve
    return TokenGraph(serve, specs, module)


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
