"""BLEU and ROUGE of texts again, from what is kept of each."""

import numpy as np
import pyarrow as pa
import pytest

from kerasllm.evaluation.bleu_rouge import ROUGE, bleu_chrf, rouge
from kerasllm.evaluation.generated_rows import bleu_counts, bleu_of, generated_rows, measure_written
from kerasllm.evaluation.outcomes import Outcomes, read_outcomes, write_outcomes
from kerasllm.tasks.task import Evaluation

TARGETS = [
    "The dog sleeps in the garden.",
    "It rains, and nobody is at home today.",
    "She reads a long book about the sea.",
    "No.",
]
WRITTEN = [
    "The dog sleeps in a garden.",
    "It rains and nobody is at home today.",
    "She writes a book about the sea and the ships.",
    "",
]


def test_the_sum_of_counts_has_the_bleu_of_the_corpus():
    counts = bleu_counts(WRITTEN, TARGETS, "13a")
    assert bleu_of(counts.sum(0)) == pytest.approx(bleu_chrf(WRITTEN, TARGETS)["bleu"])
    # Without a right n-gram of 4 words, of 3, and of any.
    for texts in (["The cat", "is", "not here", "at"], ["The dog", "x", "y", "z"], ["q"] * 4):
        counts = bleu_counts(texts, TARGETS, "13a")
        assert bleu_of(counts.sum(0)) == pytest.approx(bleu_chrf(texts, TARGETS)["bleu"])


class Rows:
    """Sources and targets as `generated_rows` reads them."""

    tokenize = "13a"

    def __init__(self, metric):
        self.metric = metric
        self.lengths = np.full((len(TARGETS), 2), 7)

    def __len__(self):
        return len(TARGETS)

    def texts(self):
        return ["Ein Satz."] * len(TARGETS), TARGETS

    def places(self, row):
        return [("test.csv", row + 2)]


@pytest.mark.parametrize("metric", ["bleu", "rouge_l"])
def test_rows_of_a_file_measure_as_the_texts_did(metric, tmp_path):
    scores = np.array([[9.0, 6, 5], [7, 8, 7], [12, 9, 4], [2, 2, 1]], np.float32)
    evaluation = Evaluation({}, scores, np.array(WRITTEN, object))
    write_outcomes(generated_rows(Rows(metric), evaluation), tmp_path / "predictions.parquet")
    read = read_outcomes(tmp_path / "predictions.parquet")
    found = measure_written(read)(np.ones(len(TARGETS)))
    assert found["loss"] == pytest.approx(30 / 25)
    assert found["accuracy"] == pytest.approx(17 / 25)
    if metric == "bleu":
        assert found["bleu"] == pytest.approx(bleu_chrf(WRITTEN, TARGETS)["bleu"])
    else:
        expected = rouge(WRITTEN, TARGETS)
        assert {name: found[name] for name in ROUGE} == pytest.approx(
            {name: expected[name] for name in ROUGE}, rel=1e-5
        )
    assert read.values("predicted", [0]) == [WRITTEN[0]]
    # Rows that are drawn again and again, as if they were written out.
    drawn = np.array([0.0, 3, 1, 0])
    taken = pa.array(np.repeat(np.arange(4), drawn.astype(int)))
    columns = {
        name: values[taken.to_numpy()] if isinstance(values, np.ndarray) else values.take(taken)
        for name, values in read.columns.items()
    }
    copied = measure_written(Outcomes(columns))(np.ones(4))
    assert measure_written(read)(drawn) == pytest.approx(copied)


def test_targets_that_were_not_written_have_no_prediction():
    scores = np.ones((4, 3), np.float32)
    outcomes = generated_rows(Rows("bleu"), Evaluation({}, scores))
    assert "predicted" not in outcomes
    assert measure_written(outcomes)(np.ones(4))["loss"] == 1
