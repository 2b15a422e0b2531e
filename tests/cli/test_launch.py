"""`kerasllm launch`: which commands it takes, and what it makes of them."""

import sys

import pytest

from kerasllm.distribution import launch as launcher


@pytest.fixture
def launched(monkeypatch):
    """The commands that would have been started."""
    commands = []

    def launch(command, workers):
        commands.append((command, workers))
        return 0

    monkeypatch.setattr(launcher, "launch", launch)
    return commands


@pytest.mark.parametrize("separator", [["--"], []])
def test_the_workers_run_the_same_command_under_multi_worker(kerasllm, launched, separator):
    arguments = ["finetune", "--recipe", "bert_cls", "--set", "training.epochs=1"]
    assert kerasllm("launch", "--workers", 2, *separator, *arguments).status == 0
    [(command, workers)] = launched
    assert workers == 2 and command == [
        *(sys.executable, "-m", "kerasllm", "finetune", "--strategy", "multi_worker"),
        *arguments[1:],
    ]


@pytest.mark.parametrize("strategy", ["sharded", "sharded:1x2", "multi_worker", "auto"])
def test_a_strategy_of_launch_goes_to_the_command(kerasllm, launched, strategy):
    arguments = ["--recipe", "bert_cls", "--output", "runs/two"]
    options = ["--strategy", strategy, "--workers", 2]
    assert kerasllm("launch", *options, "--", "finetune", *arguments).status == 0
    [(command, workers)] = launched
    assert workers == 2 and command[3:] == ["finetune", "--strategy", strategy, *arguments]


def test_a_model_is_evaluated_in_shards(kerasllm, launched):
    options = ["--strategy", "sharded", "--workers", 2]
    assert kerasllm("launch", *options, "--", "evaluate", "runs/two").status == 0
    assert launched[0][0][3:] == ["evaluate", "--strategy", "sharded", "runs/two"]


def test_a_strategy_may_be_named_twice_if_it_is_the_same(kerasllm, launched):
    arguments = ["finetune", "--recipe", "bert_cls", "--strategy", "sharded"]
    assert kerasllm("launch", "--workers", 2, "--strategy=sharded", "--", *arguments).status == 0
    assert launched[0][0][3:] == arguments


@pytest.mark.parametrize(
    "named",
    [
        ["--strategy", "multi_worker"],
        ["--strategy=auto"],
        ["--strategy", "sharded:2x1"],
        ["--set", "training.strategy=multi_worker"],
        ["--set=training.strategy=auto"],
    ],
)
def test_a_strategy_that_is_named_stays(kerasllm, launched, named):
    arguments = ["finetune", "--recipe", "bert_cls", *named]
    assert kerasllm("launch", "--workers", 2, "--", *arguments).status == 0
    assert launched[0][0][3:] == arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", 0, "--", "finetune"], "must be 1 or more. Received: 0"),
        (["--workers", "two", "--", "finetune"], "not a valid integer"),
        (["--workers", 2], "launch was given no command"),
        (["--workers", 2, "--"], "launch was given no command"),
        (["--", "finetune"], "Missing option '--workers'"),
        (["--worker", 2, "--", "finetune"], "Did you mean '--workers'?"),
        (["--workers", 2, "--", "predict", "run"], "'predict' does not run in several workers"),
        (["--workers", 2, "--", "launch"], "finetune, plan, evaluate"),
        (["--workers", 2, "--", "evaluate", "run"], "holds a part of the model"),
        (["--workers", 2, "--strategy=auto", "evaluate", "run"], "give launch --strategy sharded"),
        (["--workers", 2, "finetune", "--strategy", "mirrored"], "each worker would train alone"),
        (
            ["--workers", 2, "finetune", "--set", "training.strategy=tpu"],
            "each worker would train alone",
        ),
        (["--workers", 2, "--strategy", "mirrored", "finetune"], "each worker would train alone"),
        (["--workers", 2, "--strategy", "shard", "finetune"], "did you mean sharded?"),
        (["--workers", 2, "--strategy", "sharded:two", "finetune"], "two whole numbers"),
        (
            ["--workers", 2, "--strategy", "sharded", "finetune", "--strategy", "multi_worker"],
            "launch was given --strategy sharded, and its command 'multi_worker'",
        ),
        (
            ["--workers", 2, "--strategy=auto", "finetune", "--set", "training.strategy=sharded"],
            "launch was given --strategy auto, and its command 'sharded'",
        ),
    ],
)
def test_what_cannot_run_is_refused(kerasllm, launched, arguments, words):
    result = kerasllm("launch", *arguments)
    assert result.status == 2 and words in result.err and not launched


def test_a_worker_that_fails_gives_its_words_and_its_status(kerasllm, monkeypatch):
    def fail(*_):
        raise launcher.WorkerError("worker 1 of 2 was killed by SIGKILL", 137)

    monkeypatch.setattr(launcher, "launch", fail)
    result = kerasllm("launch", "--workers", 2, "--", "finetune", "--recipe", "bert_cls")
    assert result.status == 137 and "Error: worker 1 of 2 was killed by SIGKILL" in result.err


def test_a_command_that_the_workers_refuse_is_shown_once_and_ends_with_their_status(capfd):
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "kerasllm", "launch", "--workers", "2", "finetune", "--no-such"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and not done.stdout
    block = done.stderr.partition("\nError: worker ")[2]
    assert "failed with exit status 2" in block and "No such option" in block
