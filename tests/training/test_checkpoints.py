"""Checkpoints come back exactly, survive kills, full disks and damage, and old ones go."""

import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from kerasllm.errors import JobError, RunError
from kerasllm.training import checkpoint_files, checkpoints
from kerasllm.training.checkpoint_files import decode_state, encode_state
from kerasllm.training.checkpoints import CheckpointStore

FILES = ("arrays.safetensors", "state.json", "manifest.json", "manifest.sha256")


class Killed(BaseException):
    """Ends a save where it is, as SIGKILL does: nothing tidies up after it."""


def content(step: int) -> dict[str, np.ndarray]:
    return {"kernel": np.full((3, 5), step, np.float32), "seed": np.array(step, np.uint32)}


def save(store: CheckpointStore, *steps: int, best: bool = False) -> None:
    for step in steps:
        store.save(step, content(step), {"step": step}, best=best)
    store.wait()


def assert_is(checkpoint, step: int) -> None:
    assert checkpoint.step == step and checkpoint.state == {"step": step}
    assert_same(checkpoint.arrays, content(step))


def assert_same(arrays, expected) -> None:
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        found = arrays[name]
        assert found.dtype == array.dtype.newbyteorder("=") and found.shape == array.shape
        # The bytes: a NaN is not equal to itself, and -0.0 is equal to 0.0.
        assert found.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def store_of(folder: Path, **options) -> CheckpointStore:
    """A store that may not meet a damaged checkpoint."""
    return CheckpointStore(folder, warn=pytest.fail, **options)


# What goes in comes out.

_SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
_BFLOAT16 = hnp.arrays(np.uint16, _SHAPES).map(lambda bits: bits.view(ml_dtypes.bfloat16))
_NUMBERS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=64),
).flatmap(lambda dtype: hnp.arrays(dtype, _SHAPES))
# Rows that do not lie one after the other in memory.
_VIEWS = (lambda array: array, lambda array: array.T, lambda array: array[..., ::2])
_ARRAYS = st.builds(
    lambda array, view: view(array) if array.ndim else array,
    _BFLOAT16 | _NUMBERS,
    st.sampled_from(_VIEWS),
)


@settings(max_examples=50)
@given(
    arrays=st.dictionaries(
        st.text(max_size=20).filter(lambda name: name != "__metadata__"), _ARRAYS, max_size=5
    )
)
@example(arrays={})
@example(arrays={"a/b:0": np.array(-0.0, np.float16), "": np.empty((0, 4), np.int32)})
def test_arrays_come_back_bit_by_bit(arrays):
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(folder)
        store.save(1, arrays, {})
        store.wait()
        assert_same(store.newest().arrays, arrays)
        assert_same(load_file(f"{folder}/step-1/arrays.safetensors"), arrays)


@settings(max_examples=50)
@given(
    state=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        ),
    ).filter(lambda state: "$float" not in repr(state))
)
@example(state={"best": float("-inf"), "loss": [float("nan")], "seed": 2**128 + 1})
def test_a_state_comes_back_and_is_json_for_all(state):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    text = encode_state(state)
    json.loads(text, parse_constant=refuse)
    assert repr(decode_state(text)) == repr(state)


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": [1, (2, 3)]}, r"state\['a'\]\[1\] .*tuple"),
        ({"a": np.float32(1)}, r"state\['a'\] .*float32"),
        ({"a": {1: 2}}, r"state\['a'\] has the key 1"),
        ({"$float": "inf"}, r"has the key '\$float'"),
    ],
)
def test_a_state_that_would_come_back_changed_is_refused_at_once(tmp_path, state, where):
    with pytest.raises((TypeError, ValueError), match=where):
        CheckpointStore(tmp_path).save(1, {}, state)


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"w": np.array(["text"])}, "'w'.*<U4"),
        ({"w": np.array([None])}, "'w'.*object"),
        ({"w": np.zeros(2, np.complex128)}, "'w'.*complex128"),
        ({"w": [1.0]}, "'w'.*list"),
        ({"__metadata__": np.zeros(2)}, "__metadata__"),
    ],
)
def test_an_array_that_cannot_be_stored_is_refused_at_once(tmp_path, arrays, what):
    with pytest.raises((TypeError, ValueError), match=what):
        CheckpointStore(tmp_path).save(1, arrays, {})


def test_the_files_are_what_other_tools_read(tmp_path):
    store = store_of(tmp_path)
    save(store, 7)
    folder = tmp_path / "step-7"
    assert names(folder) == sorted(FILES)
    manifest = (folder / "manifest.json").read_bytes()
    line = f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n"
    assert (folder / "manifest.sha256").read_text() == line
    assert json.loads(manifest)["format"] == 1
    assert len({(folder / name).stat().st_mode for name in FILES}) == 1


# In the background.


def test_a_save_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    go = threading.Event()
    write = checkpoints.write_checkpoint

    def slow(*args):
        go.wait(30)
        write(*args)

    monkeypatch.setattr(checkpoints, "write_checkpoint", slow)
    store, state = store_of(tmp_path), {"step": 1}
    store.save(1, content(1), state)
    state["step"] = 2
    assert store.steps() == [] and store.newest() is None
    go.set()
    store.wait()
    assert_is(store.newest(), 1)


@pytest.mark.parametrize("ended_by", [None, KeyboardInterrupt, Killed])
def test_after_its_context_nothing_is_written_any_more(tmp_path, monkeypatch, ended_by):
    write = checkpoints.write_checkpoint
    monkeypatch.setattr(checkpoints, "write_checkpoint", lambda *a: time.sleep(0.3) or write(*a))
    with suppress(ended_by or ()), store_of(tmp_path) as store:
        store.save(1, content(1), {"step": 1})
        if ended_by:
            raise ended_by
    assert_is(store_of(tmp_path).newest(), 1)


def test_a_failed_save_does_not_hide_what_ended_the_context(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    warnings = []
    with pytest.raises(KeyboardInterrupt):
        with CheckpointStore(tmp_path / "checkpoints", warn=warnings.append) as store:
            store.save(1, content(1), {})
            raise KeyboardInterrupt
    assert len(warnings) == 1 and "step-1 cannot be saved: File exists" in warnings[0]
    with pytest.raises(JobError, match="step-1 cannot be saved"):
        with CheckpointStore(tmp_path / "checkpoints") as store:
            store.save(1, content(1), {})


@pytest.mark.parametrize("asked", ["wait", "save"])
def test_an_error_in_the_background_is_raised_once(tmp_path, asked):
    (tmp_path / "checkpoints").write_text("a file")
    store = store_of(tmp_path / "checkpoints")
    store.save(1, content(1), {})
    with pytest.raises(JobError, match="step-1 cannot be saved: File exists") as caught:
        store.wait() if asked == "wait" else store.save(2, content(2), {})
    assert str(tmp_path) in caught.value.where and "--resume" in caught.value.fix
    (tmp_path / "checkpoints").unlink()
    save(store, 3)
    assert store.steps() == [3]


def test_a_save_is_finished_when_python_exits(tmp_path):
    run_python(
        "import sys, numpy as np\n"
        "from kerasllm.training.checkpoints import CheckpointStore\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
        "CheckpointStore(sys.argv[1]).save(5, {'w': np.ones(1_000_000)}, {})\n",
        tmp_path,
    )
    assert store_of(tmp_path).newest().step == 5


def run_python(code: str, *args: object) -> str:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# Which ones stay.


def test_the_newest_and_the_best_stay(tmp_path):
    store = store_of(tmp_path, keep=2)
    save(store, 10)
    assert store.best_step is None
    save(store, 20, best=True)
    save(store, 30, 40, 50)
    assert store.steps() == [20, 40, 50] and store.best_step == 20
    assert_is(store.read(20), 20)
    save(store, 60, best=True)
    assert store.steps() == [50, 60] and store.best_step == 60
    assert names(tmp_path) == ["step-50", "step-60"]


def test_the_best_is_known_after_a_restart(tmp_path):
    save(store_of(tmp_path, keep=1), 1, best=True)
    save(store_of(tmp_path, keep=1), 2, 3)
    assert store_of(tmp_path).best_step == 1
    save(store_of(tmp_path, keep=1), 4)
    assert store_of(tmp_path).steps() == [1, 4]


def test_the_best_saved_again_stays_the_best(tmp_path):
    store = store_of(tmp_path, keep=1)
    save(store, 1, best=True)
    save(store, 1, 2)
    assert store.best_step == 1


def test_a_step_saved_again_is_replaced(tmp_path):
    store = store_of(tmp_path)
    save(store, 1, 2)
    store.save(2, {"other": np.zeros(3)}, {"again": True})
    store.wait()
    assert store.newest().state == {"again": True} and list(store.newest().arrays) == ["other"]
    assert names(tmp_path) == ["step-1", "step-2"]


def test_a_run_that_went_back_leaves_nothing_ahead_of_it(tmp_path):
    save(CheckpointStore(tmp_path), 10, 20, best=True)
    (tmp_path / "step-20" / "state.json").unlink()
    store = CheckpointStore(tmp_path, keep=1, warn=lambda _: None)
    assert store.newest().step == 10
    save(store, 15)
    assert store.steps() == [10, 15] and store.best_step == 10
    assert_is(store_of(tmp_path).newest(), 15)


def test_what_is_not_ours_is_left_alone(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "checkpoints"
    others = ["step-007", "step-x", "step-1.bak", ".step-1.tmp", "notes", "step-٣"]
    for name in others:
        (folder / name).mkdir(parents=True)
    outside.mkdir()
    (outside / "file").write_text("kept")
    (folder / "step-3").symlink_to(outside)
    (folder / ".step-4.0123456789abcdef0123456789abcdef.tmp").symlink_to(outside)
    store = store_of(folder, keep=1)
    assert store.steps() == [] and store.newest() is None
    save(store, 1, 2, 3, 4)
    assert names(folder) == sorted([*others, "step-4"])
    assert (outside / "file").read_text() == "kept"


def test_what_a_killed_writer_left_is_removed_by_the_next_writer(tmp_path):
    save(store_of(tmp_path), 1)
    leftover = tmp_path / ".step-2.0123456789abcdef0123456789abcdef.tmp"
    shutil.copytree(tmp_path / "step-1", leftover)
    reader = store_of(tmp_path)
    assert reader.steps() == [1] and reader.newest().step == 1 and leftover.is_dir()
    save(store_of(tmp_path), 2)
    assert names(tmp_path) == ["step-1", "step-2"]


def test_keep_must_be_one_at_least(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        CheckpointStore(tmp_path, keep=0)


# Damage.


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    save(store_of(folder), 1, 2)
    return folder


@settings(max_examples=100)
@given(name=st.sampled_from(FILES), data=st.data())
def test_any_damaged_byte_is_found_and_the_one_before_is_taken(two_checkpoints, name, data):
    path = two_checkpoints / "step-2" / name
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1), label="position")
    damage = data.draw(st.sampled_from(("change", "cut off", "add to", "delete")), label="damage")
    if damage == "change":
        other = whole[position] ^ data.draw(st.integers(1, 255), label="bits")
        path.write_bytes(whole[:position] + bytes([other]) + whole[position + 1 :])
    elif damage == "cut off":
        path.write_bytes(whole[:position])
    elif damage == "add to":
        path.write_bytes(whole + b"\n")
    else:
        path.unlink()
    warnings = []
    try:
        store = CheckpointStore(two_checkpoints, warn=warnings.append)
        assert_is(store.newest(), 1)
        with pytest.raises(RunError, match="step-2 is damaged"):
            store.read(2)
    finally:
        path.write_bytes(whole)
    (warning,) = warnings
    # Of two files that do not match, the one that was changed cannot be told.
    named = "manifest" if name.startswith("manifest") else name
    assert "step-2 is damaged" in warning and named in warning
    assert_is(store_of(two_checkpoints).newest(), 2)


def test_without_a_whole_checkpoint_there_is_none(tmp_path):
    save(store_of(tmp_path), 1)
    (tmp_path / "step-1" / "arrays.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"arrays\.safetensors is missing\. It is skipped"):
        assert CheckpointStore(tmp_path).newest() is None


def test_a_checkpoint_of_another_step_is_not_taken(tmp_path):
    save(store_of(tmp_path), 1)
    (tmp_path / "step-1").rename(tmp_path / "step-9")
    with pytest.warns(UserWarning, match="is of step 1"):
        assert CheckpointStore(tmp_path).newest() is None


def test_a_newer_format_is_refused_and_not_passed_over(tmp_path, monkeypatch):
    save(store_of(tmp_path), 1)
    monkeypatch.setattr(checkpoint_files, "FORMAT", 2)
    save(store_of(tmp_path / "newer"), 2)
    monkeypatch.undo()
    (tmp_path / "newer" / "step-2").rename(tmp_path / "step-2")
    with pytest.raises(RunError, match="step-2 has format 2; this kerasllm reads format 1"):
        store_of(tmp_path).newest()


def test_a_file_that_may_not_be_read_is_no_damage(tmp_path, monkeypatch):
    save(store_of(tmp_path), 1)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint_files, "_facts", refuse)
    with pytest.raises(RunError, match="may not be read: Permission denied"):
        store_of(tmp_path).newest()


def test_a_step_that_is_not_there_is_named(two_checkpoints):
    with pytest.raises(RunError, match="no checkpoint of step 3") as caught:
        store_of(two_checkpoints).read(3)
    assert "[1, 2]" in caught.value.fix


# Kills and full disks.


def failing_at(call: int, error: BaseException, monkeypatch) -> list[str]:
    """Makes the n-th change of the file system fail; returns the list that they are noted in."""
    calls = []

    def failing(function):
        def wrapped(*args, **kwargs):
            calls.append(function.__name__)
            if len(calls) == call + 1:
                raise error
            return function(*args, **kwargs)

        return wrapped

    for name in ("mkdir", "rename", "fsync", "chmod", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    for name in ("write_text", "write_bytes"):
        monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
    return calls


@pytest.mark.parametrize("again", [False, True], ids=["new step", "same step"])
@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_save_that_ends_anywhere_leaves_whole_checkpoints(tmp_path, monkeypatch, error, again):
    step = 2 if again else 3
    before = tmp_path / "before"
    save(store_of(before, keep=1), 1, best=True)
    save(store_of(before, keep=1), 2)
    for call in itertools.count():
        folder = tmp_path / str(call)
        shutil.copytree(before, folder)
        store = store_of(folder, keep=1)
        with monkeypatch.context() as patch:
            calls = failing_at(call, error, patch)
            store.save(step, content(step), {"step": step})
            try:
                store.wait()
            except (Killed, JobError) as caught:
                assert isinstance(error, Killed) or "No space left" in caught.what
        if len(calls) <= call:
            break
        after = store_of(folder, keep=1)
        assert after.newest().step in (2, step) and after.best_step == 1
        for found in after.steps():
            assert_is(after.read(found), found)
        if isinstance(error, OSError):
            assert not [name for name in names(folder) if name.startswith(".")]
        save(after, 4)
        assert names(folder) == ["step-1", "step-4"]
    assert {"mkdir", "rename", "fsync", "write_text", "unlink", "rmdir"} <= set(calls)
    assert store.steps() == [1, step]


def test_a_checkpoint_is_on_the_disk_before_it_is_named_and_before_an_old_one_goes(
    tmp_path, monkeypatch
):
    """What a power cut asks for, and a kill cannot show."""
    store = store_of(tmp_path, keep=1)
    save(store, 1)
    events = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_rename(source, target):
        events.append(f"{Path(source).name} -> {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    save(store, 2)
    (named,) = (number for number, event in enumerate(events) if event.endswith("-> step-2"))
    temporary = events[named].split()[0]
    assert {*FILES, temporary} <= set(events[:named])
    assert events[named + 1] == tmp_path.name
    assert events[named + 2].startswith("step-1 -> .step-1.")


def test_a_disk_that_is_full_is_named_and_nothing_is_lost(tmp_path):
    save(store_of(tmp_path), 1, 2)
    message = run_python(
        "import resource, sys, numpy as np\n"
        "from kerasllm.errors import JobError\n"
        "from kerasllm.training.checkpoints import CheckpointStore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "store = CheckpointStore(sys.argv[1])\n"
        "store.save(3, {'w': np.ones(100_000)}, {})\n"
        "try:\n"
        "    store.wait()\n"
        "except JobError as error:\n"
        "    print(error)\n",
        tmp_path,
    )
    assert "step-3 cannot be saved" in message and "File too large" in message
    assert str(tmp_path) in message and "free some disk space" in message
    assert names(tmp_path) == ["step-1", "step-2"]
    assert_is(store_of(tmp_path).newest(), 2)


# Saves each step twice, every fourth as the best, and says what is done. A step's arrays follow
# from the step, so that a reader can verify them.
_SAVE_FOR_EVER = """
import itertools, sys
import numpy as np
from kerasllm.training.checkpoints import CheckpointStore

store = CheckpointStore(sys.argv[1], warn=sys.exit)
newest = store.newest()
for step in itertools.count(newest.step if newest else 1):
    arrays = {"w": np.full(100_000, step, np.float32), "n": np.array(step)}
    for again in (False, True):
        store.save(step, arrays, {"step": step, "again": again}, best=step % 4 == 0)
        store.wait()
    print(step, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_checkpoint_that_verifies(tmp_path):
    moments = random.Random(0)
    done = 0
    for _ in range(15):
        command = [sys.executable, "-c", _SAVE_FOR_EVER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            first = writer.stdout.readline()
            # After the first step, somewhere in the next few.
            timer = threading.Timer(moments.uniform(0, 0.1), writer.send_signal, [signal.SIGKILL])
            timer.start()
            lines = [first, *writer.stdout]
        assert writer.returncode == -signal.SIGKILL
        done = max(done, *(int(line) for line in lines if line.endswith("\n")))
        store = store_of(tmp_path)
        newest = store.newest()
        assert newest.step in (done, done + 1) and newest.state["step"] == newest.step
        assert newest.arrays["n"] == newest.step and newest.arrays["w"].shape == (100_000,)
        assert np.all(newest.arrays["w"] == newest.step)
        assert store.best_step == (newest.step // 4 * 4 or None)
