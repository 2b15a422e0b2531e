"""The audit trail of a run: who did what and when, in lines that hang on each other."""

import hashlib
import itertools
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from kerasllm import audit
from kerasllm.errors import CommandError, Interrupted, JobError, RunError


def lines(run):
    return [json.loads(line) for line in (run / audit.FILE).read_text().splitlines()]


@pytest.fixture
def run(tmp_path):
    for number in range(4):
        audit.note(tmp_path, "train", number=number)
    return tmp_path


def test_a_line_says_who_when_where_and_what(tmp_path):
    command = "kerasllm finetune --recipe bert_cls"
    audit.note(tmp_path, "train", command=command, data={"train": "a"})
    [line] = lines(tmp_path)
    assert line["event"] == "train" and line["data"] == {"train": "a"}
    assert line["host"] == socket.gethostname() and line["process"] == os.getpid()
    assert line["user"] == pwd.getpwuid(os.getuid()).pw_name
    moment = datetime.fromisoformat(line["time"])
    assert moment.tzinfo is UTC and abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert line["command"] == command
    assert {"kerasllm", "keras", "tensorflow"} == line["versions"].keys()
    assert line["previous"] == "0" * 64


def test_the_commit_is_that_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert audit.git_commit() is None
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", *words], check=True)
    shown = subprocess.run(["git", "log", "--format=%H"], capture_output=True, text=True).stdout
    assert audit.git_commit() == shown.strip()
    monkeypatch.setenv("PATH", "")
    assert audit.git_commit() is None


def test_no_line_holds_a_secret(tmp_path):
    command = (
        "kerasllm finetune --train 's3://AKIA:SeCrEt@bucket/x.csv' --set model.preset="
        "https://user:SeCrEt@example.org/m.gguf?token=SeCrEt"
    )
    error = JobError("s3://AKIA:SeCrEt@bucket/x.csv is gone")
    with pytest.raises(JobError), audit.Recorded(tmp_path, "train", command=command):
        raise error
    with pytest.raises(ValueError), audit.Recorded(tmp_path, "resume", files=[command]):
        raise ValueError(command)
    text = (tmp_path / audit.FILE).read_text()
    assert "SeCrEt" not in text and "s3://bucket/x.csv" in text


def test_how_a_job_ended_is_noted(tmp_path):
    with audit.Recorded(tmp_path, "train") as entry:
        entry.done()
    cases = {
        "SIGTERM": Interrupted("SIGTERM after step 3", signal=15),
        "SIGINT": KeyboardInterrupt(),
        "CommandError: No data": CommandError("No data", fix="give some"),
        "ValueError: first": ValueError("first\nsecond \ud800"),
    }
    for shown, error in cases.items():
        with pytest.raises(type(error)), audit.Recorded(tmp_path, "resume", from_step=3):
            raise error
        begun, ended = lines(tmp_path)[-2:]
        assert begun["event"] == "resume" and begun["from_step"] == 3
        assert ended["event"] == "resume ended"
        assert shown == ended.get("signal", ended.get("error")), ended
    assert [line["outcome"] for line in lines(tmp_path) if "outcome" in line] == [
        "done",
        "signal",
        "signal",
        "failed",
        "failed",
    ]
    assert audit.read(tmp_path).lines == 10


def test_each_line_holds_the_digest_of_the_one_before(run):
    content = (run / audit.FILE).read_bytes().splitlines(keepends=True)
    for before, line in itertools.pairwise(content):
        assert json.loads(line)["previous"] == hashlib.sha256(before).hexdigest()
    trail = audit.read(run)
    assert trail == audit.Trail(4, hashlib.sha256(content[-1]).hexdigest())
    assert audit.read(run / "elsewhere") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace(b'"number": 0', b'"number": 9'), *lines[1:]],
        lambda lines: [lines[0], lines[2], lines[3]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[1], lines[1], *lines[2:]],
        lambda lines: [lines[0], b"\n", *lines[1:]],
        lambda lines: [lines[0], b"{}\n", *lines[1:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[1][:-9] + b"\n", *lines[2:]],
        lambda lines: [b"\xff\n", *lines[1:]],
    ],
)
def test_a_changed_removed_or_added_line_shows(run, change):
    file = run / audit.FILE
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    with pytest.raises(RunError, match="audit trail is not what was written"):
        audit.read(run)


def test_what_was_signed_of_it_stays(run):
    trail = audit.read(run)
    noted = {"lines": trail.lines, "sha256": trail.sha256}
    audit.note(run, "export")
    audit.refuse_other(run, noted)
    # All of it written again, so that its chain is whole.
    (run / audit.FILE).unlink()
    for number in range(6):
        audit.note(run, "train", number=number)
    audit.read(run)
    with pytest.raises(RunError, match="line 4 is not the one that was there when"):
        audit.refuse_other(run, noted)
    (run / audit.FILE).unlink()
    with pytest.raises(RunError, match="0 lines are left of the 4 that were signed"):
        audit.refuse_other(run, noted)


def test_a_line_that_was_cut_off_breaks_nothing(run):
    with open(run / audit.FILE, "ab") as file:
        file.write(b'{"time": "2026-')
    assert audit.read(run).cut_off == (5,)
    audit.note(run, "resume")
    assert audit.read(run).cut_off == (5,) and audit.read(run).lines == 6


def test_many_processes_make_one_chain(tmp_path):
    def write():
        for _ in range(20):
            audit.note(tmp_path, "export")

    threads = [threading.Thread(target=write) for _ in range(4)]
    code = (
        "import sys, pathlib; from kerasllm import audit\n"
        "for _ in range(20): audit.note(pathlib.Path(sys.argv[1]), 'export')"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait() == 0
    assert audit.read(tmp_path).lines == 100


def test_it_is_a_file_and_no_link_or_pipe(tmp_path):
    (tmp_path / "other").write_text("")
    (tmp_path / audit.FILE).symlink_to("other")
    with pytest.raises(OSError):
        audit.note(tmp_path, "train")
    (tmp_path / audit.FILE).unlink()
    os.mkfifo(tmp_path / audit.FILE)
    with pytest.raises(OSError, match="not a regular file"):
        audit.note(tmp_path, "train")
    with pytest.raises(RunError, match="not a regular file"):
        audit.read(tmp_path)


def test_the_parent_is_the_run_whose_model_a_preset_is(run, tmp_path):
    assert audit.parent_of("minilm_l6_en_uncased") is None and audit.parent_of(None) is None
    assert audit.parent_of("s3://bucket/run") is None
    (run / "recipe.yaml").write_text("")
    (run / "model").mkdir()
    expected = {"run": os.path.realpath(run), "audit": audit.read(run).sha256}
    assert audit.parent_of(run) == audit.parent_of(str(run / "model")) == expected
