"""The mean of each metric since the last logged row, beside the epoch's own, which Keras keeps."""

from __future__ import annotations

import keras
import numpy as np


class MetricSums:
    """Takes the difference of what metrics have added up, from one row to the next.

    The metrics are read and not changed: what they say of the epoch stays as it is. One that is no
    mean of what was added, such as an AUC, has no value between two rows.

    Args:
        sums: What `state` gave, to continue. Defaults to `None`: an epoch begins.

    Attributes:
        state: `[total, count]` of each metric at the last row, by name.

    Example:

    ```python
    sums = MetricSums()
    model.train_on_batch(*first)
    sums.since_last(model.metrics)  # {"loss": 0.7, "accuracy": 0.5}
    model.train_on_batch(*second)
    sums.since_last(model.metrics)  # of the second batch alone
    ```
    """

    def __init__(self, sums: dict[str, list[float]] | None = None):
        self.state = dict(sums or {})

    def since_last(self, metrics: list[keras.metrics.Metric]) -> dict[str, float]:
        """Returns the mean of each metric since the last call, by name.

        With several workers all of them call it at the same step: what they added is summed up.
        """
        found = {}
        for metric in metrics:
            if not _adds_up(metric):
                continue
            now = [float(np.asarray(variable.numpy())) for variable in metric.variables]
            before = self.state.get(metric.name, [0.0, 0.0])
            total, count = (np.float32(a - b) for a, b in zip(now, before, strict=True))
            self.state[metric.name] = now
            if count:
                found[metric.name] = float(metric.stateless_result([total, count]))
        return found


def _adds_up(metric: keras.metrics.Metric) -> bool:
    """Returns whether a metric is made of a total and a count."""
    return isinstance(metric, keras.metrics.Mean) and [
        variable.path.rpartition("/")[2] for variable in metric.variables
    ] == ["total", "count"]
