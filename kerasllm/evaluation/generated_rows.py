"""What an encoder-decoder generated for each test row, and BLEU or ROUGE computed from that."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kerasllm.evaluation.bleu_rouge import ROUGE, rouge_of_each
from kerasllm.evaluation.outcomes import TEXT_CHARACTERS, Outcomes
from kerasllm.evaluation.resampling import Measure
from kerasllm.evaluation.scored_rows import means_of, measure_scored, scored_rows

if TYPE_CHECKING:
    from kerasllm.data.seq2seq_rows import Seq2SeqRows
    from kerasllm.tasks.task import Evaluation

_ORDERS = 4


def generated_rows(rows: Seq2SeqRows, evaluation: Evaluation) -> Outcomes:
    """Returns what became of each row.

    Args:
        rows: Sources and targets.
        evaluation: What `kerasllm.evaluation.generated_targets.evaluate_targets` gave of them.
    """
    sources, targets = rows.texts()
    more: dict[str, Any] = {"expected": _cut(targets)}
    if evaluation.decisions is not None:
        written = evaluation.decisions.tolist()
        more["predicted"] = _cut(written)
        if rows.metric == "bleu":
            counts = bleu_counts(written, targets, rows.tokenize)
            more["bleu_counts"] = pa.FixedSizeListArray.from_arrays(
                pa.array(counts.ravel()), counts.shape[1]
            )
        else:
            each = rouge_of_each(written, targets)
            more |= {name: np.array(values, np.float32) for name, values in each.items()}
    places = (rows.places(row)[0] for row in range(len(rows)))
    return scored_rows(places, rows.lengths[:, 0], evaluation.outputs, sources, more)


def measure_written(outcomes: Outcomes) -> Measure:
    """Returns what measures rows of `generated_rows`, each as often as it is told."""
    if "bleu_counts" not in outcomes:
        return measure_scored(outcomes, more=means_of(outcomes, [*ROUGE]))
    counts = outcomes.columns["bleu_counts"].flatten().to_numpy().reshape(len(outcomes), -1)
    counts = counts.astype(np.float64)

    def bleu(drawn: np.ndarray) -> Mapping[str, float]:
        return {"bleu": bleu_of(np.einsum("i,ij->j", drawn, counts))}

    return measure_scored(outcomes, more=bleu)


def bleu_counts(written: Sequence[str], references: Sequence[str], tokenize: str) -> np.ndarray:
    """Returns what BLEU adds up over texts.

    Args:
        written: The texts.
        references: What they should be, one for each.
        tokenize: How sacreBLEU makes words of texts.

    Returns:
        int32 `[texts, 10]`: words written, words of the reference, and n-grams that are right, and
        all n-grams written, of 1 to 4 words.
    """
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=tokenize, effective_order=True)
    # It warns of what BLEU of a single sentence is worth, which is not asked for.
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    found = np.zeros((len(written), 2 + 2 * _ORDERS), np.int32)
    for number, (text, reference) in enumerate(zip(written, references, strict=True)):
        score = metric.sentence_score(text, [reference])
        found[number] = [score.sys_len, score.ref_len, *score.counts, *score.totals]
    return found


def bleu_of(counts: np.ndarray) -> float:
    """Returns the BLEU of a corpus, 0 to 100, of the sum of its `bleu_counts`.

    Smoothed as sacreBLEU does by default: the n-th order without a right n-gram counts half as many
    as the one before it.
    """
    written, reference = counts[:2]
    right, total = counts[2 : 2 + _ORDERS], counts[2 + _ORDERS :]
    if not written or not right.any() or not total.all():
        return 0.0
    smoothing, precisions = 1.0, np.zeros(_ORDERS)
    for order in range(_ORDERS):
        if right[order]:
            precisions[order] = right[order] / total[order]
        else:
            smoothing *= 2
            precisions[order] = 1 / (smoothing * total[order])
    brevity = min(0.0, 1 - reference / written)
    return float(100 * np.exp(brevity + np.log(precisions).mean()))


def _cut(texts: Iterable[str]) -> pa.Array:
    return pa.array([text[:TEXT_CHARACTERS] for text in texts], pa.string())
