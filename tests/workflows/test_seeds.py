"""`finetune --seeds`: a run for each seed, mean and spread, resumed where it was broken off."""

import json
import sys

import pytest

from kerasllm.cli.main import main
from kerasllm.errors import JobError, RunError
from kerasllm.recipe import load
from kerasllm.run import Run, read_json
from kerasllm.workflows import seeds
from kerasllm.workflows.compare_runs import compare_runs

# In the place of `kerasllm`: makes the run that `finetune --recipe FILE --output DIR` would.
_STAND_IN = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from kerasllm.recipe import load
from tests.reports.made_run import make_run
recipe, output = sys.argv[3], Path(sys.argv[5])
seed = load(recipe).training.seed
if (output.parent / f"fail-{{seed}}").exists():
    sys.exit(7)
make_run(output, rows=200, noise=seed)
"""


@pytest.fixture
def no_training(monkeypatch, request):
    code = _STAND_IN.format(root=str(request.config.rootpath))
    monkeypatch.setattr(seeds, "COMMAND", (sys.executable, "-c", code))


def test_each_seed_is_a_run_and_mean_and_spread_are_told(no_training, tmp_path, capsys):
    recipe = load("bert_cls", ["training.seed=3"])
    found = seeds.finetune_seeds(recipe, 3, output=tmp_path / "runs")
    assert found["runs"] == ["seed-3", "seed-4", "seed-5"]
    values = [
        Run(tmp_path / "runs" / run).read_metrics()["test"]["accuracy"] for run in found["runs"]
    ]
    accuracy = read_json(tmp_path / "runs" / "seeds.json")["metrics"]["test"]["accuracy"]
    assert accuracy["values"] == values
    assert accuracy["least"] <= accuracy["mean"] <= accuracy["most"]
    told = capsys.readouterr().err
    assert "Seed 4, 2 of 3" in told
    assert f"{accuracy['mean']:.4f}" in told and f"{accuracy['std']:.4f}" in told
    assert len(set(values)) > 1
    assert compare_runs([tmp_path / "runs", tmp_path / "runs"])["runs"][0]["seeds"] == 3


def test_a_seed_that_failed_is_trained_when_it_is_resumed(no_training, tmp_path, capsys):
    folder = tmp_path / "runs"
    recipe = load("bert_cls")
    folder.mkdir()
    (folder / "fail-1").touch()
    with pytest.raises(RunError, match="not empty"):
        seeds.finetune_seeds(recipe, 2, output=folder)
    with pytest.raises(JobError, match="seed-1 ended with status 7"):
        seeds.finetune_seeds(recipe, 2, output=folder, resume=True)
    with pytest.raises(RunError, match="already holds runs"):
        seeds.finetune_seeds(recipe, 2, output=folder)
    (folder / "fail-1").unlink()
    seeds.finetune_seeds(recipe, 2, output=folder, resume=True)
    assert "seed 0: " in capsys.readouterr().err
    assert Run(folder / "seed-1").metrics.is_file()


def test_finished_seeds_of_another_recipe_are_not_mixed_with_new_ones(no_training, tmp_path):
    folder = tmp_path / "runs"
    seeds.finetune_seeds(load("bert_cls"), 2, output=folder)
    other = load("bert_cls", ["training.learning_rate=3e-4"])
    with pytest.raises(RunError, match="it differs in training.learning_rate") as refused:
        seeds.finetune_seeds(other, 3, output=folder, resume=True)
    assert "--output" in refused.value.fix
    assert not (folder / "seed-2").exists()
    # What changes no number may differ.
    more = load("bert_cls", ["training.log_every=7"])
    assert len(seeds.finetune_seeds(more, 3, output=folder, resume=True)["runs"]) == 3


def test_a_run_is_no_folder_of_seeds(no_training, tmp_path):
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(RunError, match="is a run directory"):
        seeds.finetune_seeds(load("bert_cls"), 2, output=tmp_path, resume=True)


def test_the_command_trains_seeds_and_the_list_shows_them(no_training, tmp_path, capsys):
    folder = tmp_path / "five"
    options = ["--recipe", "bert_cls", "--seeds", "2", "--output", str(folder)]
    with pytest.raises(SystemExit) as ended:
        main(["finetune", *options])
    assert ended.value.code == 0
    with pytest.raises(SystemExit):
        main(["runs", str(folder), "--json"])
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {run["seed"] for run in listed} == {0, 1}
    with pytest.raises(SystemExit) as ended:
        main(["finetune", *options, "--profile", "3"])
    assert ended.value.code == 2
