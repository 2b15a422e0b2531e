"""The likelihood of targets under an encoder-decoder, given their sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.pipeline import needs_one_shape, prediction_dataset, prediction_rows
from kerasllm.data.seq2seq_rows import (
    INPUTS,
    SCORING_INPUTS,
    Seq2SeqRows,
    scoring_inputs,
    scoring_signature,
)
from kerasllm.errors import JobError

if TYPE_CHECKING:
    from kerasllm.models.seq2seq_lm import Seq2SeqLM

# So many tokens are scored at once, padding included, of sources and of targets together.
_SCORED_TOKENS = 4096


def score(
    model: Seq2SeqLM,
    rows: Seq2SeqRows,
    *,
    buckets: int = 16,
    notify: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Scores targets by how likely the model finds them.

    Args:
        model: The model.
        rows: Sources and targets.
        buckets: The maximum number of pairs of lengths to pad to. Defaults to `16`.
        notify: Called with how far it is. Defaults to `None`.

    Returns:
        float32 `[rows, 3]`: of each target the negative log-likelihood in nats, its tokens, and how
        many of them were the most likely.

    Raises:
        JobError: If the model gives what is no number.
    """
    strategy = model.distribute_strategy
    if needs_one_shape(strategy):
        buckets = 1
    longest = int(rows.lengths.sum(axis=1).max())
    plan = EpochPlans(rows.lengths, max(_SCORED_TOKENS // longest, 1), buckets)()
    batches = prediction_dataset(
        rows,
        plan,
        inputs=(*INPUTS, *SCORING_INPUTS),
        pad_id=model.tokenizer.pad_token_id,
        strategy=strategy,
        make=scoring_inputs,
        signature=scoring_signature(),
    )
    callbacks = [_Progress(notify, len(plan))] if notify else []
    outputs = model.predict(batches, verbose=0, callbacks=callbacks)
    scores = np.empty((len(rows), outputs.shape[-1]), outputs.dtype)
    scores[prediction_rows(plan, strategy)] = outputs
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        file, line = rows.places(int(broken[0]))[0]
        raise JobError(
            f"The model's output is not finite for {len(broken):,} of {len(scores):,} rows",
            where=f"{file}:{line} is the first",
            fix="its weights have diverged: lower training.learning_rate, "
            "or try --set training.precision=float32",
        )
    return scores


class _Progress(keras.callbacks.Callback):
    """Says how many of the batches are done."""

    def __init__(self, notify: Callable[[str], None], batches: int):
        super().__init__()
        self._notify = notify
        self._batches = batches

    def on_predict_batch_end(self, batch, logs=None):
        self._notify(f"scored {batch + 1:,} of {self._batches:,} batches")
