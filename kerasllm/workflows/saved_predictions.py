"""What a training saves for its report: facts of the data, the test rows, the report itself.

None of it may fail a training: what goes wrong is told, and the run is whole without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.errors import KerasllmError, cut
from kerasllm.evaluation.outcomes import write_outcomes
from kerasllm.run import Run, shell_word
from kerasllm.tasks.task import Evaluation
from kerasllm.workflows.explain_mistakes import SECONDS_IN_A_REPORT, explain_for_report
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job

# Of the time that a run took, what explaining mistakes may take; and the least that it needs.
_SHARE, _LEAST_SECONDS = 0.1, 2.0
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


def write_report(job: Job, run: Run, report: Report, seconds: float) -> None:
    """Writes the report of a run that has just finished, and explains a few of its mistakes.

    Args:
        job: The job.
        run: Its run.
        report: Where what goes wrong is told.
        seconds: How long the run took: the explanations take a tenth of it at most, and are left
            out where that is too little.
    """
    try:
        from kerasllm.workflows.report_run import report_run

        report_run(run.path)
    except Exception as error:  # noqa: BLE001 - the run is finished
        report.line(f"the report was not written: {_told(error)}")
        return
    most = min(seconds * _SHARE, SECONDS_IN_A_REPORT)
    if most < _LEAST_SECONDS:
        return
    in_float32 = job.precision == "float32" and job.strategy.num_replicas_in_sync == 1
    with report.busy("explaining mistakes"):
        model = job.model if in_float32 else None
        why_not = explain_for_report(run, seconds=most, model=model)
    if why_not:
        report.line(
            f"the mistakes in the report are not explained: {why_not}. To explain them: "
            f"kerasllm explain {shell_word(run.path)} --mistakes"
        )


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
