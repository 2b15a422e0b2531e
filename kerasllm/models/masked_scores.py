"""Evaluates a masked language model, with fixed masks."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.loading import place_of
from kerasllm.data.masked_rows import MaskedRows, scoring_inputs
from kerasllm.data.pipeline import needs_one_shape, prediction_dataset, prediction_rows
from kerasllm.data.rows import ArraySpec
from kerasllm.errors import JobError
from kerasllm.models.masked_lm import MaskedLM

# So many tokens are computed at once, padding included.
_TOKENS_AT_ONCE = 4096


def evaluate(
    model: MaskedLM,
    rows: MaskedRows,
    *,
    buckets: int = 16,
    notify: Callable[[str], None] | None = None,
) -> tuple[dict, np.ndarray]:
    """Measures a model on some rows.

    Args:
        model: The model.
        rows: The rows.
        buckets: The maximum number of lengths to pad to. Defaults to `16`.
        notify: Called with how far it is. Defaults to `None`.

    Returns:
        The metrics of `masked_report`, and the scores of each row, see `MaskedLM.predict_step`.

    Raises:
        JobError: If the model gives what is no number.
    """
    strategy = model.distribute_strategy
    buckets = 1 if needs_one_shape(strategy) else buckets
    longest = int(rows.lengths.max())
    plan = EpochPlans(rows.lengths, max(_TOKENS_AT_ONCE // longest, 1), buckets)()
    batches = prediction_dataset(
        rows,
        plan,
        inputs=model.input_names,
        pad_id=model.tokenizer.pad_token_id,
        strategy=strategy,
        make=scoring_inputs,
        signature=_signature(model, rows),
    )
    callbacks = [_Progress(notify, len(plan))] if notify else []
    outputs = model.predict(batches, verbose=0, callbacks=callbacks)
    scores = np.empty((len(rows), outputs.shape[-1]), outputs.dtype)
    scores[prediction_rows(plan, strategy)] = outputs
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        raise JobError(
            f"The model's output is not finite for {len(broken):,} of {len(scores):,} rows",
            where=f"{place_of(rows.store)(int(rows.pieces['row'][broken[0]]))} is the first",
            fix="its weights have diverged: lower training.learning_rate, "
            "or try --set training.precision=float32",
        )
    return masked_report(scores), scores


def masked_report(scores: np.ndarray) -> dict:
    """Returns the metrics of scored rows, each masked token counted once and alike.

    Args:
        scores: float `[rows, 3]`, of each row the negative log-likelihood of its masked tokens in
            nats, how many there are, and how many were the most likely; or `[rows, 6]`, with the
            same of a sentence task.

    Returns:
        `loss`, nats a token, with a sentence task its loss added; `accuracy`; `pseudo_perplexity`,
        the exponential of the tokens' loss; `tokens`, how many were hidden; and with a sentence
        task `masked_lm_loss`, `sentence_loss` and `sentence_accuracy`.

    Example:

    >>> masked_report(np.array([[2.0, 2, 1], [4.0, 2, 0]]))["loss"]
    1.5
    """
    total, tokens, correct, *sentence = np.asarray(scores, np.float64).sum(axis=0).tolist()
    loss = total / tokens if tokens else math.nan
    report = {
        "loss": loss,
        "accuracy": correct / tokens if tokens else math.nan,
        "pseudo_perplexity": math.exp(min(loss, 700.0)),
        "tokens": int(tokens),
    }
    if sentence:
        of_pairs, pairs, hits = sentence
        of_pairs = of_pairs / pairs if pairs else 0.0
        report |= {
            "loss": loss + of_pairs,
            "masked_lm_loss": loss,
            "sentence_loss": of_pairs,
            "sentence_accuracy": hits / pairs if pairs else math.nan,
        }
    return report


def scores_of_rows(rows: MaskedRows, scores: np.ndarray) -> list[dict]:
    """Returns what was measured of each document, its rows together, with its file and line."""
    numbers = rows.pieces["row"][rows.first_pieces[:-1]]
    documents, which = np.unique(numbers, return_inverse=True)
    sums = np.zeros((len(documents), 3))
    np.add.at(sums, which, scores[:, :3])
    found = []
    for number, (loss, tokens, correct) in zip(documents, sums.tolist(), strict=True):
        file, line = rows.store.where(int(number))
        shares = {"loss": loss / tokens, "accuracy": correct / tokens} if tokens else {}
        found.append({"file": file, "line": line, "tokens": int(tokens), **shares})
    return found


def _signature(model: MaskedLM, rows: MaskedRows) -> dict[str, ArraySpec]:
    x, *_ = rows.signature(None, None, model.input_names)
    whole = ArraySpec((None, None), np.int32)
    found = {**x, "targets": whole, "counted": whole}
    if rows.sentence_task:
        found |= dict.fromkeys(("label", "labelled"), ArraySpec((None,), np.int32))
    return found


class _Progress(keras.callbacks.Callback):
    """Says how many of the batches are done."""

    def __init__(self, notify: Callable[[str], None], batches: int):
        super().__init__()
        self._notify, self._batches = notify, batches

    def on_predict_batch_end(self, batch, logs=None):
        self._notify(f"measured {batch + 1:,} of {self._batches:,} batches")
