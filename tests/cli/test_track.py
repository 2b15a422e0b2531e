"""`finetune --track` and `kerasllm track push`, as they are typed."""

import pytest

from kerasllm.run import Run
from tests.conftest import toy_settings


@pytest.fixture
def store(tmp_path, monkeypatch) -> str:
    """The address of an MLflow store on the disk."""
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


def test_a_training_ends_well_though_its_tracker_is_gone_and_is_sent_later(
    kerasllm, toy_data, toy_preset, store, monkeypatch
):
    # Nobody listens there.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = toy_data / "run"
    settings = [*toy_settings(toy_data, toy_preset), "training.epochs=1", "data.buckets=1"]
    options = [f"--set={setting}" for setting in settings]
    ran = kerasllm(
        "finetune", "--recipe", "bert_cls", *options, "--track", "mlflow", "--output", folder
    )
    assert ran.status == 0
    assert ran.err.count("mlflow did not accept the metrics") == 1
    run = Run.open(folder)
    assert run.read_metrics()["test"]
    assert kerasllm("track", "push", folder).status == 1

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert kerasllm("track", "push", folder).status == 0
    from mlflow import MlflowClient

    client = MlflowClient()
    ids = [each.experiment_id for each in client.search_experiments()]
    [found] = client.search_runs(ids)
    accuracy = run.read_metrics()["test"]["accuracy"]
    assert found.data.metrics["final/test/accuracy"] == pytest.approx(accuracy)
    assert found.data.tags["model_fingerprint"]
    assert client.get_metric_history(found.info.run_id, "train/loss")
    again = kerasllm("track", "push", folder)
    assert again.status == 0 and "everything was already sent" in again.err


def test_push_refuses_what_is_no_run(kerasllm, tmp_path):
    ran = kerasllm("track", "push", tmp_path)
    assert ran.status == 2 and "no run with metrics" in ran.err
