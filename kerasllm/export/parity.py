"""Parity: whether exported files give the outputs of the original model, on real texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kerasllm.errors import JobError
from kerasllm.export.formats import Engine
from kerasllm.plurals import counted
from kerasllm.run import write_json
from kerasllm.tasks.task import Head

FILE_NAME = "parity.json"
"""The file that holds the report, and marks a folder as an export of kerasllm's."""


@dataclass(frozen=True)
class Parity:
    """How far the outputs of exported files are from those of the model.

    Args:
        precision: What the files' weights are written in.
        rows: How many rows were compared.
        largest_difference: Of any number of the outputs; `None` if not all of them are finite.
        mean_difference: Of all numbers of the outputs; `None` as above.
        agreement: The share of rows for which both mean the same; see `Head.agrees`.
        tolerance: What the largest difference may be.
        least_agreement: What the agreement must be.
    """

    precision: str
    rows: int
    largest_difference: float | None
    mean_difference: float | None
    agreement: float
    tolerance: float
    least_agreement: float

    @property
    def holds(self) -> bool:
        """Whether it is still the same model."""
        return (
            self.largest_difference is not None
            and self.largest_difference <= self.tolerance
            and self.agreement >= self.least_agreement
        )

    def __str__(self) -> str:
        if self.largest_difference is None:
            return f"{self.precision}: its outputs are not finite"
        return (
            f"{self.precision}: largest difference {self.largest_difference:.2e} (at most "
            f"{self.tolerance:g}), {self.agreement:.2%} of {counted(self.rows, 'row')} agree "
            f"(at least {self.least_agreement:.2%})"
        )


def compare(
    head: Head, format: str, precision: str, expected: np.ndarray, found: np.ndarray
) -> Parity:
    """Compares the outputs of exported files with those of the model.

    Args:
        head: The head of the model, with what the differences may be.
        format: The name of the format.
        precision: What the files' weights are written in.
        expected: The output `Head.compared` of the model, `[rows, ...]`; with `Head.per_token` a
            row is a token.
        found: That of the files, of the same shape.

    Raises:
        JobError: The shapes differ.
    """
    found = np.asarray(found)
    if found.shape != expected.shape:
        raise JobError(
            f"The export has {found.shape[1:] or 'no'} numbers for "
            f"{counted(len(found), 'row')}, "
            f"and the model {expected.shape[1:]} for {len(expected)}; nothing was kept"
        )
    tolerance, least_agreement = head.limits_of(format, precision)
    finite = bool(np.isfinite(found).all())
    # In float64: the difference of large logits has few digits otherwise.
    differences = np.abs(found.astype(np.float64) - expected) if finite else None
    return Parity(
        precision,
        len(expected),
        float(differences.max()) if finite else None,
        float(differences.mean()) if finite else None,
        float(np.mean(head.agrees(expected, found))),
        tolerance,
        least_agreement,
    )


def refuse_if_broken(format: str, results: Sequence[Parity]) -> None:
    """Raises a `JobError` with the numbers if one of the results does not hold."""
    broken = [one for one in results if not one.holds]
    if broken:
        good = [one.precision for one in results if one.holds]
        raise JobError(
            "The outputs of the export differ from the model's; nothing was kept\n"
            + "\n".join(f"  {one}" for one in broken),
            where=f"--format {format}",
            fix=f"leave this one out: --precision {' --precision '.join(good)}"
            if good
            else "export to another format, and report this with these numbers",
        )


def write_report(
    folder: Path,
    format: str,
    task: str,
    head: Head,
    rows_from: str,
    engine: Engine,
    results: Sequence[Parity],
) -> None:
    """Writes `parity.json`.

    Args:
        folder: The folder.
        format: The name of the format.
        task: The name of the task.
        head: The head of the model.
        rows_from: What the rows are, in words.
        engine: What ran the files.
        results: What was compared.
    """
    report = {
        "format": format,
        "task": task,
        "head": dict(head.facts),
        "compared": head.compared_words,
        "rows_from": rows_from,
        "run_by": engine.name,
        "run_by_foreign_library": engine.foreign,
        "results": [{**asdict(one), "holds": one.holds} for one in results],
    }
    write_json(folder / FILE_NAME, report)
