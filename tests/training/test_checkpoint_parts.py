"""Arrays that several processes wrote in parts are read as whole ones, or not at all."""

import json

import numpy as np
import pytest

from kerasllm.errors import RunError
from kerasllm.training.checkpoint_parts import joined, part_name
from kerasllm.training.checkpoints import CheckpointStore

WHOLE = np.arange(24, dtype=np.float32).reshape(4, 6)
ROWS = [(slice(0, 2), slice(None)), (slice(2, 4), slice(None))]
NAMES = [part_name("model/kernel", index, WHOLE.shape) for index in ROWS]


def test_parts_are_joined_whatever_file_they_are_in():
    files = [{NAMES[0]: WHOLE[:2], "count": np.array(3)}, {NAMES[1]: WHOLE[2:]}]
    found = joined(files)
    assert found.keys() == {"model/kernel", "count"}
    np.testing.assert_array_equal(found["model/kernel"], WHOLE)
    assert NAMES[1] == "model/kernel@2:4,0:6"
    assert part_name("kernel", (slice(None), slice(0, 6)), WHOLE.shape) == "kernel"


@pytest.mark.parametrize(
    "files",
    [[{NAMES[1]: WHOLE[2:]}], [{NAMES[0]: WHOLE[:1], NAMES[1]: WHOLE[2:]}]],
    ids=["missing", "cut off"],
)
def test_what_does_not_fit_together_is_refused(files):
    with pytest.raises(ValueError, match="model/kernel"):
        joined(files)


@pytest.fixture
def saved(tmp_path):
    """A store with a checkpoint that two processes wrote."""
    store = CheckpointStore(tmp_path / "checkpoints", problem=lambda state: None)
    other = CheckpointStore(tmp_path / "checkpoints")
    other.write_part(5, 1, {NAMES[1]: WHOLE[2:]})
    store.save(5, {NAMES[0]: WHOLE[:2]}, {"at": 5}, others=1)
    store.wait()
    return store


def test_a_checkpoint_of_two_processes_is_read_by_one(saved):
    np.testing.assert_array_equal(saved.read(5).arrays["model/kernel"], WHOLE)
    folder = saved.folder / "step-5"
    assert {path.name for path in saved.folder.iterdir()} == {"step-5"}
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert files.keys() == {"arrays.safetensors", "arrays-1.safetensors", "state.json"}


def test_the_part_of_another_process_is_verified(saved):
    part = saved.folder / "step-5" / "arrays-1.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match="arrays-1.safetensors does not match its checksum"):
        saved.read(5)
    part.unlink()
    with pytest.raises(RunError, match="is missing"):
        saved.read(5)


def test_a_part_that_nobody_took_is_removed_by_the_next_save(saved):
    saved.write_part(6, 1, {NAMES[1]: WHOLE[2:]})
    saved.save(7, {"kernel": WHOLE}, {"at": 7})
    saved.wait()
    assert {path.name for path in saved.folder.iterdir()} == {"step-5", "step-7"}
