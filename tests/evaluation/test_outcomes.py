"""What became of each test row: written, read again, and measured again to the same metrics."""

import numpy as np
import pyarrow as pa
import pytest

from kerasllm.errors import RunError
from kerasllm.evaluation.classification import classification_report
from kerasllm.evaluation.classified_rows import _PROBLEMS, measure_classified
from kerasllm.evaluation.multi_label import multi_label_report
from kerasllm.evaluation.outcomes import TEXT_CHARACTERS, Outcomes, read_outcomes, write_outcomes
from kerasllm.evaluation.regression import regression_report
from kerasllm.tasks.task import Evaluation

ROWS = 400
NAMES = ("bad", "fair", "good")


class Rows:
    """Test data as `classified_rows` reads them."""

    def __init__(self, labels, targets=None):
        self.labels, self._targets = labels, targets

    def targets(self):
        return self._targets


def outcomes_of(problem, rows, evaluation) -> Outcomes:
    places = {
        "file": pa.array(["a.csv"] * ROWS).dictionary_encode(),
        "line": np.arange(2, ROWS + 2),
    }
    return Outcomes({**places, **_PROBLEMS[problem](rows, NAMES, evaluation)}, names=NAMES)


def one_label() -> tuple[Outcomes, dict]:
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 3, ROWS), random.normal(size=(ROWS, 3))
    metrics = classification_report(labels, logits, NAMES)
    evaluation = Evaluation(metrics, logits, logits.argmax(-1))
    return outcomes_of("single_label", Rows(labels), evaluation), metrics


def several_labels() -> tuple[Outcomes, dict]:
    random = np.random.default_rng(1)
    targets = (random.random((ROWS, 3)) < 0.3).astype(np.float32)
    logits = random.normal(size=(ROWS, 3)) + targets
    metrics = multi_label_report(targets, logits, NAMES)
    evaluation = Evaluation(metrics, logits, logits >= 0)
    return outcomes_of("multi_label", Rows(None, targets), evaluation), metrics


def scores() -> tuple[Outcomes, dict]:
    random = np.random.default_rng(2)
    targets = random.integers(0, 6, ROWS) / 2
    found = targets + random.normal(size=ROWS)
    metrics = regression_report(targets, found)
    return outcomes_of("regression", Rows(targets), Evaluation(metrics, found)), metrics


@pytest.mark.parametrize("made", [one_label, several_labels, scores])
def test_rows_of_a_file_measure_as_the_model_did(made, tmp_path):
    outcomes, metrics = made()
    write_outcomes(outcomes, tmp_path / "predictions.parquet")
    read = read_outcomes(tmp_path / "predictions.parquet")
    again = measure_classified(read)(np.ones(ROWS))
    assert len(again) >= 5
    for name, value in again.items():
        assert value == pytest.approx(metrics[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("made", [one_label, several_labels, scores])
def test_a_resample_measures_as_its_rows_written_out(made):
    outcomes, _ = made()
    drawn = np.bincount(np.random.default_rng(3).integers(0, ROWS, ROWS), minlength=ROWS)
    rows = pa.array(np.repeat(np.arange(ROWS), drawn))
    columns = {
        name: values[rows.to_numpy()] if isinstance(values, np.ndarray) else values.take(rows)
        for name, values in outcomes.columns.items()
    }
    copied = measure_classified(Outcomes(columns, names=NAMES))(np.ones(ROWS))
    for name, value in measure_classified(outcomes)(drawn.astype(float)).items():
        assert value == pytest.approx(copied[name], rel=1e-5, abs=1e-6), name


def test_texts_are_read_for_the_rows_that_are_shown_and_long_ones_are_cut(tmp_path):
    rows = 40_000
    columns = {
        "file": pa.array(["a.csv"] * rows).dictionary_encode(),
        "line": np.arange(rows),
        "error": np.zeros(rows, np.uint8),
    }
    texts = (f"text {number}" if number != 7 else "x" * 9999 for number in range(rows))
    write_outcomes(Outcomes(columns, texts), tmp_path / "predictions.parquet")
    read = read_outcomes(tmp_path / "predictions.parquet")
    assert read.values("text", [39_999, 0]) == ["text 39999", "text 0"]
    assert len(read.values("text", [7])[0]) == TEXT_CHARACTERS
    assert read.values("file", [5]) == ["a.csv"]


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "predictions.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(RunError, match="not what kerasllm wrote"):
        read_outcomes(path)
    pa.parquet.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(RunError, match="it has the columns a"):
        read_outcomes(path)
