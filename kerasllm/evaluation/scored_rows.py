"""The likelihood of each test row, and metrics computed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kerasllm.evaluation.outcomes import Outcomes
from kerasllm.evaluation.resampling import Measure, weighted_sum

LOSS_A_TOKEN = "mean loss a token"


def scored_rows(
    places: Iterable[tuple[str, int]],
    tokens: np.ndarray,
    scores: np.ndarray,
    texts: Iterable[str] = (),
    more: Mapping[str, Any] | None = None,
) -> Outcomes:
    """Returns what became of rows that are measured by the likelihood of their tokens.

    Args:
        places: The file and the line of each row.
        tokens: int `[rows]`, tokens of each.
        scores: float `[rows, 3]`: negative log-likelihood in nats, tokens that count, and how many
            of them were the most likely.
        texts: The texts of the rows. Defaults to none.
        more: Other columns. Defaults to none.
    """
    total, counted, right = scores[:, :3].T
    columns = {
        **place_columns(places),
        "tokens": np.asarray(tokens),
        "error": (total / np.maximum(counted, 1)).astype(np.float32),
        "likelihood_loss": total.astype(np.float32),
        "counted_tokens": counted.astype(np.int32),
        "right_tokens": right.astype(np.int32),
        **(more or {}),
    }
    return Outcomes(columns, texts, error=LOSS_A_TOKEN)


def place_columns(places: Iterable[tuple[str, int]]) -> dict[str, pa.Array]:
    """Returns the columns `file` and `line`."""
    files, lines = zip(*places, strict=True)
    return {"file": pa.array(files).dictionary_encode(), "line": pa.array(lines, pa.int64())}


def measure_scored(
    outcomes: Outcomes,
    perplexity: str = "perplexity",
    more: Callable[[np.ndarray], Mapping[str, float]] | None = None,
) -> Measure:
    """Returns what measures rows of `scored_rows`, each as often as it is told.

    Args:
        outcomes: The rows.
        perplexity: What the perplexity is called. Defaults to `"perplexity"`.
        more: Measures what else there is. Defaults to `None`.
    """
    total, counted, right = (
        outcomes[name].astype(np.float64)
        for name in ("likelihood_loss", "counted_tokens", "right_tokens")
    )

    def measure(drawn: np.ndarray) -> Mapping[str, float]:
        tokens = weighted_sum(drawn, counted) or 1.0
        loss = weighted_sum(drawn, total) / tokens
        found = {
            "loss": loss,
            perplexity: float(np.exp(min(loss, 700.0))),
            "accuracy": weighted_sum(drawn, right) / tokens,
        }
        return found | dict(more(drawn)) if more else found

    return measure


def sentence_columns(scores: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what is kept of a sentence task beside the masked tokens; nothing without one.

    Args:
        scores: As `kerasllm.models.masked_scores.masked_report` takes them.
    """
    if scores.shape[1] < 6:
        return {}
    loss, pairs, right = scores[:, 3:].T
    return {
        "sentence_loss": loss.astype(np.float32),
        "sentence_pairs": pairs.astype(np.int32),
        "sentence_right": right.astype(np.int32),
    }


def measure_masked(outcomes: Outcomes) -> Measure:
    """Returns what measures rows with masked tokens, and maybe a sentence task beside them."""
    of_tokens = measure_scored(outcomes, "pseudo_perplexity")
    if "sentence_pairs" not in outcomes:
        return of_tokens
    loss, pairs, right = (
        outcomes[name].astype(np.float64)
        for name in ("sentence_loss", "sentence_pairs", "sentence_right")
    )

    def measure(drawn: np.ndarray) -> Mapping[str, float]:
        found = dict(of_tokens(drawn))
        count = weighted_sum(drawn, pairs)
        of_pairs = weighted_sum(drawn, loss) / count if count else 0.0
        accuracy = weighted_sum(drawn, right) / count if count else 0.0
        return found | {
            "masked_lm_loss": found["loss"],
            "sentence_loss": of_pairs,
            "sentence_accuracy": accuracy,
            "loss": found["loss"] + of_pairs,
        }

    return measure


def means_of(outcomes: Outcomes, names: Sequence[str]) -> Measure:
    """Returns what takes the means of columns, each row as often as it is told."""
    columns = {name: outcomes[name].astype(np.float64) for name in names if name in outcomes}

    def measure(drawn: np.ndarray) -> Mapping[str, float]:
        rows = drawn.sum()
        return {name: weighted_sum(drawn, values) / rows for name, values in columns.items()}

    return measure
