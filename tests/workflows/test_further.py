"""A finished run is trained further, and says so; without more steps it is refused as before."""

import shutil

import pytest

from kerasllm.errors import RunError
from kerasllm.run import Run
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.workflows.toy_runs import Killed, assert_same, kill, metrics, rows, toy_run, weights

# 14 steps, 7 an epoch, and a checkpoint of the last step alone.
SPARSE = ("training.checkpoint_every=500", "training.keep_checkpoints=1")


@pytest.fixture(autouse=True, scope="module")
def quick(session_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASLLM_CACHE", str(session_cache))
        yield


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("further")
    write_csv(folder / "train.csv", toy_rows(240))
    return folder


@pytest.fixture(scope="module")
def finished(folder, preset):
    return toy_run(folder, preset, *SPARSE, output="finished")[0].path


def copy_of(run, name):
    return shutil.copytree(run, run.with_name(name))


def test_a_finished_run_continues_with_more_epochs(folder, preset, finished):
    longer = copy_of(finished, "longer")
    run, shown = toy_run(
        folder, preset, *SPARSE, "training.epochs=3", output=longer.name, resume=True
    )
    assert "resuming after step 14 of 21" in shown
    # Linear, after 2 steps of warm-up: a third is left.
    assert "trained further: 21 steps instead of 14; at step 15 the learning rate jumps" in shown
    assert "from 0.00e+00 to 1.84e-03 (linear, now over all 21)" in shown
    found = metrics(run.path)
    assert found["timing"]["steps"] == 21 and "epochs: 3" in run.recipe.read_text()
    training = [row for row in rows(longer) if "loss" in row]
    assert [row["step"] for row in training][-3:] == [15, 18, 21]
    assert training[-3]["learning_rate"] == pytest.approx(5e-3 * 7 / 19)

    # Interrupted on the way, it has not finished, and is resumed by what it was continued with.
    killed = copy_of(finished, "killed")
    with pytest.raises(Killed):
        toy_run(
            folder,
            preset,
            *("training.checkpoint_every=null", "training.keep_checkpoints=1"),
            "training.epochs=3",
            output=killed.name,
            resume=True,
            do={17: kill},
        )
    with pytest.raises(RunError, match="did not finish"):
        Run.open(killed)
    with pytest.raises(RunError, match="training.epochs was 2, and is 4"):
        toy_run(folder, preset, *SPARSE, "training.epochs=4", output=killed.name, resume=True)
    _, shown = toy_run(
        folder, preset, *SPARSE, "training.epochs=3", output=killed.name, resume=True
    )
    assert "trained further: 21 steps instead of 14" in shown
    assert_same(killed, longer)


@pytest.mark.parametrize(
    "settings", [(), ("training.epochs=1",), ("training.max_steps=14",), ("training.max_steps=99",)]
)
def test_without_more_steps_it_is_refused_and_says_how(folder, preset, finished, settings):
    with pytest.raises(RunError, match="nothing to resume") as refused:
        toy_run(folder, preset, *SPARSE, *settings, output=finished.name, resume=True)
    assert "--set training.epochs=3" in refused.value.fix and "--output" in refused.value.fix
    assert Run.open(finished)


def test_other_changes_are_refused_as_ever_and_leave_it_finished(folder, preset, finished):
    with pytest.raises(RunError, match="training.learning_rate was 0.005, and is 0.001") as refused:
        toy_run(
            folder,
            preset,
            *(*SPARSE, "training.epochs=3", "training.learning_rate=1e-3"),
            output=finished.name,
            resume=True,
        )
    assert "epochs" not in refused.value.what and Run.open(finished)


def test_a_run_without_checkpoints_is_refused_with_another_way(folder, preset, finished):
    bare = copy_of(finished, "bare")
    shutil.rmtree(bare / "checkpoints")
    with pytest.raises(RunError, match="nothing to resume") as refused:
        toy_run(folder, preset, *SPARSE, "training.epochs=3", output=bare.name, resume=True)
    assert f"model.preset={bare}" in refused.value.fix and Run.open(bare)


def test_what_early_stopping_ended_needs_more_patience(folder, preset):
    stopping = "training.early_stopping={patience: 1, metric: accuracy, min_delta: 1}"
    settings = (*SPARSE, "training.epochs=4", stopping)
    run, _ = toy_run(folder, preset, *settings, output="early")
    assert metrics(run.path)["timing"]["steps"] == 14
    with pytest.raises(RunError, match="nothing to resume") as refused:
        toy_run(folder, preset, *settings, output="early", resume=True)
    more = "--set training.epochs=5 --set training.early_stopping=null"
    assert more in refused.value.fix
    with pytest.raises(RunError, match="Early stopping ended the run at step 14") as refused:
        toy_run(folder, preset, *settings, "training.epochs=5", output="early", resume=True)
    assert "training.early_stopping=null" in refused.value.fix
    # Without early stopping it ends with the last weights, and not with those that were kept.
    copy_of(run.path, "off")
    off, _ = toy_run(
        folder, preset, *settings, "training.early_stopping=null", output="off", resume=True
    )
    kept = weights(run.path)
    assert any((value != kept[name]).any() for name, value in weights(off.path).items())
    patient = stopping.replace("1, metric", "3, metric")
    run, shown = toy_run(folder, preset, *settings, patient, output="early", resume=True)
    assert "resuming after step 14 of 28" in shown
    assert metrics(run.path)["timing"]["steps"] == 28
