"""A run that is stopped and resumed is the run that never stopped, or says why it cannot be."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasllm import audit
from kerasllm.errors import Interrupted, RunError
from kerasllm.run import Run
from kerasllm.runtime import threads
from kerasllm.training.checkpoints import CheckpointStore
from kerasllm.workflows import resume
from kerasllm.workflows.resume import find_run
from tests.conftest import toy_settings
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.workflows.toy_runs import (
    SETTINGS,
    Killed,
    assert_same,
    kill,
    metrics,
    rows,
    stopped_at,
    terminate,
    toy_run,
    weights,
)

AVERAGED = ("training.ema=0.9", "training.accumulate=2")


@pytest.fixture(autouse=True, scope="module")
def quick(session_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASLLM_CACHE", str(session_cache))
        patch.setattr("kerasllm.workflows.finetune.training_curve", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def toy_preset(tmp_path_factory):
    """Of one layer, which TensorFlow traces in half the time."""
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data of `never_stopped`, which nothing may change, and of the copies of it."""
    folder = tmp_path_factory.mktemp("runs")
    write_csv(folder / "train.csv", toy_rows(240))
    write_csv(folder / "test.csv", toy_rows(60, seed=1))
    return folder


@pytest.fixture(scope="module")
def never_stopped(folder, toy_preset):
    """A finished run with all its checkpoints."""
    return toy_run(folder, toy_preset, *AVERAGED, output="never_stopped")[0].path


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (
            (
                "training.epochs=3",
                "training.evaluate_every=3",
                # The first validation is the best.
                "training.early_stopping={patience: 2, metric: accuracy, min_delta: 1}",
            ),
            (5, 9),
        ),
        (
            (
                "training.precision=mixed_bfloat16",
                "training.steps_per_execution=3",
                "training.checkpoint_every=3",
                "model.lora={rank: 2}",
            ),
            (10,),
        ),
        # Rounds by chance.
        (("training.precision=bfloat16", "model.freeze=1"), (10,)),
        # Scales the loss.
        (("training.precision=mixed_float16", "model.dropout=0.1"), (5,)),
    ],
    ids=["early stopping", "executions of 3 steps, LoRA", "bfloat16, freeze", "float16, dropout"],
)
def test_a_killed_run_ends_as_if_it_had_not_been(toy_data, toy_preset, settings, steps):
    never_killed, _ = toy_run(toy_data, toy_preset, *settings)
    for step in steps:
        killed = stopped_at(never_killed.path, step, f"killed-{step}")
        _, shown = toy_run(toy_data, toy_preset, *settings, output=killed.name, resume=True)
        assert f"resuming after step {step} of" in shown
        assert_same(killed, never_killed.path)


def test_a_run_that_signals_stop_ends_as_if_they_had_not(folder, toy_preset, never_stopped):
    # In the midst of an epoch, and at its end, before it is validated.
    for step, at_end in ((3, False), (7, True)):
        with pytest.raises(Interrupted, match=f"SIGTERM after step {step} of 14") as stopped:
            toy_run(
                folder,
                toy_preset,
                *AVERAGED,
                "training.checkpoint_every=null",
                output="stopped",
                resume=True,
                do={step: terminate},
            )
        assert stopped.value.exit_status == 143
        state = CheckpointStore(folder / "stopped" / "checkpoints").read(step).state
        assert state["epoch_ended"] is not at_end
    assert not any("validation" in row for row in rows(folder / "stopped"))
    # As Slurm's `--signal=USR1` does.
    with pytest.raises(Interrupted, match="SIGUSR1 after step 9 of 14") as stopped:
        do = {9: lambda: signal.raise_signal(signal.SIGUSR1)}
        toy_run(folder, toy_preset, *AVERAGED, output="stopped", resume=True, do=do)
    assert stopped.value.exit_status == 128 + signal.SIGUSR1
    toy_run(folder, toy_preset, *AVERAGED, output="stopped", resume=True)
    assert_same(folder / "stopped", never_stopped)
    trail = (folder / "stopped" / audit.FILE).read_text().splitlines()
    lines = [json.loads(line) for line in trail]
    assert [(line["event"], line.get("from_step"), line.get("signal")) for line in lines] == [
        ("train", None, None),
        ("train ended", None, "SIGTERM"),
        ("resume", 3, None),
        ("resume ended", None, "SIGTERM"),
        ("resume", 7, None),
        ("resume ended", None, "SIGUSR1"),
        ("resume", 9, None),
        ("resume ended", None, None),
    ]
    assert lines[-1]["outcome"] == "done" and audit.read(folder / "stopped").lines == 8


def test_a_run_killed_after_its_training_only_saves_its_model(folder, toy_preset, never_stopped):
    killed = stopped_at(never_stopped, 14, "killed_at_the_end")
    # What it left of a model.
    (killed / "model").mkdir()
    (killed / "model" / "task.json").write_text("{}")
    (killed / f".model.{os.getpid()}.tmp").mkdir()
    _, shown = toy_run(folder, toy_preset, *AVERAGED, output=killed.name, resume=True)
    assert "resuming after step 14 of 14" in shown
    assert_same(killed, never_stopped)
    assert not list(killed.glob(".*.tmp"))


def test_a_run_killed_before_its_first_checkpoint_restarts(folder, toy_preset, never_stopped):
    with pytest.raises(Killed):
        toy_run(
            folder,
            toy_preset,
            *AVERAGED,
            "training.checkpoint_every=null",
            output="early",
            do={1: kill},
        )
    _, shown = toy_run(folder, toy_preset, *AVERAGED, output="early", resume=True)
    assert "no checkpoint yet: training starts from scratch" in shown
    assert len(list((folder / "early" / "tensorboard").glob("events.*"))) == 1
    assert_same(folder / "early", never_stopped)


@pytest.mark.slow
def test_other_devices_continue_at_the_same_step(folder, toy_preset, never_stopped):
    killed = stopped_at(never_stopped, 5, "on_two")
    settings = [*toy_settings(folder, toy_preset), *SETTINGS, *AVERAGED]
    command = ["finetune", "--recipe", "bert_cls", "--resume", "--output", str(killed)]
    done = subprocess.run(
        [sys.executable, "-m", "kerasllm", *command, "--strategy", "virtual:2"]
        + [f"--set={setting}" for setting in settings],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "resuming after step 5 of 14" in done.stderr
    for ours, expected in zip(rows(killed), rows(never_stopped), strict=True):
        assert ours["step"] == expected["step"]
        if "loss" in ours:
            assert ours["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    expected = weights(never_stopped)
    for name, value in weights(killed).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(folder, toy_preset, never_stopped):
    killed = stopped_at(never_stopped, 13, "damaged")
    arrays = killed / "checkpoints" / "step-13" / "arrays.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-100] ^= 1
    arrays.write_bytes(content)
    _, shown = toy_run(folder, toy_preset, *AVERAGED, output=killed.name, resume=True)
    assert "step-13 is damaged" in shown and "resuming after step 12 of 14" in shown
    assert_same(killed, never_stopped)


def test_changes_are_refused_by_name(folder, toy_preset, never_stopped):
    killed = stopped_at(never_stopped, 3, "changed")
    other = shutil.copytree(toy_preset, folder / "other_preset")
    with pytest.raises(RunError) as refused:
        toy_run(
            folder,
            other,
            *AVERAGED,
            "training.batch_size=16",
            "training.epochs=5",
            "data.validation_split=0.2",
            output=killed.name,
            resume=True,
        )
    for words in (
        f"model.preset was {toy_preset}, and is {other}",
        "training.batch_size was 32, and is 16",
        "training.epochs was 2, and is 5",
        "data.validation_split was 0.1, and is 0.2",
    ):
        assert words in refused.value.what
    assert "--accept-changes" in refused.value.fix
    assert len(refused.value.what.split(";")) == 4


def test_changed_data_are_refused_and_continue_when_accepted(toy_data, toy_preset):
    with pytest.raises(Killed):
        toy_run(toy_data, toy_preset, do={6: kill})
    found = CheckpointStore(toy_data / "run" / "checkpoints").newest()
    write_csv(toy_data / "train.csv", toy_rows(480))
    with pytest.raises(RunError, match="the train data are not the ones the run started with"):
        toy_run(toy_data, toy_preset, resume=True)
    changed = (
        "training.batch_size=16",
        "training.epochs=3",
        "training.seed=1",
        "model.dropout=0.1",
    )
    run, shown = toy_run(toy_data, toy_preset, *changed, resume=True, accept_changes=True)
    steps = -(-432 // 16)
    # At the same share of the data.
    assert f"resuming after step {found.step * steps // 7} of {3 * steps}" in shown
    for words in ("train data", "batch_size was 32", "epochs was 2", "seed was 0"):
        assert any(line.startswith("accepted: ") and words in line for line in shown.splitlines())
    last = [row for row in rows(run.path) if "loss" in row][-1]
    assert last["step"] == metrics(run.path)["timing"]["steps"] == 3 * steps
    # The learning rate has come down to its last step.
    assert 0 < last["learning_rate"] < 2 * 5e-3 / (0.9 * 3 * steps)


def test_a_changed_frozen_weight_is_refused_even_so(folder, toy_preset, tmp_path):
    preset = shutil.copytree(toy_preset, tmp_path / "preset")
    with pytest.raises(Killed):
        toy_run(folder, preset, "model.freeze=backbone", output="frozen", do={3: kill})
    shutil.rmtree(preset)
    save_toy_preset(preset, hidden_dim=16, num_layers=1)
    with pytest.raises(RunError, match="frozen weights differ"):
        toy_run(
            folder,
            preset,
            "model.freeze=backbone",
            output="frozen",
            resume=True,
            accept_changes=True,
        )


@pytest.fixture(scope="module", autouse=True)
def fused():
    """XLA fuses trainings as short as these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASLLM_COMPILE_COSTS", "0")
        yield


DROPS = ("model.dropout=0.2", "data.buckets=1", "training.checkpoint_every=7")


@pytest.fixture(scope="module")
def on_two_cores(fused, folder, toy_preset):
    """A finished run whose batches were computed in two slices, fused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "available_cores", lambda: 2)
        return toy_run(folder, toy_preset, *DROPS, output="on_two_cores")[0].path


@pytest.mark.parametrize("cores", [1, 4])
def test_other_cores_end_with_the_same_bits(folder, toy_preset, on_two_cores, cores, monkeypatch):
    """Dropout is drawn for each slice: the resumed run keeps their number."""
    monkeypatch.setattr(threads, "available_cores", lambda: cores)
    killed = stopped_at(on_two_cores, 7, f"on_{cores}_cores")
    toy_run(folder, toy_preset, *DROPS, output=killed.name, resume=True)
    assert_same(killed, on_two_cores)
    resumed = json.loads(Run(killed).environment.read_text())["resumed"][-1]
    assert resumed["slices"] == 2 and resumed["fused"] is True


def test_another_way_to_compile_is_reported(folder, toy_preset, on_two_cores):
    for xla, words in (
        ("false", "XLA compiled element-wise work and now compiles nothing"),
        ("true", "XLA compiled element-wise work and now compiles whole steps"),
    ):
        killed = stopped_at(on_two_cores, 7, f"xla_{xla}")
        changed = (*DROPS, f"training.xla={xla}")
        with pytest.raises(RunError, match=words) as refused:
            toy_run(folder, toy_preset, *changed, output=killed.name, resume=True)
        assert "training.xla was auto, and is" in refused.value.what
        assert "--accept-changes" in refused.value.fix
    _, shown = toy_run(
        folder, toy_preset, *changed, output=killed.name, resume=True, accept_changes=True
    )
    assert f"accepted: {words}" in shown and "XLA compiles the step" in shown


def test_a_checkpoint_that_does_not_say_how_it_was_computed_is_resumed(
    folder, toy_preset, on_two_cores, monkeypatch
):
    """Those of older versions do not."""
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    killed = stopped_at(on_two_cores, 7, "old")
    state = CheckpointStore(killed / "checkpoints").newest()
    old = {key: value for key, value in state.state.items() if key not in resume.COMPUTED}
    # Nor had their recipes the keys of today: the head read the first token, as `bert_cls` says.
    old["recipe"] = {name: dict(each) for name, each in _sections(old["recipe"]).items()}
    old["recipe"] |= {"task": "text_classification"}
    for section, key in (("model", "pooling"), ("data", "text_pair"), ("training", "calibrate")):
        del old["recipe"][section][key]
    with CheckpointStore(killed / "checkpoints") as store:
        store.save(7, state.arrays, old)
    toy_run(folder, toy_preset, *DROPS, output=killed.name, resume=True)
    assert_same(killed, on_two_cores)


def _sections(recipe: dict) -> dict[str, dict]:
    return {name: each for name, each in recipe.items() if isinstance(each, dict)}


def test_a_finished_run_and_one_in_use_are_refused(folder, toy_preset, never_stopped):
    with pytest.raises(RunError, match="has finished"):
        toy_run(folder, toy_preset, *AVERAGED, output=never_stopped.name, resume=True)
    used = stopped_at(never_stopped, 3, "used")
    with Run(used).locked(), pytest.raises(RunError, match="Another process"):
        toy_run(folder, toy_preset, *AVERAGED, output=used.name, resume=True)
    with pytest.raises(RunError, match="did not finish") as refused:
        toy_run(folder, toy_preset, *AVERAGED, output=used.name)
    assert "--resume" in refused.value.fix


def test_without_an_output_it_is_the_newest_that_did_not_finish(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_run(None, "mine") is None
    for name, files in {
        "20260101-000000": ["recipe.yaml"],
        "20260102-000000": ["recipe.yaml"],
        "20260103-000000": ["recipe.yaml", "metrics.json"],
        "20260104-000000": [],
        "search": ["recipe.yaml", "search.json"],
    }.items():
        (tmp_path / "runs" / "mine" / name).mkdir(parents=True)
        for file in files:
            (tmp_path / "runs" / "mine" / name / file).touch()
    assert find_run(None, "mine").path.name == "20260102-000000"
    assert find_run(None, "other") is None
    with pytest.raises(RunError, match="a search of `kerasllm tune`"):
        find_run(Path("runs", "mine", "search"), "mine")
