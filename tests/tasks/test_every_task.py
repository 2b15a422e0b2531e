"""One harness for every task: a new one is tested by being there, with the toy data it brings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from kerasllm import recipe as recipes
from kerasllm.errors import CommandError, RecipeError, RunError
from kerasllm.export.formats import FORMATS
from kerasllm.recipe.schema import comments
from kerasllm.run import Run
from kerasllm.tasks import task as tasks
from tests.conftest import cached_in
from tests.tasks.toy_task import Toy, variants
from tests.toy import save_toy_preset
from tests.toy_language_model import save_toy_decoder
from tests.workflows.toy_runs import ActingReport, assert_same, rows, stopped_at, terminate

TASKS = tasks.names()
# What writing and checking takes seconds for, of each toy.
_SLOW_FORMATS = {"saved_model", "litert", "onnx", "keras"}
# What imports TensorFlow, or takes as long.
_HEAVY = ("tensorflow", "keras", "torch", "numpy", "pyarrow")
_REPOSITORY = Path(recipes.path_of(recipes.names()[0])).parents[1]


def _variants(name: str) -> list[str]:
    try:
        return list(variants(name))
    except LookupError:
        return []


TOYS = [(name, variant) for name in TASKS for variant in _variants(name)]


@dataclass(frozen=True, eq=False)
class ToyRun:
    """A finished training on toy data, and what it was made of."""

    toy: Toy
    recipe: recipes.WholeRecipe
    task: tasks.Task
    run: Run

    @property
    def data(self) -> str:
        """What `evaluate` is given."""
        return self.toy.data or self.recipe.data.test


@pytest.fixture(autouse=True, scope="module")
def cache(session_cache):
    with cached_in(session_cache):
        yield


@pytest.fixture(scope="module")
def preset_of(tmp_path_factory, cache):
    """Returns a function to a toy preset of a kind, which is made once."""
    savers = {
        "encoder": lambda folder: save_toy_preset(folder, num_layers=1),
        "decoder": save_toy_decoder,
    }
    made: dict[str, Path] = {}

    def preset_of(kind: str) -> Path | None:
        if kind not in made and kind in savers:
            made[kind] = savers[kind](tmp_path_factory.mktemp("preset") / kind)
        return made.get(kind)

    return preset_of


@pytest.fixture(scope="module", params=TOYS, ids=[f"{name}, {variant}" for name, variant in TOYS])
def trained(request, tmp_path_factory, preset_of) -> ToyRun:
    """Each toy of each task, trained once; it keeps all its checkpoints."""
    name, variant = request.param
    task, folder = tasks.find(name), tmp_path_factory.mktemp("toy")
    toy = variants(name)[variant](folder, preset_of(task.preset_kind))
    loaded = recipes.load(toy.recipe, [*toy.overrides, *_TRAINING])
    assert loaded.task == name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kerasllm.workflows.finetune.training_curve", lambda *arguments: None)
        yield ToyRun(toy, loaded, task, _finetune(loaded, folder / "run"))


# Steps between two checkpoints.
_EVERY = 4
_TRAINING = (
    "training.precision=float32",
    "training.log_every=1",
    f"training.checkpoint_every={_EVERY}",
    "training.keep_checkpoints=99",
)


def _finetune(recipe, folder: Path, *, do=None, **options) -> Run:
    from kerasllm.workflows.finetune import finetune

    return finetune(recipe, output=folder, report=ActingReport(do or {}), **options)


# Recipes


@pytest.mark.parametrize("name", TASKS)
def test_it_brings_toy_data_and_a_recipe(name):
    assert variants(name)
    assert _recipes_of(name), f"no file in recipes/ has `task: {name}`"


@pytest.mark.parametrize("name", TASKS)
def test_its_recipes_round_trip_with_a_comment_beside_each_key(name, tmp_path):
    schema = tasks.find(name).Recipe
    without = [".".join(key) for key, comment in comments(schema).items() if not comment]
    assert not without, "keys without a description"
    for each in _recipes_of(name):
        loaded, file = recipes.load(each), tmp_path / f"{each}.yaml"
        for explain in (False, True):
            file.write_text(loaded.to_yaml(explain), encoding="utf-8")
            assert recipes.load(file) == loaded
        _assert_every_key_is_commented(recipes.path_of(each))
        for section in ("", "model.", "data.", "training."):
            with pytest.raises(RecipeError, match=f"unknown key {section}no_such_key"):
                recipes.load(each, [f"{section}no_such_key=1"])


def _recipes_of(name: str) -> list[str]:
    return [each for each in recipes.names() if recipes.load(each).task == name]


def _assert_every_key_is_commented(file: Path) -> None:
    """Asserts that a recipe writes every key, each with a comment beside it."""
    text = file.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    schema = recipes.schema_of(values["task"])
    for section in ("model", "data", "training"):
        known = set(schema.model_fields[section].annotation.model_fields)
        assert set(values[section]) == known, f"{file.name}: {section}"
    for line in text.splitlines():
        assert not re.match(r"  \w+:", line) or "  #" in line, f"{file.name}: {line}"


# Training


def test_it_learns(trained):
    losses = [row["loss"] for row in rows(trained.run.path) if "loss" in row]
    assert losses[-1] <= trained.toy.falls * losses[0], losses
    found = trained.run.read_metrics()["test"]
    assert trained.task.headline_of(found).metric in found
    assert set(trained.task.lower_is_better) <= set(trained.task.metrics)


def test_a_killed_run_ends_as_if_it_had_not_been(trained):
    steps = trained.run.read_metrics()["timing"]["steps"]
    killed = stopped_at(trained.run.path, steps // 2 // _EVERY * _EVERY, "killed")
    _finetune(trained.recipe, killed, resume=True)
    _assert_same(Run(killed), trained.run)


@pytest.mark.slow
def test_a_stopped_run_ends_as_if_it_had_not_been(trained):
    from kerasllm.errors import Interrupted

    steps = trained.run.read_metrics()["timing"]["steps"]
    folder = trained.run.path.with_name("stopped")
    with pytest.raises(Interrupted, match="SIGTERM"):
        _finetune(trained.recipe, folder, do={steps // 2 + 1: terminate}, resume=True)
    _finetune(trained.recipe, folder, resume=True)
    _assert_same(Run(folder), trained.run)


def _assert_same(run: Run, other: Run) -> None:
    """Asserts that two runs have the same log, model, and newest checkpoint, bit by bit."""
    from kerasllm.training.checkpoints import CheckpointStore

    assert_same(run.path, other.path)
    last = f"step-{CheckpointStore(other.checkpoints).steps()[-1]}"
    one, two = (each.checkpoints / last / "arrays.safetensors" for each in (run, other))
    assert one.read_bytes() == two.read_bytes()


def test_a_plan_finds_no_problem_and_computes_no_reference(trained, monkeypatch, tmp_path):
    from kerasllm.workflows.plan import plan

    def refuse(*arguments):
        raise AssertionError("a plan computes no reference")

    monkeypatch.setattr(type(trained.task), "prepare_reference", refuse)
    found = plan(trained.recipe, output=tmp_path / "run", report=ActingReport({}))
    assert found["problems"] == [] and np.isfinite(found["step"]["loss"])
    assert not (tmp_path / "run").exists()


# What a run is used for


def test_a_saved_model_opens_and_measures_the_same(trained):
    from kerasllm.workflows.evaluate import evaluate
    from kerasllm.workflows.trained import open_run

    task, opened = trained.task, open_run(trained.run.path)
    model = opened.open()
    again = Run(trained.run.path.with_name("again"))
    again.path.mkdir()
    task.save(trained.recipe, model, again)
    for one, other in zip(model.weights, task.open(again.model).weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    if trained.toy.measures_test:
        found = task.evaluate(model, task.load(trained.recipe).test, buckets=opened.buckets)
        _assert_near(found.metrics, trained.run.read_metrics()["test"])
    metrics = evaluate(opened, trained.data, report=ActingReport({}))
    assert np.isfinite(metrics[task.headline_of(metrics).metric])
    assert task.tables({"test": metrics}, detailed=True)
    json.dumps(metrics)


def _assert_near(metrics: dict, expected: dict) -> None:
    for name, value in expected.items():
        if isinstance(value, float):
            assert metrics[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_its_report_is_made_of_test_rows_that_measure_as_the_model_did(trained):
    from kerasllm.evaluation.outcomes import read_outcomes
    from kerasllm.reports.run_facts import facts_for_report

    test = trained.run.read_metrics()["test"]
    assert trained.run.report.is_file()
    outcomes = read_outcomes(trained.run.predictions)
    measured = trained.task.measure(outcomes)(np.ones(len(outcomes)))
    headline = trained.task.headline_of(test)
    assert headline.metric in measured
    for name in measured.keys() & test.keys():
        assert measured[name] == pytest.approx(test[name], rel=1e-4, abs=1e-5), name
    facts = facts_for_report(trained.run.path)
    assert headline.metric in facts["intervals"]["metrics"]
    assert not {"metrics", "curves", "intervals", "slices"} & facts["empty"].keys()
    json.dumps(facts, allow_nan=False)


def test_it_predicts_in_order_or_is_refused(trained):
    from kerasllm.workflows.predict import predict
    from kerasllm.workflows.trained import open_run

    opened = open_run(trained.run.path)
    if not trained.task.predicts:
        with pytest.raises(RunError, match=trained.task.name):
            next(predict(opened, ["a text"]))
        return
    inputs = list(trained.toy.inputs)
    assert inputs, "a task that predicts has `inputs` in its toy"
    found = list(predict(opened, inputs))
    alone = list(predict(opened, inputs[-1:], chunk=1))
    assert len(found) == len(inputs)
    assert alone[0].keys() == found[-1].keys()
    for prediction in (*found, *alone):
        json.dumps(prediction)
        assert trained.task.line(prediction)
        for value in trained.task.flat(prediction).values():
            assert isinstance(value, str | int | float)


def test_it_is_served(trained):
    from kerasllm.serving.app import build_app
    from kerasllm.serving.limits import Limits
    from kerasllm.serving.metrics import Metrics
    from kerasllm.workflows.serve import endpoints_of
    from kerasllm.workflows.trained import open_run
    from tests.serving.running import running

    metrics, limits = Metrics(), Limits()
    api = trained.task.api(open_run(trained.run.path).open(), limits)
    assert (api.generator is not None) == trained.task.generates
    endpoints, worker = endpoints_of(api, "toy", limits, metrics)
    path, body = endpoints.example
    if trained.task.generates:
        body = {**body, "max_tokens": 3}
    with running(build_app(endpoints, worker, metrics), worker) as client:
        answer = client.post(path, body)
        assert answer.status == 200, answer.body
        if not trained.task.generates:
            (found,) = answer.json["predictions"]
            assert set(found) == set(api.outputs) or len(api.outputs) == 1


@pytest.mark.parametrize(
    "format",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW_FORMATS)) for name in FORMATS],
)
def test_it_is_exported_or_refused_by_name(trained, format, tmp_path):
    from kerasllm.workflows.export import export

    def exported():
        return export(
            trained.run.path, format, output=tmp_path / "out", rows=5, report=ActingReport({})
        )

    if format in trained.toy.refuses:
        with pytest.raises(CommandError, match=f"format {format}"):
            exported()
        return
    assert all(each.holds for each in exported().parity)
    assert trained.task.head(_open(trained)).kind


def _open(trained):
    from kerasllm.workflows.trained import open_run

    return open_run(trained.run.path).open(precision="float32")


# Before TensorFlow


def test_the_files_of_all_tasks_import_neither_tensorflow_nor_numpy():
    code = (
        "import sys; from kerasllm.tasks import task; [task.find(name) for name in task.names()]; "
        f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("written", ["task: {wrong}\n", ""])
def test_an_unknown_task_is_refused_before_tensorflow(written, tmp_path):
    near = TASKS[-1]
    file = tmp_path / "mine.yaml"
    file.write_text(written.format(wrong=near[:-2]) + "data:\n  train: train.csv\n")
    code = (
        "import sys; from kerasllm.cli.main import main\n"
        f"try: main(['finetune', '--recipe', {str(file)!r}])\n"
        f"finally: print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout.strip() == "[]"
    assert "Traceback" not in done.stderr
    # The lines of the terminal break anywhere.
    told = " ".join(done.stderr.split())
    assert (f"did you mean {near}?" if written else "task is missing") in told
    assert all(name in told for name in TASKS)
