"""The likelihood of token sequences under a language model."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.pairs import Pairs
from kerasllm.data.pipeline import needs_one_shape, prediction_dataset, prediction_rows
from kerasllm.data.sequences import Sequences, scoring_inputs
from kerasllm.errors import JobError
from kerasllm.evaluation.language_model import language_model_report
from kerasllm.models.causal_lm import SCORING_INPUTS, CausalLM

# So many tokens are scored at once, padding included.
_SCORED_TOKENS = 4096


def score(
    model: CausalLM,
    sequences: Sequences,
    *,
    buckets: int = 16,
    notify: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Scores rows by how likely the model finds them.

    Args:
        model: The model.
        sequences: The rows.
        buckets: The maximum number of lengths to pad to. Defaults to `16`.
        notify: Called with how far it is. Defaults to `None`.

    Returns:
        float32 `[rows, 3]`: of each row the negative log-likelihood in nats, the tokens that
        count, and how many of them were the most likely.

    Raises:
        JobError: If the model gives what is no number.
    """
    strategy = model.distribute_strategy
    if needs_one_shape(strategy):
        buckets = 1
    longest = int(sequences.lengths.max())
    plan = EpochPlans(sequences.lengths, max(_SCORED_TOKENS // longest, 1), buckets)()
    names = ("token_ids", "segment_ids") if sequences.is_packed else ("token_ids",)
    batches = prediction_dataset(
        sequences,
        plan,
        inputs=(*names, *SCORING_INPUTS),
        pad_id=model.tokenizer.pad_token_id,
        strategy=strategy,
        make=scoring_inputs,
    )
    callbacks = [_Progress(notify, plan.processed_tokens, len(plan))] if notify else []
    outputs = model.predict(batches, verbose=0, callbacks=callbacks)
    scores = np.empty((len(sequences), outputs.shape[-1]), outputs.dtype)
    scores[prediction_rows(plan, strategy)] = outputs
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        file, line = sequences.places(int(broken[0]))[0]
        raise JobError(
            f"The model's output is not finite for {len(broken):,} of {len(scores):,} rows",
            where=f"{file}:{line} is the first",
            fix="its weights have diverged: lower training.learning_rate, "
            "or try --set training.precision=float32",
        )
    return scores


def evaluate(
    model: CausalLM,
    sequences: Sequences,
    *,
    buckets: int = 16,
    notify: Callable[[str], None] | None = None,
) -> tuple[dict, np.ndarray]:
    """Measures a model on some rows.

    Args:
        model: The model.
        sequences: The rows.
        buckets: The maximum number of lengths to pad to. Defaults to `16`.
        notify: Called with how far it is. Defaults to `None`.

    Returns:
        The metrics of `language_model_report`, and the scores of each row.
    """
    scores = score(model, sequences, buckets=buckets, notify=notify)
    return language_model_report(scores, sequences.text_bytes), scores


def log_probabilities(model: CausalLM, pairs: Pairs, *, buckets: int = 16) -> np.ndarray:
    """Returns how likely the model finds the answers of pairs, each as a whole.

    Args:
        model: The model.
        pairs: The answers.
        buckets: The maximum number of lengths to pad to. Defaults to `16`.

    Returns:
        float32 `[pairs, 2]`: the natural logarithms, of chosen and rejected.
    """
    scores = score(model, pairs.sides, buckets=buckets)
    return -scores[:, 0].reshape(-1, 2)


class _Progress(keras.callbacks.Callback):
    """Says how many of the batches are done."""

    def __init__(self, notify: Callable[[str], None], tokens: int, batches: int):
        super().__init__()
        self._notify = notify
        self._of = f"of {batches:,} batches, {tokens:,} tokens in all"

    def on_predict_batch_end(self, batch, logs=None):
        self._notify(f"scored {batch + 1:,} {self._of}")
