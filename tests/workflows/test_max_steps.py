"""`training.max_steps` ends a training in the midst of an epoch, as if all of it had been planned
so."""

import json

import pytest

from kerasllm.errors import Interrupted, RecipeError
from kerasllm.run import Run
from kerasllm.training.checkpoints import CheckpointStore
from tests.toy import save_toy_preset
from tests.workflows.toy_runs import (
    assert_same,
    metrics,
    rows,
    stopped_at,
    terminate,
    toy_run,
)

# Of 14 steps, 7 an epoch.
TEN = ("training.max_steps=10", "training.accumulate=2")


@pytest.fixture(autouse=True, scope="module")
def quick(session_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASLLM_CACHE", str(session_cache))
        yield


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=1)


def test_it_ends_there_and_resumes_to_there(toy_data, preset):
    whole, shown = toy_run(toy_data, preset, *TEN)
    assert "10, batch size 32" in shown and "step 10/10" in shown
    found = rows(whole.path)
    training = [row for row in found if "loss" in row]
    assert training[-1]["step"] == 10 and training[-1]["epoch"] == pytest.approx(10 / 7, abs=1e-3)
    # The schedule has come down to there, and not to the end of the epoch.
    assert training[-1]["learning_rate"] == pytest.approx(5e-3 / 9, rel=1e-3)
    assert [row["step"] for row in found if "validation" in row] == [7, 10]
    assert metrics(whole.path)["timing"]["steps"] == 10
    assert metrics(whole.path)["train"]["accuracy"] > 0
    for step in (8, 10):
        killed = stopped_at(whole.path, step, f"killed-{step}")
        toy_run(toy_data, preset, *TEN, output=killed.name, resume=True)
        assert_same(killed, whole.path)
    with pytest.raises(Interrupted, match="SIGTERM after step 10 of 10"):
        toy_run(toy_data, preset, *TEN, output="stopped", do={10: terminate})
    state = CheckpointStore(toy_data / "stopped" / "checkpoints").newest_state()
    assert state["epoch_ended"]
    toy_run(toy_data, preset, *TEN, output="stopped", resume=True)
    assert_same(toy_data / "stopped", whole.path)


def test_the_epochs_stay_the_upper_bound_and_executions_end_with_it(toy_data, preset):
    in_threes = ("training.steps_per_execution=3", "training.checkpoint_every=3")
    run, _shown = toy_run(toy_data, preset, *in_threes, "training.max_steps=99")
    assert metrics(run.path)["timing"]["steps"] == 14
    # Executions begin again with an epoch: 3, 3, 1, 3, ...
    with pytest.raises(RecipeError, match="max_steps 9 ends within an execution") as refused:
        toy_run(toy_data, preset, *in_threes, "training.max_steps=9", output="refused")
    assert "training.max_steps=7" in refused.value.fix
    assert not Run(toy_data / "refused").recipe.exists()
    run, _ = toy_run(toy_data, preset, *in_threes, "training.max_steps=10", output="ten")
    assert metrics(run.path)["timing"]["steps"] == 10


def test_plan_shows_it(kerasllm_plan):
    found, shown = kerasllm_plan("training.max_steps=10")
    assert (found["epochs"], found["steps"]) == (2, 10)
    assert "2 x 7 = 14, stopped after 10 by training.max_steps" in shown


@pytest.fixture
def kerasllm_plan(toy_data, preset):
    import io

    from rich.console import Console

    from kerasllm.recipe import load
    from kerasllm.workflows.plan import plan
    from kerasllm.workflows.report import Report
    from tests.conftest import toy_settings

    def run(*settings):
        recipe = load("bert_cls", [*toy_settings(toy_data, preset), *settings])
        shown = io.StringIO()
        found = plan(recipe, step=False, report=Report(Console(file=shown, width=200)))
        return json.loads(json.dumps(found)), shown.getvalue()

    return run
