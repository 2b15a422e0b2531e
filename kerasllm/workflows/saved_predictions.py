"""What a training saves for its report: facts of the data, the test rows, the report itself.

None of it may fail a training: what goes wrong is told, and the run is whole without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.errors import KerasllmError, cut
from kerasllm.evaluation.outcomes import write_outcomes
from kerasllm.run import Run
from kerasllm.tasks.task import Evaluation
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job

# Of more classes, as of a vocabulary, the counts are left out.
_MOST_CLASSES = 1000


def facts_of_data(job: Job) -> dict[str, Any]:
    """Returns lengths and classes of the data, for `environment.json`."""
    tokens = {part: _lengths(rows.lengths) for part, rows in job.data.parts.items() if len(rows)}
    balance = job.task.balance(job.data)
    most = max((len(counts) for counts in balance.values()), default=0)
    return {"tokens": tokens} | ({"balance": balance} if 0 < most <= _MOST_CLASSES else {})


def keep(job: Job, run: Run, evaluation: Evaluation, report: Report) -> None:
    """Writes what became of each test row into the run."""
    run.predictions.unlink(missing_ok=True)
    run.explanations.unlink(missing_ok=True)
    try:
        outcomes = job.task.outcomes(job.recipe, job.data, evaluation)
        if outcomes is not None:
            write_outcomes(outcomes, run.predictions)
    except Exception as error:  # noqa: BLE001 - also that of a task of another package
        report.line(f"the predictions of the test rows were not kept: {_told(error)}")


def write_report(run: Run, report: Report) -> None:
    """Writes the report of a run that has just finished."""
    try:
        from kerasllm.workflows.report_run import report_run

        report_run(run.path)
    except Exception as error:  # noqa: BLE001 - the run is finished
        report.line(f"the report was not written: {_told(error)}")


def _told(error: Exception) -> str:
    if isinstance(error, KerasllmError):
        return error.what
    return cut(f"{type(error).__name__}: {error}".partition("\n")[0], 300)


def _lengths(lengths: Any) -> dict[str, float]:
    lengths = np.asarray(lengths)
    if lengths.ndim > 1:  # of source and target
        lengths = lengths.sum(axis=1)
    return {
        "total": int(lengths.sum(dtype=np.int64)),
        "median": float(np.median(lengths)),
        "longest": float(lengths.max()),
    }
