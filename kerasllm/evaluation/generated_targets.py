"""Evaluates an encoder-decoder: the loss on targets, and the metrics of generated text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.evaluation.bleu_rouge import texts_report
from kerasllm.tasks.task import Evaluation

if TYPE_CHECKING:
    from kerasllm.data.seq2seq_rows import Seq2SeqRows
    from kerasllm.models.seq2seq_lm import Seq2SeqLM

# Rows that are kept with what was written.
_EXAMPLES = 3


def evaluate_targets(
    model: Seq2SeqLM,
    rows: Seq2SeqRows,
    *,
    buckets: int = 16,
    notify: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measures a model on sources and targets.

    Args:
        model: The model.
        rows: Sources and targets; where `rows.written` is off, nothing is written.
        buckets: The maximum number of pairs of lengths to pad to. Defaults to `16`.
        notify: Called with how far it is. Defaults to `None`.

    Returns:
        `loss`, the mean negative log-likelihood of a token, `perplexity`, `accuracy`, `tokens` and
        `rows`; and of what is written the metrics of `texts_report`, and `cut_off`, the share of
        texts that ended at the limit, `headline`, the metric to go by, and `examples`. `outputs`
        is the scores of the targets, float32 `[rows, 3]`,
        `decisions` what was written, an array of strings, and `rows` each row with it.
    """
    from kerasllm.models.seq2seq_likelihood import score

    scores = score(model, rows, buckets=buckets, notify=notify)
    metrics = likelihood_report(scores)
    if not rows.written:
        return Evaluation(metrics, scores)
    from kerasllm.generation.seq2seq_texts import write_targets

    sources: Any = rows.source_ids()
    written = write_targets(model, sources, notify=notify)
    texts = [each.text for each in written]
    sources, targets = rows.texts()
    metrics |= texts_report(texts, targets, sources, tokenize=rows.tokenize)
    metrics["cut_off"] = float(np.mean([each.finish_reason == "length" for each in written]))
    metrics["headline"] = rows.metric
    each = _Written(rows, sources, targets, texts, scores)
    metrics["examples"] = [
        {name: one[name] for name in ("source", "target", "output")}
        for one in (each[row] for row in _spread(len(each), _EXAMPLES))
    ]
    return Evaluation(metrics, scores, np.array(texts, object), each)


def likelihood_report(scores: np.ndarray) -> dict[str, Any]:
    """Returns loss, perplexity and accuracy of targets by their tokens.

    Args:
        scores: float `[rows, 3]`: negative log-likelihood, tokens, and those that were right.
    """
    loss, tokens, correct = scores.astype(np.float64).sum(axis=0).tolist()
    mean = loss / tokens if tokens else 0.0
    return {
        "loss": mean,
        "perplexity": math.exp(min(mean, 700.0)),
        "accuracy": correct / tokens if tokens else 0.0,
        "tokens": int(tokens),
        "rows": len(scores),
    }


class _Written(Sequence):
    """The rows of an evaluation with what was written, made when a file of them is."""

    def __init__(self, rows: Seq2SeqRows, sources, targets, texts, scores):
        self._rows, self._scores = rows, scores
        self._texts = list(zip(sources, targets, texts, strict=True))

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, row: int) -> dict[str, Any]:  # type: ignore[override]
        source, target, text = self._texts[row]
        [(file, line)] = self._rows.places(row)
        loss, tokens, _ = self._scores[row].tolist()
        return {
            "file": file,
            "line": line,
            "source": source,
            "target": target,
            "output": text,
            "loss": loss / max(tokens, 1),
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))


def _spread(rows: int, count: int) -> list[int]:
    """Returns the numbers of a few rows, from the first to the last."""
    return np.unique(np.linspace(0, rows - 1, min(count, rows)).astype(int)).tolist()
