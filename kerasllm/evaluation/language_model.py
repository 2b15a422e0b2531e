"""How well a language model predicts text: loss, perplexity, bits per byte."""

from __future__ import annotations

import math

import numpy as np
from rich.table import Table

from kerasllm.evaluation.tables import table_of

_METRICS = {
    "loss": "loss",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "accuracy": "accuracy",
    "accuracy_normalized": "accuracy, by bytes",
    "chance": "by chance",
    "tokens": "tokens",
    "bytes": "bytes",
    "conversations": "conversations",
    "questions": "questions",
    "max_length": "most tokens at once",
    "stride": "stride",
}


def language_model_report(scores: np.ndarray, text_bytes: int | None = None) -> dict:
    """Returns the metrics of scored rows, each token counted once and alike.

    Args:
        scores: float `[rows, 3]`: of each row the negative log-likelihood in nats, the tokens that
            count, and how many of them were the most likely.
        text_bytes: The bytes of the text in UTF-8 that the tokens stand for. Defaults to `None`:
            not known, and then there are no bits per byte.

    Returns:
        `loss`, nats a token; `perplexity`, its exponential; `accuracy`; `tokens`; and
        `bits_per_byte`, which does not depend on the tokenizer.

    Example:

    >>> language_model_report(np.array([[2.0, 2, 1], [4.0, 2, 0]]))["loss"]
    1.5
    """
    total, tokens, correct = np.asarray(scores, np.float64).sum(axis=0).tolist()
    loss = total / tokens if tokens else math.nan
    report = {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "accuracy": correct / tokens if tokens else math.nan,
        "tokens": int(tokens),
    }
    if text_bytes:
        report["bits_per_byte"] = total / math.log(2) / text_bytes
    return report


def metrics_table(reports: dict[str, dict], title: str | None = None) -> Table:
    """One row for each metric, one column for each data set.

    Args:
        reports: What was measured, by the name of the data set.
        title: Shown above the table. Defaults to `None`.
    """
    return table_of(reports, _METRICS, title)
