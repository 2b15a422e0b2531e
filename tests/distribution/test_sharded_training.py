"""What a training is besides its steps, in shards as on one device: it stops, skips and resumes.

Each case is trained by a command in shards, on four virtual devices, and by TensorFlow on one.
"""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from kerasllm.run import Run
from kerasllm.training.checkpoints import CheckpointStore
from tests import forked
from tests.distribution.processes import XLA_FLAGS
from tests.tasks.toys import text_classification
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.workflows.test_chaos import finish, steps_done, wait_until
from tests.workflows.toy_runs import assert_same, metrics, rows, weights

pytest.importorskip("jax")

pytestmark = pytest.mark.slow

MODULE = "tests.distribution.sharded_commands"
# TensorFlow and JAX round differently in each operation; between meshes the order of sums differs.
OF_TENSORFLOW, OF_EACH_OTHER = 1e-4, 1e-5
IN_SHARDS = {
    "XLA_FLAGS": f"{XLA_FLAGS} --xla_force_host_platform_device_count=4",
    # It imports Keras with JAX, in a process that imports it by itself.
    "PYTHONPATH": str(forked.ROOT),
}

COMMON = {
    "training.precision": "float32",
    "training.max_steps": 9,
    "training.log_every": 1,
    "training.checkpoint_every": None,
    "model.dropout": 0.0,
}
# The toy data of each case, and what is set beside `COMMON`.
ALIKE = {
    "class weights": ("single label", {"data.class_weights": {"negative": 3, "mixed": 0.5}}),
    "label smoothing": ("single label", {"training.label_smoothing": 0.2}),
    "several labels": ("several labels", {"training.label_smoothing": 0.2}),
    "score": ("score", {}),
    # TensorFlow pads to the same lengths as long as it compiles for them.
    "pair, in lengths": ("pair", {"data.buckets": 4, "training.xla": True}),
    "lengths": ("single label", {"data.buckets": 6, "training.xla": True}),
    # No multiple of the devices, nor are the 15 rows of half a batch.
    "27 rows": ("single label", {"training.batch_size": 27}),
    "30 rows, in parts": ("single label", {"training.batch_size": 30, "training.accumulate": 2}),
    "decays": ("single label", {"training.l2": 0.01, "training.layer_decay": 0.8}),
    "executions": ("single label", {"training.steps_per_execution": 3}),
    "adapters": ("single label", {"model.lora": {"rank": 2}}),
}
# 11 steps an epoch. The first validation is the best.
STOPS_EARLY = {
    "training.max_steps": None,
    "training.epochs": 6,
    "training.early_stopping": {"patience": 2, "metric": "accuracy", "min_delta": 1},
    "training.checkpoint_every": 8,
    "training.keep_checkpoints": 99,
}
CHECKPOINTS = {
    "training.max_steps": 22,
    "training.checkpoint_every": 8,
    "training.keep_checkpoints": 99,
}
BAD_ROWS = (5, 40, 41, 70)


def environment(cache) -> dict:
    """Returns the variables of a process that runs commands."""
    own = {"KERASLLM_CACHE": str(cache), "NO_COLOR": "1", "COLUMNS": "1000"}
    # All lengths are used: none is left out because it takes long to compile.
    found = {**os.environ, **own, "KERASLLM_COMPILE_COSTS": "0"}
    found.pop("TF_CONFIG", None)
    return found


def run_all(engine: str, commands: dict, folder, cache) -> dict:
    """Runs commands in a process that computes with an engine; see sharded_commands.py."""
    (folder / f"{engine}.json").write_text(json.dumps(commands))
    arguments = [MODULE, engine, folder / f"{engine}.json", folder / f"{engine}-done.json"]
    env = environment(cache)
    if engine == "one_device":
        done = forked.run("-m", *arguments, env=env)
    else:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            env={**env, **IN_SHARDS},
            capture_output=True,
            text=True,
            timeout=1200,
        )
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads((folder / f"{engine}-done.json").read_text())


def finetune(case: tuple, strategy: str, output, *more: str) -> list[str]:
    """Returns the command of a case."""
    recipe, settings = case
    options = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    run = ["--strategy", strategy, "--output", str(output)]
    return ["finetune", "--recipe", recipe, *options, *run, *more]


def losses(run) -> np.ndarray:
    return np.array([row["loss"] for row in rows(run) if "loss" in row])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded_training")


@pytest.fixture(scope="module")
def preset(folder):
    return save_toy_preset(folder / "preset", num_layers=1)


@pytest.fixture(scope="module")
def poisoned(folder, preset):
    """The preset with a word, `mixed`, whose vector overflows in the first norm."""
    copy = folder / "poisoned"
    shutil.copytree(preset, copy)
    words = (copy / "assets" / "tokenizer" / "vocabulary.txt").read_text().split()
    with h5py.File(copy / "model.weights.h5", "r+") as file:
        found = []
        file.visititems(lambda _, each: found.append(each) if hasattr(each, "dtype") else None)
        [table] = [each for each in found if each.shape == (len(words), 32)]
        table[words.index("mixed")] = 3e38
    return copy


@pytest.fixture(scope="module")
def cases(folder, preset, poisoned):
    """The recipe and the settings of each case by its name."""
    found = {}
    for name, (variant, settings) in ALIKE.items():
        (data := folder / "data" / name).mkdir(parents=True)
        toy = text_classification.VARIANTS[variant](data, preset)
        found[name] = (toy.recipe, {**toy.settings, **COMMON, **settings})
    recipe, settings = found["label smoothing"]
    found["stops early"] = (recipe, settings | STOPS_EARLY)
    # Long enough to be met on the way.
    longer = {"training.max_steps": None, "training.epochs": 8, "model.dropout": 0.1}
    found["checkpoints"] = (recipe, settings | CHECKPOINTS | longer)
    found["meshes"] = (recipe, settings | CHECKPOINTS)
    for name, on_nan, bad in (
        ("skips", "skip", BAD_ROWS),
        ("stops", "stop", BAD_ROWS),
        ("skips no more", "skip", range(96)),
    ):
        texts = toy_rows(96)
        for row in bad:
            texts[row] = (f"mixed {texts[row][0]}", texts[row][1])
        file = write_csv(folder / f"{name}.csv", texts)
        changed = {
            "data.train": str(file),
            "data.test": None,
            "data.validation": str(write_csv(folder / "validation.csv", toy_rows(16, seed=1))),
            "model.preset": str(poisoned),
            "training.on_nan": on_nan,
            "training.max_steps": None,
            "training.epochs": 3,
        }
        found[name] = (recipe, settings | changed)
    return found


@pytest.fixture(scope="module")
def done(cases, folder, session_cache):
    """What the commands printed, by engine; their runs are in folders of their names."""
    found = {}
    for engine, strategy in (("one_device", "one_device"), ("sharded", "sharded:2x2")):
        (runs := folder / engine).mkdir()
        commands = {
            name: finetune(case, strategy, runs / name)
            for name, case in cases.items()
            if engine == "sharded" or name not in ("checkpoints", "meshes")
        }
        if engine == "sharded":
            commands |= resumed(cases, runs)
            case = cases["label smoothing"]
            commands["profiled"] = finetune(case, strategy, runs / "profiled", "--profile", "3:5")
        case = cases["label smoothing"]
        commands["rates"] = ["tune", "--lr-find", *finetune(case, strategy, runs / "rates")[1:]]
        found[engine] = run_all(engine, commands, folder, session_cache)
    return found


def resumed(cases: dict, runs) -> dict:
    """Returns commands that resume runs at some steps, on other meshes as well."""
    commands = {}
    for name, before, step, strategy in (
        ("killed before the best", "stops early", 8, "sharded:2x2"),
        ("killed after the best", "stops early", 24, "sharded:2x2"),
        ("killed", "checkpoints", 8, "sharded:2x2"),
        ("on 4x1", "meshes", 8, "sharded:4x1"),
        ("on 1x4", "on 4x1", 16, "sharded:1x4"),
    ):
        case = cases["meshes" if before == "on 4x1" else before]
        commands[f"{name}, copied"] = ["stopped_at", str(runs / before), str(step), name]
        commands[name] = finetune(case, strategy, runs / name, "--resume")
    return commands


def both(done, folder, name, status=0):
    """Returns the runs of a case in shards and on one device."""
    for engine in ("sharded", "one_device"):
        assert done[engine][name]["status"] == status, done[engine][name]["err"]
    return folder / "sharded" / name, folder / "one_device" / name


def one(done, folder, name):
    """Returns the run in shards of a case."""
    assert done["sharded"][name]["status"] == 0, done["sharded"][name]["err"]
    return folder / "sharded" / name


def assert_alike(run, other):
    """Asserts that two runs have the same rows up to rounding."""
    for row, expected in zip(rows(run), rows(other), strict=True):
        # A list: what reads a log may go by the order.
        assert list(row) == list(expected)
        assert row["step"] == expected["step"]
    np.testing.assert_allclose(losses(run), losses(other), atol=OF_TENSORFLOW, rtol=0)


@pytest.mark.parametrize("name", ALIKE)
def test_a_case_trains_as_tensorflow_does_on_one_device(name, done, folder):
    in_shards, on_one_device = both(done, folder, name)
    assert_alike(in_shards, on_one_device)
    assert len(losses(in_shards)) == (3 if name == "executions" else 9)
    measured, expected = (metrics(run)["test"] for run in (in_shards, on_one_device))
    assert measured.keys() == expected.keys()
    assert measured["loss"] == pytest.approx(expected["loss"], abs=OF_TENSORFLOW)


def test_batches_of_several_lengths_are_those_of_tensorflow(done, folder):
    for name in ("lengths", "pair, in lengths"):
        timing, expected = (metrics(run)["timing"] for run in both(done, folder, name))
        for key in ("real_tokens", "processed_tokens", "padding"):
            assert timing[key] == expected[key]
        [shapes] = re.findall(r"(\d+) input shapes compiled", done["sharded"][name]["err"])
        assert int(shapes) > 1


def test_what_is_written_for_tensorboard_is_there(done, folder):
    in_shards, on_one_device = both(done, folder, "label smoothing")
    files = [
        {path.parent.relative_to(run) for path in (run / "tensorboard").rglob("*.tfevents.*")}
        for run in (in_shards, on_one_device)
    ]
    assert files[0] == files[1] != set()


def test_a_profile_is_where_tensorboard_looks_for_it_and_has_its_steps(done, folder):
    profiles = one(done, folder, "profiled") / "tensorboard" / "plugins" / "profile"
    assert len(list(profiles.glob("*/*.xplane.pb"))) == 1
    [file] = profiles.glob("*/*.trace.json.gz")
    with gzip.open(file) as trace:
        events = [each.get("name", "") for each in json.load(trace)["traceEvents"]]
    # With a number in front it is the part of a device.
    steps = [name for name in events if name.endswith("Execute (jit_compute)") and name[0] != "["]
    assert len(steps) == 3


def test_a_learning_rate_is_found_as_on_one_device(done, folder):
    found, expected = (
        json.loads((run / "lr_find.json").read_text()) for run in both(done, folder, "rates")
    )
    # Where the loss diverges, so does what rounding made different.
    assert len(found["losses"]) > 50
    assert found["rates"][:50] == pytest.approx(expected["rates"][:50])
    np.testing.assert_allclose(
        found["losses"][:50], expected["losses"][:50], atol=OF_TENSORFLOW, rtol=0
    )


def test_early_stopping_restores_the_best_weights(done, folder):
    in_shards, on_one_device = both(done, folder, "stops early")
    assert_alike(in_shards, on_one_device)
    assert len(losses(in_shards)) == 33
    # Of 6 epochs it did 3, and kept the first.
    [kept] = re.findall(r"early stopping.*", done["sharded"]["stops early"]["err"])
    assert kept in done["one_device"]["stops early"]["err"]
    store = CheckpointStore(Run(in_shards).checkpoints)
    assert store.best_step == 11
    found = list(weights(in_shards).values())
    for name, array in store.read(11).arrays.items():
        # The head is in a file of its own.
        if name.startswith("model/") and "/logits/" not in name:
            assert any(np.array_equal(array, each) for each in found), name


@pytest.mark.parametrize("name", ["killed before the best", "killed after the best"])
def test_early_stopping_resumes_exactly(name, done, folder):
    assert_same(one(done, folder, name), one(done, folder, "stops early"))


def test_a_killed_run_ends_as_if_it_had_not_been(done, folder):
    assert "resuming after step 8 of 88" in done["sharded"]["killed"]["err"]
    assert_same(one(done, folder, "killed"), one(done, folder, "checkpoints"))


def test_a_signal_ends_a_run_with_a_checkpoint(cases, done, folder, session_cache):
    output = folder / "signalled"
    command = finetune(cases["checkpoints"], "sharded:2x2", output, "--resume")

    def start() -> subprocess.Popen:
        with open(output.with_suffix(".log"), "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "kerasllm", *command],
                env=environment(session_cache) | IN_SHARDS,
                stdout=log,
                stderr=log,
            )

    process = start()
    try:
        wait_until(lambda: steps_done(output) > 2, process)
        process.send_signal(signal.SIGTERM)
        said = finish(process, output, status=143)
        step = int(re.search(r"Stopped: SIGTERM after step (\d+) of 88", said)[1])
        assert steps_done(output) == step
        assert (Run(output).checkpoints / f"step-{step}").is_dir()
        finish(process := start(), output)
    finally:
        process.kill()
    assert_same(output, one(done, folder, "checkpoints"))


@pytest.mark.parametrize("name", ["on 4x1", "on 1x4"])
def test_a_run_resumes_on_another_mesh(name, done, folder):
    run, whole = one(done, folder, name), one(done, folder, "meshes")
    assert "resuming after step" in done["sharded"][name]["err"]
    np.testing.assert_allclose(losses(run), losses(whole), atol=OF_EACH_OTHER, rtol=0)
    assert len(losses(run)) == 22


def skipped(done: dict) -> list[str]:
    return re.findall(r"step \d+ is skipped: .*", done["err"])


def test_a_batch_without_a_finite_loss_is_left_out_and_named(done, folder):
    in_shards, on_one_device = both(done, folder, "skips")
    assert_alike(in_shards, on_one_device)
    told = skipped(done["sharded"]["skips"])
    assert told == skipped(done["one_device"]["skips"])
    # Each row is in one batch of each of 3 epochs.
    assert 3 <= len(told) <= 3 * len(BAD_ROWS)
    assert all("the loss is nan" in each and "skips.csv" in each for each in told)
    assert rows(in_shards)[-2]["skipped"] == len(told)
    assert np.isnan(losses(in_shards)).sum() == len(told)


def test_a_training_stops_where_the_loss_is_not_finite(done, folder):
    both(done, folder, "stops", status=1)
    [error] = re.findall(r"Error: (At step \d+ .*)", done["sharded"]["stops"]["err"])
    assert error in done["one_device"]["stops"]["err"] and "the loss is nan" in error


def test_a_training_stops_after_ten_such_batches_in_a_row(done, folder):
    both(done, folder, "skips no more", status=1)
    said = done["sharded"]["skips no more"]
    assert len(skipped(said)) == 9
    assert "At step 10 the loss is nan, for the 10th step in a row" in said["err"]
