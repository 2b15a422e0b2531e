"""A run directory on an object store: committed piece by piece, and fetched to be continued."""

import json
import shutil

import numpy as np
import pytest

from kerasllm.errors import JobError, RunError, StorageError
from kerasllm.run import Run
from kerasllm.training.checkpoints import CheckpointStore
from kerasllm.workflows import remote_run
from kerasllm.workflows.remote_run import RemoteRun

ADDRESS = "s3://bucket/runs/one"


@pytest.fixture
def notes():
    return []


@pytest.fixture
def begin(notes):
    return lambda resume=False: RemoteRun(ADDRESS, resume=resume, warn=notes.append)


def write(remote, **files):
    remote.local.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (remote.local / name.replace("_", ".", 1)).write_text(text)


def store_of(remote, **options):
    return CheckpointStore(remote.local / "checkpoints", saved=remote.sync, **options)


def save(store, *steps):
    with store:
        for step in steps:
            store.save(step, {"weight": np.full(3, step, np.float32)}, {"epoch": step})


def names(s3):
    return [name.removeprefix("runs/one/") for name in s3.names("bucket")]


def test_a_run_is_mirrored_and_fetched(s3, begin, tmp_path):
    remote = begin()
    write(remote, recipe_yaml="task: x\n")
    remote.finish()
    assert names(s3) == ["recipe.yaml"]
    write(remote, metrics_jsonl="{}\n", recipe_yaml="task: x\n")
    save(store_of(remote), 1, 2, 3)
    assert [name for name in names(s3) if name.endswith(".committed")] == [
        "checkpoints/step-2.committed",
        "checkpoints/step-3.committed",
    ]
    assert not any("step-1" in name for name in names(s3)), "old checkpoints go there too"
    shutil.rmtree(tmp_path / "cache")  # Another machine.
    again = begin(resume=True)
    newest = CheckpointStore(again.local / "checkpoints").newest()
    assert newest.step == 3 and newest.arrays["weight"].tolist() == [3, 3, 3]
    assert (again.local / "metrics.jsonl").read_text() == "{}\n"


def test_what_was_not_committed_is_not_read(s3, begin, tmp_path, monkeypatch):
    remote = begin()
    write(remote, recipe_yaml="task: x\n")
    save(store_of(remote), 1)
    write_object = type(remote._place).write

    def broken(self, name, source):
        if "step-2" in name and (name.endswith(".committed") or "state" in name):
            raise StorageError("the network is gone")
        return write_object(self, name, source)

    monkeypatch.setattr(remote_run, "_PAUSE", 0)
    with monkeypatch.context() as network:
        network.setattr(type(remote._place), "write", broken)
        save(store_of(remote), 2)
    assert "checkpoints/step-1.committed" in names(s3), "the old one stays until the new one is"
    shutil.rmtree(tmp_path / "cache")  # Another machine.
    again = begin(resume=True)
    assert CheckpointStore(again.local / "checkpoints").steps() == [1]
    again.finish()
    assert not any("step-2" in name for name in names(s3)), "what was left is removed"


def test_a_store_that_fails_does_not_end_the_training(s3, begin, notes, monkeypatch):
    remote = begin()
    write(remote, recipe_yaml="task: x\n")
    remote.finish()
    monkeypatch.setattr(remote_run, "_PAUSE", 0)

    def refuse(self, name, source):
        raise StorageError("the network is gone")

    with monkeypatch.context() as network:
        network.setattr(type(remote._place), "write", refuse)
        save(store_of(remote), 1)
        assert notes and "the network is gone; training continues" in notes[0]
        with pytest.raises(JobError, match="cannot be written to the store") as caught:
            remote.finish()
        assert str(remote.local) in caught.value.fix
    remote.finish()
    assert "checkpoints/step-1.committed" in names(s3)


def test_what_the_store_did_not_take_is_not_lost(s3, begin, monkeypatch):
    remote = begin()
    write(remote, recipe_yaml="task: x\n")
    save(store_of(remote), 1)
    monkeypatch.setattr(remote_run, "_PAUSE", 0)
    with monkeypatch.context() as network:
        network.setattr(type(remote._place), "write", lambda self, *given: _gone())
        save(store_of(remote), 2)
    assert "checkpoints/step-2.committed" not in names(s3)
    again = begin(resume=True)
    assert CheckpointStore(again.local / "checkpoints").newest().step == 2
    assert "checkpoints/step-2.committed" in names(s3)
    for name in s3.names("bucket"):
        s3.client.delete_object(Bucket="bucket", Key=name)
    new = begin()
    assert not new.local.exists()
    assert (new.local.with_name("worker-0-before") / "checkpoints/step-2").is_dir()


def _gone():
    raise StorageError("the network is gone")


def test_a_run_that_is_being_trained_is_left_alone(s3, begin):
    remote = begin()
    write(remote, recipe_yaml="task: x\n")
    remote.finish()
    with Run(remote.local).locked(), pytest.raises(RunError, match="Another process"):
        begin(resume=True)
    assert (remote.local / "recipe.yaml").is_file()


def test_metrics_come_last_and_go_first(s3, begin, monkeypatch):
    remote = begin()
    write(remote, recipe_yaml="task: x\n", metrics_json="{}")
    order = []
    place = type(remote._place)
    write_object, delete = place.write, place.delete
    monkeypatch.setattr(
        place, "write", lambda self, *a: (order.append(a[0]), write_object(self, *a))[1]
    )
    monkeypatch.setattr(
        place, "delete", lambda self, name: (order.append(f"-{name}"), delete(self, name))[1]
    )
    (remote.local / "model").mkdir()
    (remote.local / "model/config.json").write_text("{}")
    remote.finish()
    assert order[-1] == "metrics.json" and len(order) == 3
    again = begin(resume=True)
    (again.local / "metrics.json").unlink()
    order.clear()
    (again.local / "recipe.yaml").write_text("task: y\n")
    again.finish()
    assert order == ["-metrics.json", "recipe.yaml"]
    order.clear()
    again.finish()
    assert order == [], "what did not change is not written again"


def test_a_checkpoint_that_is_saved_again_is_committed_again(s3, begin):
    remote = begin()
    write(remote, recipe_yaml="task: x\n")
    save(store_of(remote), 1)
    save(store_of(remote), 1)
    mark = s3.client.get_object(Bucket="bucket", Key="runs/one/checkpoints/step-1.committed")
    listed = json.loads(mark["Body"].read())
    assert {f"runs/one/{name}" for name in listed} <= {*s3.names("bucket")}


@pytest.mark.parametrize(
    ("there", "what"),
    [
        (["metrics.json", "recipe.yaml"], "holds a finished run"),
        (["recipe.yaml"], "holds a run that did not finish"),
        (["notes.txt"], "is not empty"),
    ],
)
def test_a_place_that_holds_something_is_refused(s3, begin, there, what):
    for name in there:
        s3.put("bucket", f"runs/one/{name}", b"{}")
    with pytest.raises(RunError, match=what):
        begin()


def test_places_that_cannot_be_written(s3):
    with pytest.raises(RunError, match="A run cannot be written to https://") as caught:
        RemoteRun("https://host/run?sig=secret", resume=False, warn=print)
    assert "s3://" in caught.value.fix and "secret" not in str(caught.value)
    with pytest.raises(RunError, match="There is no run to resume"):
        remote_run.read_recipe("s3://bucket/none")
