"""Integrated gradients: what each token added to an output, on the way from a baseline.

Reference:
    M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep Networks", 2017,
    https://arxiv.org/abs/1703.01365.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kerasllm.errors import JobError
from kerasllm.explain.explanation import MOST_STEPS
from kerasllm.explain.path import Path

_FEWEST, _MOST = 16, 1024
# A tenth of the error that is accepted is aimed at, as long as it takes no more steps than these.
_AIM, _CHEAP = 0.1, 128
# What moves the output less than by this share of it is known to fewer digits in float32.
_FLOOR = 0.01
MAX_ERROR = 0.01
"""The largest completeness error of an explanation, as a share of the sum of absolute scores."""


class Integrated(NamedTuple):
    """What was integrated.

    Attributes:
        tokens: float64 `[tokens]`, what each token added.
        steps: Points at which gradients were taken.
        error: How far the sum of `tokens` is from what the text moved the output.
        relative_error: That, as a share of the sum of absolute values of `tokens`, or of a
            hundredth of the output where that is more.
    """

    tokens: np.ndarray
    steps: int
    error: float
    relative_error: float


def integrated_gradients(
    path: Path, *, steps: int | None = None, max_error: float = MAX_ERROR
) -> Integrated:
    """Integrates gradients along the line from the baseline to the text.

    By Gauss-Legendre quadrature, whose error falls far faster with the number of points than that
    of a Riemann sum. Without `steps` their number is doubled until the error is small enough.

    Args:
        path: The line.
        steps: Points at which gradients are taken. Defaults to `None`: 16 to 1024, as needed.
        max_error: The largest completeness error, as a share of the sum of absolute values.
            Defaults to `0.01`.

    Raises:
        JobError: If the error is larger.
    """
    difference = (path.text - path.baseline).numpy().astype(np.float64)
    points = steps or _FEWEST
    while True:
        nodes, weights = np.polynomial.legendre.leggauss(points)
        gradients = path.gradients((nodes + 1) / 2, weights / 2)
        tokens = (gradients * difference).sum(axis=-1)
        error = float(tokens.sum() - path.moved)
        output = max(abs(path.value), abs(path.baseline_value))
        size = max(float(np.abs(tokens).sum()), _FLOOR * output)
        relative = abs(error) / size if size else abs(error)
        aim = 1.0 if steps or points >= _CHEAP else _AIM
        if relative <= max_error * aim:
            return Integrated(tokens, points, error, relative)
        if steps or points >= _MOST:
            raise JobError(
                "The scores do not add up to the output: the completeness error is "
                f"{abs(error):.3g}, "
                f"{relative:.1%} of the total attribution, with {points} steps; the limit is "
                f"{max_error:.1%}",
                fix=f"use more steps: --steps {2 * points}"
                if 2 * points <= MOST_STEPS
                else "accept it with a larger --max-error, or try another --baseline",
            )
        points *= 2
