"""Checkpoints that somebody forged, checksums and all: passed over or refused, and never run."""

import copy
import hashlib
import json
import os
import pickle
import random

import numpy as np
import pytest
import safetensors.numpy

from kerasllm.errors import RunError
from kerasllm.training.checkpoint_files import ARRAYS, DIGEST, MANIFEST, STATE
from kerasllm.training.checkpoint_state import problem_of
from kerasllm.training.checkpoints import CheckpointStore

STATE_OF_A_RUN = {
    "recipe": {"task": "text_classification", "model": {}, "data": {}, "training": {"epochs": 2}},
    "data": {"train": "607b"},
    "precision": "float32",
    "xla": False,
    "fused": True,
    "slices": 2,
    "steps_per_epoch": 7,
    "frozen": "e3b0",
    "epoch_ended": True,
    "states": {
        "guard": {"in_a_row": 0},
        "monitor": {
            "steps": 3,
            "seconds": 6.25,
            "real_tokens": 21636,
            "processed_tokens": 25920,
            "skipped": 0,
            "shapes": [21, 25],
            "last_step": {"epoch": 6.0, "learning_rate": 1e-4, "gradient_norm": float("inf")},
            "epoch_metrics": {"loss": 0.02, "accuracy": 1},
            "since_row": {"losses": [0.5], "tokens": 3, "seconds": 0.5, "input_seconds": 0.0},
            "metric_sums": {"loss": [5.25, 216.0]},
        },
        "log": {"rows": 20},
        "validation": {
            "best_step": None,
            "result": {"loss": 0.02, "per_class": {"a": {"f1": 1.0}}},
            "_steps": 3,
            "_validated_at": 3,
            "_best": float("-inf"),
            "_waited": 0,
        },
    },
}
WRONG = (None, True, -1, 0, 1 << 80, 0.5, float("nan"), "", "7", [], [1], {}, {"a": 1}, [[]] * 3)


class Unpickled:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Two checkpoints; what is warned of is in `warned`."""
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore(tmp_path / "checkpoints", problem=problem_of, warn=(told := []).append)
    store.warned = told
    for step in (2, 3):
        store.save(step, {"model/00000/kernel": np.ones((2, 3), np.float32)}, STATE_OF_A_RUN)
        store.wait()
    return store


def forge(folder, **files):
    """Puts other files into a checkpoint, and checksums that agree with them."""
    names = {"arrays": ARRAYS, "state": STATE, "manifest": MANIFEST}
    for name, content in files.items():
        (folder / names[name]).write_bytes(content)
    if "manifest" not in files:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name in (ARRAYS, STATE):
            content = (folder / name).read_bytes()
            facts = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            manifest["files"][name] = facts
        (folder / MANIFEST).write_text(json.dumps(manifest))
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    (folder / DIGEST).write_bytes(f"{digest}  {MANIFEST}\n".encode())


def places(value, path=()):
    """Yields the path of each value within a value."""
    yield path
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield from places(value[key], (*path, key))


def changed(path, new):
    """Returns the state with another value at a place; without it, for `...`."""
    if not path:
        return new
    state = copy.deepcopy(STATE_OF_A_RUN)
    holder = state
    for key in path[:-1]:
        holder = holder[key]
    if new is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return state


def test_what_kerasllm_writes_is_read(store):
    assert store.newest().step == 3 and problem_of(STATE_OF_A_RUN) is None
    assert store.newest_state()["steps_per_epoch"] == 7 and not store.warned


@pytest.mark.parametrize(
    "files",
    [
        {"state": b""},
        {"state": b"[" * 100_000},
        {"state": b"\xff\xfe"},
        {"state": b"[]"},
        {"state": b'{"a": {"$float": "seven"}}'},
        {"state": b'{"a": {"$float": []}}'},
        {"state": b'{"a": ' + b"9" * 10_000 + b"}"},
        {"state": pickle.dumps(Unpickled())},
        {"arrays": b""},
        {"arrays": pickle.dumps(Unpickled())},
        {"arrays": b"\xff" * 8 + b"{}"},
        {"arrays": (9).to_bytes(8, "little") + b'{"a": 7}}'},
        {"arrays": (1 << 60).to_bytes(8, "little") + b"{}"},
        {"manifest": b""},
        {"manifest": b"null"},
        {"manifest": b"[" * 100_000},
        {"manifest": b'{"format": 1}'},
        {"manifest": b'{"format": "1", "step": 3, "best": false, "files": {}}'},
        {"manifest": b'{"format": 1, "step": 3, "best": 7, "files": {}}'},
        {"manifest": b'{"format": 1, "step": 3, "best": true, "files": {"../../x": {}}}'},
        {"manifest": pickle.dumps(Unpickled())},
    ],
)
def test_files_of_another_kind_are_passed_over(store, tmp_path, files):
    forge(tmp_path / "checkpoints/step-3", **files)
    assert store.newest().step == 2
    assert [line for line in store.warned if "step-3 is damaged" in line]
    assert not (tmp_path / "unpickled").exists()
    with pytest.raises(RunError, match="step-3 is damaged"):
        store.read(3)


@pytest.mark.parametrize("name", [ARRAYS, STATE, MANIFEST, DIGEST])
def test_what_is_no_file_is_passed_over(store, tmp_path, name):
    file = tmp_path / "checkpoints/step-3" / name
    for make in (os.mkdir, os.mkfifo, lambda path: os.symlink(name, path)):
        file.unlink() if not file.is_dir() else file.rmdir()
        make(file)
        assert store.newest().step == 2


def test_each_value_of_a_state_is_of_its_kind(store, tmp_path):
    """Whatever stands in a state is taken where it may be, or the checkpoint is passed over."""
    draw, taken = random.Random(7), 0
    for path in places(STATE_OF_A_RUN):
        for new in (..., *WRONG) if path else WRONG:
            state = changed(path, new)
            if problem_of(state) is None:
                taken += 1
                continue
            if draw.random() < 0.05:
                text = json.dumps(state).encode()
                forge(tmp_path / "checkpoints/step-3", state=text)
                assert store.newest().step == 2 and store.newest_state() is not None
    # Of some keys older checkpoints have none, and some are not read.
    assert taken < 250


@pytest.mark.parametrize("path", ["steps_per_epoch", "states", "recipe", "frozen", "epoch_ended"])
def test_what_a_resumed_run_needs_must_be_there(path):
    assert path in problem_of(changed((path,), ...))


def test_arrays_may_have_any_dtype_but_a_pickled_one(store, tmp_path):
    arrays = safetensors.numpy.save({"model/00000/kernel": np.ones((9, 9), np.int8)})
    forge(tmp_path / "checkpoints/step-3", arrays=arrays)
    # Whether they fit the model is known once there is one.
    assert store.newest().arrays["model/00000/kernel"].dtype == np.int8
