"""Parity: whether what was exported still says what the model says, on real texts of its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kerasllm.errors import JobError
from kerasllm.run import write_json

FILE_NAME = "parity.json"
"""The file that holds the report, and marks a folder as an export of kerasllm's."""


@dataclass(frozen=True)
class Parity:
    """How far exported files are from the model.

    Args:
        precision: What the files' weights are written in.
        rows: How many texts both were asked about.
        largest_difference: Of any number that came out; `None` if not all of them are finite.
        mean_difference: Of all numbers that came out; `None` as above.
        agreement: The share of rows with the same label, or the same likeliest next token.
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
            return f"{self.precision}: it gives numbers that are not finite"
        return (
            f"{self.precision}: largest difference {self.largest_difference:.2e} (at most "
            f"{self.tolerance:g}), {self.agreement:.2%} of {self.rows:,} rows agree (at least "
            f"{self.least_agreement:.2%})"
        )


def compare(
    precision: str,
    expected: np.ndarray,
    found: np.ndarray,
    *,
    tolerance: float,
    least_agreement: float,
) -> Parity:
    """Compares what the exported files say with what the model says.

    Args:
        precision: What the files' weights are written in.
        expected: What the model says, float `[rows, classes or vocabulary]`.
        found: What the files say, of the same shape.
        tolerance: What the largest difference may be.
        least_agreement: What the share of rows with the same largest number must be.

    Raises:
        JobError: The shapes differ.
    """
    found = np.asarray(found)
    if found.shape != expected.shape:
        raise JobError(
            f"What was exported gives {found.shape[-1:] or 'no'} numbers for {len(found)} rows, "
            f"and the model {expected.shape[-1:]} for {len(expected)}; nothing was kept"
        )
    agreement = float(np.mean(found.argmax(axis=-1) == expected.argmax(axis=-1)))
    finite = bool(np.isfinite(found).all())
    # In float64: the difference of large logits has few digits otherwise.
    differences = np.abs(found.astype(np.float64) - expected) if finite else None
    return Parity(
        precision,
        len(expected),
        float(differences.max()) if finite else None,
        float(differences.mean()) if finite else None,
        agreement,
        tolerance,
        least_agreement,
    )


def refuse_if_broken(format: str, results: Sequence[Parity]) -> None:
    """Raises a `JobError` with the numbers if one of the results does not hold."""
    broken = [one for one in results if not one.holds]
    if broken:
        good = [one.precision for one in results if one.holds]
        raise JobError(
            "What was exported is not the model any more; nothing was kept\n"
            + "\n".join(f"  {one}" for one in broken),
            where=f"--format {format}",
            fix=f"leave it out: --precision {' --precision '.join(good)}"
            if good
            else "export another format, and tell the makers of kerasllm with these numbers",
        )


def write_report(
    folder: Path, format: str, task: str, rows_from: str, results: Sequence[Parity]
) -> None:
    """Writes `parity.json`."""
    report = {
        "format": format,
        "task": task,
        "compared": compared(task),
        "rows_from": rows_from,
        "results": [{**asdict(one), "holds": one.holds} for one in results],
    }
    write_json(folder / FILE_NAME, report)


def compared(task: str) -> str:
    """Returns what is compared, in words."""
    if task == "text_classification":
        return "the probabilities of all labels"
    return "the logits of the token behind each row"
