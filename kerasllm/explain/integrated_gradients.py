"""Integrated gradients: the contribution of each token to an output, relative to a baseline.

Reference:
    M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep Networks", 2017,
    https://arxiv.org/abs/1703.01365.
    L. N. Trefethen, "Is Gauss Quadrature Better than Clenshaw-Curtis?", 2008,
    https://doi.org/10.1137/060659831.
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
        steps: Steps between the points at which gradients were taken.
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

    By Clenshaw-Curtis quadrature, whose error falls far faster with the number of points than that
    of a Riemann sum, and whose points are among those of twice as many steps. Without `steps` their
    number is doubled until the error is small enough.

    Args:
        path: The line.
        steps: Steps between the points at which gradients are taken. Defaults to `None`: 16 to
            1024, as needed.
        max_error: The largest completeness error, as a share of the sum of absolute values.
            Defaults to `0.01`.

    Raises:
        JobError: If the error is larger.
    """
    count = steps or _FEWEST
    shares, weights = _clenshaw_curtis(count)
    derivatives = path.derivatives(shares)
    while True:
        tokens = weights @ derivatives
        error = float(tokens.sum() - path.moved)
        output = max(abs(path.value), abs(path.baseline_value))
        size = max(float(np.abs(tokens).sum()), _FLOOR * output)
        relative = abs(error) / size if size else abs(error)
        final = steps or count >= _CHEAP
        if relative <= max_error * (1.0 if final else _AIM) and (
            final or _moved_by_doubling(derivatives, tokens) <= max_error * size
        ):
            return Integrated(tokens, count, error, relative)
        if steps or count >= _MOST:
            raise JobError(
                "The scores do not add up to the output: the completeness error is "
                f"{abs(error):.3g}, "
                f"{relative:.1%} of the total attribution, with {count} steps; the limit is "
                f"{max_error:.1%}",
                fix=f"use more steps: --steps {2 * count}"
                if 2 * count <= MOST_STEPS
                else "accept it with a larger --max-error, or try another --baseline",
            )
        count *= 2
        shares, weights = _clenshaw_curtis(count)
        between = path.derivatives(shares[1::2])
        derivatives = np.insert(derivatives, range(1, len(derivatives)), between, axis=0)


def _moved_by_doubling(derivatives: np.ndarray, tokens: np.ndarray) -> float:
    """Returns how far the score of any token was from what it is now, with half as many steps.

    Errors of tokens may cancel in their sum, which then is exact before they are.
    """
    _, weights = _clenshaw_curtis(len(derivatives) // 2)
    return float(np.abs(weights @ derivatives[::2] - tokens).max())


def _clenshaw_curtis(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns points from 0 to 1 and their weights, each float64 `[steps + 1]`."""
    waves = np.arange(steps // 2 + 1)
    weights = np.fft.irfft(1 / (1 - 4.0 * waves**2), steps)
    weights = np.append(weights, weights[0])
    weights[[0, -1]] /= 2
    return (1 - np.cos(np.pi * np.arange(steps + 1) / steps)) / 2, weights
