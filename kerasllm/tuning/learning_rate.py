"""The learning rate suggested by a range test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of the steps: as many as a running mean is of, and as the slope is measured over.
_WINDOW = 0.1
# Times the lowest loss, where a training has diverged.
_DIVERGED = 2.0


def running_mean(losses: Sequence[float]) -> np.ndarray:
    """Returns the mean of the losses around each step; fewer at the ends."""
    values = np.asarray(losses, float)
    window = np.ones(max(round(_WINDOW * len(values)), 1) | 1)
    count = np.convolve(np.ones(len(values)), window, "same")
    return np.convolve(values, window, "same") / count


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether a range test need not continue: the loss has risen far above its lowest."""
    if not np.isfinite(losses[-1]):
        return True
    return len(losses) > 10 and np.mean(losses[-3:]) > _DIVERGED * min(running_mean(losses))


def suggested(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Returns the rate at which the loss falls fastest, up to its lowest; `None` if it does not.

    Args:
        rates: The learning rate of each step, rising.
        losses: The loss of each step.

    Example:

    >>> rates = [10.0 ** (-6 + step / 20) for step in range(100)]
    >>> losses = [1 - 0.4 / (1 + (1e-4 / rate) ** 2) + rate for rate in rates]
    >>> 3e-5 < suggested(rates, losses) < 3e-4
    True
    """
    smooth = running_mean(losses)
    lowest = int(np.argmin(smooth))
    # A slope needs some steps, and a fall must be more than the noise of single batches.
    noise = float(np.std(np.asarray(losses, float) - smooth))
    noise /= np.sqrt(max(_WINDOW * len(losses), 1))
    if lowest < 4 or smooth[0] - smooth[lowest] < 4 * noise:
        return None
    slopes = np.gradient(smooth, np.log(np.asarray(rates, float)))[: lowest + 1]
    return float(f"{rates[int(np.argmin(slopes))]:.2g}")
