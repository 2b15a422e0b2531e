"""MLflow: a server at MLFLOW_TRACKING_URI, or a database."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasllm.tracking.tracker import Tracker

# Of the server's API.
_MOST_METRICS, _MOST_PARAMS, _LONGEST_VALUE = 1000, 100, 6000


class MLflow(Tracker):
    """A run of an MLflow experiment, by its client alone: nothing of the process is changed."""

    package = "mlflow"

    def __init__(self, folder: Path, facts: Mapping[str, Any], id: str | None = None):
        # A server that is gone should cost seconds, and not the minutes of MLflow's own patience.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        import mlflow
        from mlflow.entities import Param

        self._client = mlflow.MlflowClient()
        if id is None:
            experiment = self._experiment(facts["project"])
            run = self._client.create_run(experiment, run_name=facts["name"])
            id = run.info.run_id
            params = [Param(key, value[:_LONGEST_VALUE]) for key, value in facts["recipe"].items()]
            for first in range(0, len(params), _MOST_PARAMS):
                self._client.log_batch(id, params=params[first : first + _MOST_PARAMS])
            self._client.log_artifact(id, str(folder / "recipe.yaml"))
        else:
            self._client.update_run(id, status="RUNNING")
        self.id = id
        self.where = f"{mlflow.get_tracking_uri()}, experiment {facts['project']}, run {id}"

    def _experiment(self, project: str) -> str:
        if named := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return named
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", project)
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def log(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, step) for step, row in rows for name, value in row.items()
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self.id, metrics=metrics[first : first + _MOST_METRICS])

    def finish(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in summary.items():
            if isinstance(value, float):
                self._client.log_batch(self.id, metrics=[Metric(name, value, now, 0)])
            else:
                self._client.set_tag(self.id, name, str(value))
        for file in files:
            self._client.log_artifact(self.id, str(file))

    def close(self, *, finished: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")
