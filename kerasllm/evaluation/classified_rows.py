"""The predictions of a classifier for each test row, and metrics computed from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kerasllm.data.other_columns import columns_of_few_values, places_in
from kerasllm.evaluation.classification import log_softmax, matthews_correlation
from kerasllm.evaluation.multi_label import sigmoid
from kerasllm.evaluation.outcomes import DATA, Outcomes, names_column, sets_column
from kerasllm.evaluation.resampling import Measure, weighted_sum

if TYPE_CHECKING:
    from kerasllm.data.examples import Examples
    from kerasllm.data.readers.sources import Source
    from kerasllm.tasks.task import Evaluation

_SEVERAL = ", "


def classified_rows(
    rows: Examples, source: Source, names: tuple[str, ...], problem: str, evaluation: Evaluation
) -> Outcomes:
    """Returns what became of each row.

    Args:
        rows: The test data.
        source: The files that they were read from.
        names: The names of the classes.
        problem: `"single_label"`, `"multi_label"` or `"regression"`.
        evaluation: What was measured on the rows.
    """
    names_of_files, files, lines = rows.store.places(rows.rows)
    columns: dict[str, Any] = dict(places_in(names_of_files, files, lines))
    columns["tokens"] = rows.lengths
    columns |= _PROBLEMS[problem](rows, names, evaluation)
    for name, values in columns_of_few_values(source, files, lines).items():
        columns[f"{DATA}{name}"] = values
    error = "mean absolute error" if problem == "regression" else "error rate"
    return Outcomes(columns, _texts(source, rows.rows), error=error, names=names)


def measure_classified(outcomes: Outcomes) -> Measure:
    """Returns what measures rows of `classified_rows`, each as often as it is told."""
    if "predicted_labels" in outcomes:
        return _several_labels(outcomes)
    if isinstance(outcomes.columns["expected"], np.ndarray):
        return _scores(outcomes)
    return _one_label(outcomes)


def _single_label(rows: Examples, names, evaluation: Evaluation) -> dict[str, Any]:
    chances = log_softmax(evaluation.outputs)
    row = np.arange(len(chances))
    return {
        "expected": names_column(rows.labels, names),
        "predicted": names_column(evaluation.decisions, names),
        "error": (evaluation.decisions != rows.labels).astype(np.uint8),
        "confidence": np.exp(chances[row, evaluation.decisions]).astype(np.float32),
        "loss": (-chances[row, rows.labels]).astype(np.float32),
    }


def _multi_label(rows: Examples, names, evaluation: Evaluation) -> dict[str, Any]:
    targets, given = rows.targets() > 0, evaluation.decisions
    logits = np.asarray(evaluation.outputs, np.float64)
    chances = sigmoid(logits)
    # The label that is most confidently wrong, or else least confidently right.
    wrong = targets != given
    sure = np.where(given, chances, 1 - chances)
    confidence = np.where(wrong.any(1), np.where(wrong, sure, 0).max(1), sure.min(1))
    losses = np.logaddexp(0, logits) - targets * logits
    return {
        "expected": _joined(targets, names),
        "predicted": _joined(given, names),
        "error": wrong.any(axis=1).astype(np.uint8),
        "confidence": confidence.astype(np.float32),
        "loss": losses.mean(axis=1).astype(np.float32),
        "expected_labels": sets_column(targets),
        "predicted_labels": sets_column(given),
    }


def _regression(rows: Examples, names, evaluation: Evaluation) -> dict[str, Any]:
    targets = np.asarray(rows.labels, np.float64)
    found = np.asarray(evaluation.outputs, np.float64)
    return {"expected": targets, "predicted": found, "error": np.abs(found - targets)}


_PROBLEMS = {
    "single_label": _single_label,
    "multi_label": _multi_label,
    "regression": _regression,
}


def _joined(given: np.ndarray, names: tuple[str, ...]) -> pa.Array:
    """Returns sets of labels as one string a row, each different one kept once."""
    sets, places = np.unique(np.packbits(given, axis=1), axis=0, return_inverse=True)
    bits = np.unpackbits(sets, axis=1, count=len(names)) > 0
    texts = [_SEVERAL.join(names[i] for i in np.flatnonzero(one)) or "no label" for one in bits]
    return names_column(places.reshape(-1), texts)


def _texts(source: Source, rows: np.ndarray) -> Iterator[str]:
    """Yields the texts of rows, whose numbers ascend; a pair of texts as one."""
    done = 0
    for batch in source.batches():
        low, high = np.searchsorted(rows, [done, done + len(batch)])
        for row in rows[low:high] - done:
            second = "" if batch.pairs is None else f" | {batch.pairs[row]}"
            yield f"{batch.texts[row]}{second}"
        done += len(batch)


def _one_label(outcomes: Outcomes) -> Measure:
    count = len(outcomes.names)
    expected, predicted = outcomes.classes("expected"), outcomes.classes("predicted")
    cells, loss = expected * count + predicted, outcomes["loss"].astype(np.float64)

    def measure(drawn: np.ndarray) -> Mapping[str, float]:
        # Of float64, in which counts are exact.
        matrix = np.bincount(cells, drawn, count * count).reshape(count, count)
        right, support, given = np.diag(matrix), matrix.sum(1), matrix.sum(0)
        precision, recall = _ratio(right, given), _ratio(right, support)
        f1 = _ratio(2 * right, support + given)
        rows = support.sum()
        return {
            "loss": weighted_sum(drawn, loss) / rows,
            "accuracy": right.sum() / rows,
            "mcc": matthews_correlation(matrix),
            "macro_precision": precision.mean(),
            "macro_recall": recall.mean(),
            "macro_f1": f1.mean(),
            "weighted_precision": precision @ support / rows,
            "weighted_recall": recall @ support / rows,
            "weighted_f1": f1 @ support / rows,
        }

    return measure


def _several_labels(outcomes: Outcomes) -> Measure:
    targets, given = outcomes.sets("expected_labels"), outcomes.sets("predicted_labels")
    count, loss = targets.shape[1], outcomes["loss"].astype(np.float64)
    # Most rows have the same few sets of labels.
    bits = np.packbits(np.concatenate([targets, given], axis=1), axis=1)
    _, firsts, places = np.unique(bits, axis=0, return_index=True, return_inverse=True)
    targets, given, places = targets[firsts], given[firsts], places.reshape(-1)
    both = targets & given
    summed = np.concatenate([both, targets, given], axis=1).astype(np.float64)
    samples = _ratio(2 * both.sum(1), targets.sum(1) + given.sum(1))
    exact = (targets == given).all(axis=1).astype(np.float64)

    def measure(drawn: np.ndarray) -> Mapping[str, float]:
        sets = np.bincount(places, drawn, len(firsts))
        right, support, predicted = np.split(np.einsum("i,ij->j", sets, summed), [count, 2 * count])
        rows = drawn.sum()
        return {
            "loss": weighted_sum(drawn, loss) / rows,
            "micro_f1": float(_ratio(2 * right.sum(), support.sum() + predicted.sum())),
            "macro_f1": float(_ratio(2 * right, support + predicted).mean()),
            "samples_f1": weighted_sum(sets, samples) / rows,
            "subset_accuracy": weighted_sum(sets, exact) / rows,
        }

    return measure


def _scores(outcomes: Outcomes) -> Measure:
    expected, predicted = outcomes["expected"], outcomes["predicted"]
    errors = predicted - expected
    ranked = [_Ranked(expected), _Ranked(predicted)]

    def measure(drawn: np.ndarray) -> Mapping[str, float]:
        rows = drawn.sum()
        squared = weighted_sum(drawn, errors**2) / rows
        spread = weighted_sum(drawn, (expected - weighted_sum(drawn, expected) / rows) ** 2) / rows
        return {
            "pearson": _weighted_pearson(expected, predicted, drawn),
            "spearman": _weighted_pearson(ranked[0].ranks(drawn), ranked[1].ranks(drawn), drawn),
            "rmse": squared**0.5,
            "mae": weighted_sum(drawn, np.abs(errors)) / rows,
            "r2": 1 - squared / spread if spread else 0.0,
        }

    return measure


class _Ranked:
    """Values whose ranks are wanted again and again, each value so many times."""

    def __init__(self, values: np.ndarray):
        self._values, self._places = np.unique(values, return_inverse=True)

    def ranks(self, drawn: np.ndarray) -> np.ndarray:
        """Returns the rank of each value, the mean of their ranks for equal ones."""
        counts = np.bincount(self._places, drawn, len(self._values))
        return (np.cumsum(counts) - (counts - 1) / 2)[self._places]


def _weighted_pearson(one: np.ndarray, other: np.ndarray, drawn: np.ndarray) -> float:
    rows = drawn.sum()
    one, other = one - weighted_sum(drawn, one) / rows, other - weighted_sum(drawn, other) / rows
    scale = float(np.sqrt(weighted_sum(drawn, one * one) * weighted_sum(drawn, other * other)))
    return weighted_sum(drawn, one * other) / scale if scale else 0.0


def _ratio(numerator, denominator) -> np.ndarray:
    """Divides; 0 where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
