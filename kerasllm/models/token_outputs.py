"""Outputs for every token: the logits of all tokens of some rows of any lengths."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.length_batches import in_length_batches
from kerasllm.data.pipeline import prediction_dataset, prediction_rows
from kerasllm.data.rows import Tokens, model_inputs
from kerasllm.models.text_model import TextModel
from kerasllm.runtime.threads import operations_at_once

# One is prepared, and ends on fewer cores than there are, while the other is computed.
_BATCHES_AT_A_TIME = 2
# Lengths are rounded up to a multiple of this, so that kernels see few of them.
_LENGTH_STEP = 8


def token_logits(
    model: TextModel,
    tokens: Tokens,
    *,
    notify: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Returns the outputs of all tokens of some rows, one row after the other.

    Rows are sorted by length for the computation, so that little is padded.

    Args:
        model: A model with outputs for every token: it has `packed`, `forward` and `pad_to`.
        tokens: The rows.
        notify: Called with the number of each batch that is done. Defaults to `None`.

    Returns:
        float32 `[tokens, outputs]`, special tokens included.
    """
    lengths = np.asarray(tokens.lengths, np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    found = np.empty((int(starts[-1]), model.task.output_shape[-1]), np.float32)
    # What computes any shape is TensorFlow's; JAX would compile for each.
    of_any_shape = keras.config.backend() == "tensorflow"
    if model.distribute_strategy.num_replicas_in_sync > 1 or not of_any_shape:
        _fill_on_replicas(model, tokens, lengths, starts, found)
        return found
    pad_id, names, packed = model.tokenizer.pad_token_id, model.input_names, model.packed
    forward = packed or model.forward

    def compute(rows: np.ndarray) -> None:
        width = int(lengths[rows[-1]])
        if packed is None:
            width = model.pad_to or min(-(-width // _LENGTH_STEP) * _LENGTH_STEP, model.max_length)
        inputs = model_inputs(tokens, rows, width, names, pad_id)
        if packed is not None:
            outputs = np.asarray(forward(inputs, lengths[rows].astype(np.int32)))
        else:
            given = {name: tf.constant(inputs[name]) for name in names}
            outputs = np.asarray(forward(given))
            outputs = outputs[np.arange(width) < lengths[rows][:, None]]
        place = 0
        for row in rows:
            found[starts[row] : starts[row + 1]] = outputs[place : place + lengths[row]]
            place += int(lengths[row])

    batches = list(in_length_batches(lengths, model.prediction_batch))
    # What is traced for all shapes is traced once, by one thread.
    for batch in batches[:1]:
        compute(batch)
        if notify:
            notify(0)
    with ThreadPoolExecutor(max(_BATCHES_AT_A_TIME, operations_at_once())) as threads:
        for number, _ in enumerate(threads.map(compute, batches[1:]), start=1):
            if notify:
                notify(number)
    return found


def _fill_on_replicas(model, tokens, lengths, starts, found) -> None:
    """Computes rows under a strategy, where all batches have one width."""
    strategy = model.distribute_strategy
    plan = EpochPlans(lengths, model.prediction_batch, 1, pad_to=model.pad_to)()
    batches = prediction_dataset(
        tokens,
        plan,
        inputs=model.input_names,
        pad_id=model.tokenizer.pad_token_id,
        strategy=strategy,
    )
    outputs = model.predict(batches, verbose=0)
    for row, output in zip(prediction_rows(plan, strategy), outputs, strict=True):
        found[starts[row] : starts[row + 1]] = output[: lengths[row]]
