"""A run that is stopped and resumed is the run that never stopped, or says why it cannot be."""

import pytest

from kerasllm.errors import Interrupted
from kerasllm.training.checkpoints import CheckpointStore
from tests.toy import save_toy_preset
from tests.workflows.toy_runs import assert_same, rows, stopped_at, terminate, toy_run


@pytest.fixture(autouse=True)
def quick(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))
    monkeypatch.setattr("kerasllm.workflows.finetune.training_curve", lambda rows, path: None)


@pytest.fixture(scope="module")
def toy_preset(tmp_path_factory):
    """Of one layer, which TensorFlow traces in half the time."""
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=1)


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
            (3, 10),
        ),
        # Rounds by chance.
        (("training.precision=bfloat16", "model.freeze=1"), (10,)),
        # Scales the loss.
        (("training.precision=mixed_float16", "model.dropout=0.1"), (5,)),
    ],
    ids=lambda value: ", ".join(map(str, value)) if isinstance(value[0], str) else "",
)
def test_a_killed_run_ends_as_if_it_had_not_been(toy_data, toy_preset, settings, steps):
    never_stopped, _ = toy_run(toy_data, toy_preset, *settings)
    for step in steps:
        killed = stopped_at(never_stopped.path, step, f"killed-{step}")
        _, shown = toy_run(toy_data, toy_preset, *settings, output=killed.name, resume=True)
        assert f"going on behind step {step} of" in shown
        assert_same(killed, never_stopped.path)


def test_a_run_that_signals_stop_ends_as_if_they_had_not(toy_data, toy_preset):
    settings = ("model.dropout=0.1", "training.ema=0.9", "training.accumulate=2")
    never_stopped, _ = toy_run(toy_data, toy_preset, *settings)
    # In the midst of an epoch, and at its end, before it is validated.
    for step, of_last in ((3, False), (7, True)):
        with pytest.raises(Interrupted, match=f"SIGTERM after step {step} of 14") as stopped:
            toy_run(
                toy_data,
                toy_preset,
                *settings,
                "training.checkpoint_every=null",
                output="stopped",
                resume=True,
                do={step: terminate},
            )
        assert stopped.value.exit_status == 143
        state = CheckpointStore(toy_data / "stopped" / "checkpoints").read(step).state
        assert state["epoch_ended"] is not of_last
    assert not any("validation" in row for row in rows(toy_data / "stopped"))
    toy_run(toy_data, toy_preset, *settings, output="stopped", resume=True)
    assert_same(toy_data / "stopped", never_stopped.path)
    # And killed at the end of an epoch, behind its validation.
    killed = stopped_at(never_stopped.path, 7, "killed")
    toy_run(toy_data, toy_preset, *settings, output=killed.name, resume=True)
    assert_same(killed, never_stopped.path)
