"""The example of docs/adding_a_task.md works as another package, and is what the page shows."""

import json
import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from kerasllm.run import Run
from kerasllm.tasks.task import Task
from tests import forked
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.workflows.toy_runs import assert_same, rows, stopped_at

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "ordinal_task"
RECIPE = EXAMPLE / "ordinal.yaml"
LABELS = ("negative", "mixed", "positive")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with what installing the example leaves there; no build, which would need wheel."""
    folder = tmp_path_factory.mktemp("installed")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    name = project["name"].replace("-", "_")
    facts = folder / f"{name}-{project['version']}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")
    shutil.copy(EXAMPLE / f"{name}.py", folder)
    return folder


@pytest.fixture(scope="module")
def kerasllm(installed, session_cache):
    """Runs a command in a process that finds the example, and returns what it printed."""

    def run(*arguments) -> str:
        path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))
        done = forked.run(
            *("-m", "kerasllm", *arguments),
            cwd=DOCS.parent,
            env={**os.environ, "PYTHONPATH": path, "KERASLLM_CACHE": str(session_cache)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_csv(folder / "train.csv", toy_rows(192, LABELS))
    write_csv(folder / "test.csv", toy_rows(60, LABELS, seed=1))
    save_toy_preset(folder / "preset", num_layers=1)
    return folder


@pytest.fixture(scope="module")
def trained(kerasllm, data) -> Path:
    kerasllm(*_command(data, data / "run"))
    return data / "run"


def _command(data: Path, run: Path) -> list:
    settings = {
        "model.preset": data / "preset",
        "data.buckets": 1,
        "data.max_length": 32,
        "training.epochs": 6,
        "training.batch_size": 16,
        "training.learning_rate": 0.005,
        "training.precision": "float32",
        "training.checkpoint_every": 20,
        "training.keep_checkpoints": 9,
        "training.log_every": 1,
        "training.early_stopping": "{patience: 9, metric: kappa}",
    }
    command = ["finetune", "--recipe", RECIPE, "--output", run]
    command += ["--train", data / "train.csv", "--test", data / "test.csv"]
    return command + [f"--set={key}={value}" for key, value in settings.items()]


def test_it_learns_by_its_own_loss_and_metrics(trained):
    losses = [row["loss"] for row in rows(trained) if "loss" in row]
    assert losses[-1] < 0.3 * losses[0]
    found = Run(trained).read_metrics()["test"]
    assert found["kappa"] > 0.8 and found["mae"] < 0.2


def test_a_killed_run_is_resumed_to_the_same_weights(trained, kerasllm, data):
    killed = stopped_at(trained, 40, "killed")
    kerasllm(*_command(data, killed), "--resume")
    assert_same(killed, trained)


def test_it_is_evaluated_with_the_metrics_of_the_run(trained, kerasllm, data):
    found = json.loads(kerasllm("evaluate", trained, "--data", data / "test.csv", "--json"))
    expected = Run(trained).read_metrics()["test"]
    for name in ("loss", "kappa", "mae"):
        assert found[name] == pytest.approx(expected[name], abs=1e-4)


def test_it_predicts(trained, kerasllm):
    texts = ["the film was good great bright .", "dull bad awful scene ."]
    lines = kerasllm("predict", trained, *texts, "--json").splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["positive", "negative"]


def test_recipes_of_it_are_validated_and_listed_with_the_known_tasks(kerasllm, tmp_path):
    kerasllm("recipes", "validate", RECIPE)
    file = tmp_path / "mine.yaml"
    file.write_text(
        RECIPE.read_text().replace("kappa", "x").replace("task: ordinal", "task: ordnal")
    )
    with pytest.raises(AssertionError, match="did you mean ordinal"):
        kerasllm("recipes", "validate", file)


@pytest.mark.parametrize("name", ["ordinal_task.py", "ordinal.yaml", "pyproject.toml"])
def test_the_page_shows_the_files_of_the_example(name):
    kind = {"py": "python", "yaml": "yaml", "toml": "toml"}[name.rpartition(".")[2]]
    page = (DOCS / "adding_a_task.md").read_text(encoding="utf-8")
    shown = f"```{kind}\n{(EXAMPLE / name).read_text(encoding='utf-8')}```"
    assert shown in page


def test_the_page_tells_of_all_that_a_task_has_and_what_it_needs():
    page = (DOCS / "adding_a_task.md").read_text(encoding="utf-8")
    contract = page.partition("## The contract")[2]
    named = {*vars(Task), *Task.__annotations__} - {"annotations"}
    for name in named:
        assert name.startswith("_") or re.search(rf"`{name}[`(]", contract), name
    for name in Task.__abstractmethods__:
        assert re.search(rf"`{name}\([^`]*\)` \*", contract), name
