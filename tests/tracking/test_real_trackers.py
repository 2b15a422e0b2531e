"""Real trackers, offline: an MLflow store on the disk, W&B's offline mode, Trackio's database."""

import json
import time

import pytest

from kerasllm.tracking.sending import Sending
from tests.tracking.test_tracking import add_rows, end, run  # noqa: F401 - a fixture


def send_twice(run, name: str) -> None:
    """Sends a run that is interrupted and continued, each time by a process of its own."""
    first = Sending(run, name)
    first.send()
    first.close()
    add_rows(run, 4, 5)
    end(run)
    second = Sending(run, name)
    second.send()
    second.close()


def test_mlflow_has_one_run_with_curves_parameters_files_and_fingerprint(
    run,
    tmp_path,
    monkeypatch,
):
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    send_twice(run, "mlflow")
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("kerasllm-" + "text_classification")
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == "my_run"
    assert found.data.params["training.learning_rate"] == "0.0001"
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in history] == [(n, 1 / n) for n in range(1, 6)]
    assert found.data.metrics["validation/accuracy"] == 0.9
    assert found.data.metrics["final/test/accuracy"] == 0.8
    assert len(found.data.tags["model_fingerprint"]) == 64
    files = {each.path for each in client.list_artifacts(found.info.run_id)}
    assert {"recipe.yaml", "metrics.json"} <= files


def test_wandb_keeps_a_run_offline_under_one_id(run, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    send_twice(run, "wandb")
    state = json.loads((run.path / "tracking.json").read_text())["wandb"]
    kept = list((run.path / "wandb").glob("offline-run-*"))
    assert len(kept) == 2 and all(state["id"] in folder.name for folder in kept)
    wanted = (b"train/loss", b"validation/accuracy", b"model_fingerprint")
    deadline = time.monotonic() + 20
    while True:
        files = [file for folder in kept for file in folder.glob("*.wandb")]
        written = b"".join(file.read_bytes() for file in files)
        # Its own process writes, a moment later.
        if all(name in written for name in wanted) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert [name for name in wanted if name not in written] == []


def test_trackio_has_the_rows_of_one_run(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="needs the extra trackio")
    send_twice(run, "trackio")
    assert trackio
    assert any((tmp_path / "trackio").rglob("*.db"))
