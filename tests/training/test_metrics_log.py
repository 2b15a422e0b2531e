"""The log of a training: after a resume, each row once, in its file and in TensorBoard."""

import json

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kerasllm.errors import RunError
from kerasllm.training.metrics_log import MetricsLog


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "metrics.jsonl", tmp_path / "tensorboard"


def write(paths, steps, keep=0, loss=0.0):
    with MetricsLog(*paths, keep=keep) as log:
        for step in steps:
            log.row({"step": step, "epoch": 0.0, "loss": step + loss})
            if not step % 4:
                log.validated(step, {"loss": step + loss})
    # TensorBoard reads files by name: second and process, which are the same here.
    names = sorted(paths[1].glob("events.*"), key=lambda file: file.stat().st_mtime_ns)
    for number, file in enumerate(names):
        file.rename(file.with_name(f"events.out.tfevents.{number}"))


def shown(folder, tag):
    """Returns what TensorBoard itself reads: steps and values."""
    events = EventAccumulator(str(folder)).Reload()
    return [(each.step, float(tf.make_ndarray(each.tensor_proto))) for each in events.Tensors(tag)]


def test_steps_that_are_trained_again_are_shown_once(paths):
    write(paths, [2, 4, 6, 8])
    # The checkpoint of step 4 was written after that step's row and before its validation.
    write(paths, [6, 8, 10], keep=2, loss=0.5)
    assert [json.loads(line)["step"] for line in paths[0].read_text().splitlines()] == [
        2,
        4,
        6,
        8,
        8,
        10,
    ]
    assert shown(paths[1], "train/loss") == [(2, 2.0), (4, 4.0), (6, 6.5), (8, 8.5), (10, 10.5)]
    assert shown(paths[1], "validation/loss") == [(8, 8.5)]
    write(paths, [12], keep=6, loss=0.5)
    assert [step for step, _ in shown(paths[1], "train/loss")] == [2, 4, 6, 8, 10, 12]


def test_a_file_that_a_process_was_killed_in_is_read_up_to_there(paths):
    write(paths, [2, 4])
    (file,) = paths[1].glob("events.*")
    file.write_bytes(file.read_bytes() + b"half a record")
    write(paths, [4], keep=1, loss=0.5)
    assert shown(paths[1], "train/loss") == [(2, 2.0), (4, 4.5)]
    write(paths, [2], keep=0)
    assert shown(paths[1], "train/loss") == [(2, 2.0)]


@pytest.mark.parametrize(
    "line", [b"", b"\xff", b"[]", b"7", b"[" * 100_000, b"{}", b'{"step": "2"}',
             b'{"step": 2, "loss": []}', b'{"step": 2, "validation": 7}',
             b'{"step": 2, "validation": {"loss": "x"}}']
)  # fmt: skip
def test_a_forged_log_is_refused_with_its_line(paths, line):
    write(paths, [2, 4])
    lines = paths[0].read_bytes().splitlines(keepends=True)
    paths[0].write_bytes(lines[0] + line + b"\n" + lines[2])
    with pytest.raises(RunError, match="The training log is not what kerasllm wrote"):
        MetricsLog(*paths, keep=3)


def test_a_forged_event_is_left_out(paths):
    write(paths, [2, 4])
    with tf.io.TFRecordWriter(str(paths[1] / "events.out.tfevents.7")) as writer:
        writer.write(b"\xff no event")
    write(paths, [6], keep=3)


def test_links_that_lead_to_themselves_are_no_log(paths):
    write(paths, [2, 4])
    (paths[1] / "events.out.tfevents.9").symlink_to("events.out.tfevents.9")
    with MetricsLog(*paths, keep=3) as log:
        log.row({"step": 6, "epoch": 0.0, "loss": 1.0})
    folder = paths[1].with_name("loop")
    folder.symlink_to("loop")
    with pytest.raises(RunError, match="this is not a folder"):
        MetricsLog(paths[0], folder, keep=3)
