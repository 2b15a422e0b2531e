"""Several local workers: what they say, how they are stopped, and how they end together."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kerasllm.distribution.launch import WorkerError, launch
from kerasllm.errors import CommandError

WHO = "import json, os, sys, time; me = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"


def python(code):
    return [sys.executable, "-c", WHO + code]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


class Launched:
    """A process that calls `launch`, and the end of it."""

    def __init__(self, command, workers=2, grace=10.0):
        code = (
            "import sys\nfrom kerasllm.distribution.launch import launch, WorkerError\n"
            f"try: sys.exit(launch({command!r}, {workers}, grace={grace}))\n"
            "except WorkerError as error: print(error, file=sys.stderr); sys.exit(77)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def read_until(self, stream, words):
        """Reads lines until all the words were seen, each in a line of its own."""
        left, seen = set(words), []
        while left:
            line = stream.readline()
            assert line, f"never saw {left} in {seen}"
            seen.append(line)
            left = {word for word in left if word not in line}
        return seen

    def finish(self):
        out, err = self.process.communicate(timeout=50)
        return self.process.returncode, out, err


def is_alive(pid):
    """Whether a process runs; one that is dead and only not yet waited for does not."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
    return False


def await_deaths(pids):
    until = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < until, "a worker was left behind"
        time.sleep(0.05)


def test_each_line_is_prefixed_and_only_worker_0_speaks_on_stdout(capsys):
    assert launch(python("print('out', me); print('err', me, file=sys.stderr)"), 3) == 0
    out, err = capsys.readouterr()
    assert out == "[worker 0] out 0\n"
    assert sorted(err.splitlines()) == [
        "[worker 0] err 0",
        "[worker 1] err 1",
        "[worker 1] out 1",
        "[worker 2] err 2",
        "[worker 2] out 2",
    ]


def test_lines_come_while_the_workers_run():
    launched = Launched(python("print('ready'); time.sleep(60)"))
    launched.read_until(launched.process.stdout, ["[worker 0] ready"])
    launched.process.send_signal(signal.SIGTERM)
    assert launched.finish()[0] == 128 + signal.SIGTERM


def test_the_workers_are_told_of_each_other(capsys):
    launch(python("print(os.environ['TF_CONFIG'], file=sys.stderr)"), 2)
    lines = capsys.readouterr().err.splitlines()
    configs = {line[:10]: json.loads(line[11:]) for line in lines}
    assert [configs[f"[worker {n}]"]["task"] for n in (0, 1)] == [
        {"type": "worker", "index": 0},
        {"type": "worker", "index": 1},
    ]
    clusters = [config["cluster"] for config in configs.values()]
    assert clusters[0] == clusters[1] and len(set(clusters[0]["worker"])) == 2


def test_the_first_failure_ends_all_and_is_the_one_that_is_shown(capsys):
    code = """
if me == 1:
    time.sleep(0.3)
    print('some log', file=sys.stderr)
    print('Error: the disk is full\\n  do:    free some', file=sys.stderr)
    sys.exit(3)
try:
    import signal
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('secondary'))
    time.sleep(60)
finally:
    print('Error: a peer was lost', file=sys.stderr)
"""
    with pytest.raises(WorkerError) as error:
        launch(python(code), 3)
    assert error.value.exit_status == 3
    assert error.value.what == (
        "worker 1 of 3 failed with exit status 3; the others were stopped. Its last words:\n"
        "    Error: the disk is full\n"
        "      do:    free some"
    )


def test_a_worker_that_is_killed_is_named_with_its_signal(capsys):
    code = "if me == 1: os.kill(os.getpid(), 9)\ntime.sleep(60)"
    with pytest.raises(WorkerError, match="worker 1 of 2 was killed by SIGKILL") as error:
        launch(python(code), 2)
    assert error.value.exit_status == 137 and "memory" in error.value.fix


def test_a_peer_that_does_not_listen_is_killed_after_the_grace(capsys):
    code = """
import signal
if me == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open({ready!r}, 'w').close()
    time.sleep(600)
while not os.path.exists({ready!r}):
    time.sleep(0.02)
sys.exit(5)
"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with pytest.raises(WorkerError) as error:
            launch(python(code.format(ready=f"{folder}/ready")), 2, grace=1.0)
        assert error.value.exit_status == 5 and 1.0 <= time.monotonic() - began < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_waited_for(number):
    code = f"""
import signal
def stop(*_):
    time.sleep(0.3)
    print('checkpoint', me, file=sys.stderr)
    sys.exit(128 + {int(number)})
signal.signal({int(number)}, stop)
print('ready', me, file=sys.stderr)
time.sleep(60)
"""
    launched = Launched(python(code))
    launched.read_until(launched.process.stderr, ["ready 0", "ready 1"])
    launched.process.send_signal(number)
    status, _, err = launched.finish()
    assert status == 128 + number and "failed" not in err
    assert "[worker 0] checkpoint 0" in err and "[worker 1] checkpoint 1" in err


def test_a_second_interrupt_kills():
    code = """
import signal
signal.signal(signal.SIGINT, lambda *_: print('no', me, file=sys.stderr))
print('ready', me, file=sys.stderr)
while True: time.sleep(1)
"""
    launched = Launched(python(code))
    launched.read_until(launched.process.stderr, ["ready 0", "ready 1"])
    launched.process.send_signal(signal.SIGINT)
    launched.read_until(launched.process.stderr, ["no 0", "no 1"])
    launched.process.send_signal(signal.SIGINT)
    assert launched.finish()[0] == 130


def test_a_failure_while_stopping_is_still_a_failure():
    code = """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143 if me else 9))
print('ready', me, file=sys.stderr)
time.sleep(60)
"""
    launched = Launched(python(code))
    launched.read_until(launched.process.stderr, ["ready 0", "ready 1"])
    launched.process.send_signal(signal.SIGTERM)
    status, _, err = launched.finish()
    assert status == 77 and "worker 0 of 2 failed with exit status 9" in err


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_workers_do_not_outlive_a_launcher_that_is_killed():
    launched = Launched(python("print('pid', os.getpid(), '.', file=sys.stderr)\ntime.sleep(600)"))
    seen = launched.read_until(launched.process.stderr, ["worker 0", "worker 1"])
    pids = [int(line.split()[3]) for line in seen]
    launched.process.kill()
    launched.finish()
    await_deaths(pids)


def test_what_a_worker_started_ends_with_it(capsys):
    code = """
import subprocess
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print('child', child.pid)
"""
    launch(python(code), 1)
    await_deaths([int(capsys.readouterr().out.split()[-1])])


def test_a_worker_of_a_cluster_launches_nothing(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(CommandError, match="TF_CONFIG is set"):
        launch(python("pass"), 2)


def test_the_launcher_imports_nothing_slow():
    code = (
        "import sys, kerasllm.cli.launch, kerasllm.distribution.launch\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'pydantic', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ)
