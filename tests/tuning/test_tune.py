"""A search: its trials, what it leaves, how it is interrupted and continued."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kerasllm.errors import KerasllmError, RunError
from kerasllm.recipe import load
from kerasllm.reports.run_groups import groups_of
from kerasllm.tuning import trial_run
from kerasllm.workflows.report import Report
from kerasllm.workflows.tune import tune

ROOT = Path(__file__).parents[2]
STAND_IN = str(Path(__file__).with_name("stand_in.py"))
SPACE = ["training.learning_rate=log:1e-5:8e-4", "training.epochs=1,2,3"]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(trial_run, "COMMAND", (sys.executable, STAND_IN))


def search(folder: Path, *, settings=(), space=SPACE, **options) -> dict:
    recipe = load("bert_cls", list(settings))
    options = {"report": Report.silent(), **options}
    return tune(recipe, name="bert_cls", space=space, output=folder / "search", **options)


def table(folder: Path) -> list[dict]:
    with open(folder / "search" / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_distinct(result: dict, count: int) -> None:
    done = [row for row in result["trials"] if row["state"] in ("complete", "pruned")]
    assert len(done) == count
    assert len({json.dumps(row["settings"]) for row in done}) == count
    assert {row["state"] for row in result["trials"]} <= {"complete", "pruned", "fail"}


def test_a_search_finds_settings_that_beat_the_default_and_leaves_a_recipe(tmp_path):
    result = search(tmp_path, trials=8)
    assert_distinct(result, 8)
    assert result["metric"] == "accuracy"
    # The first trial is the recipe as it is.
    assert result["trials"][0]["settings"] == {
        "training.learning_rate": 1e-4,
        "training.epochs": "1",
    }
    values = [row["value"] for row in result["trials"] if row["state"] == "complete"]
    assert result["best"]["validation"] == max(values)
    best = load(tmp_path / "search" / "best.yaml")
    assert best.training.epochs == int(result["best"]["settings"]["training.epochs"])
    assert best.data.test == load("bert_cls").data.test
    assert result["verdict"]["measured_on"] == "test"
    assert result["verdict"]["beats_default"]
    # Folders of seeds, as `kerasllm compare` takes them.
    groups = groups_of([tmp_path / "search" / "retrained" / name for name in result["retrained"]])
    assert [len(group.runs) for group in groups] == [3, 3]
    assert len(table(tmp_path)) == len(result["trials"])
    for name in ("history.svg", "importance.svg"):
        assert (tmp_path / "search" / name).read_text().startswith("<?xml")


def test_trials_do_not_measure_the_test_data(tmp_path):
    search(tmp_path, trials=2, seeds=1)
    for trial in (tmp_path / "search" / "trials").glob("*/metrics.json"):
        assert json.loads(trial.read_text())["test"] == {}
    retrained = list((tmp_path / "search" / "retrained").glob("*/*/metrics.json"))
    assert retrained and all(json.loads(run.read_text())["test"] for run in retrained)


def test_trials_below_the_median_are_pruned_and_end_as_by_sigterm(tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.5")
    space = ["training.learning_rate=1e-4,9e-5,1.1e-4,1e-5,1.1e-5"]
    result = search(tmp_path, space=space, settings=["training.epochs=2"], trials=5, seeds=0)
    states = {row["settings"]["training.learning_rate"]: row for row in result["trials"]}
    pruned = [row for row in result["trials"] if row["state"] == "pruned"]
    assert pruned and all(row["step"] < 8 for row in pruned)
    assert states["1e-4"]["state"] == "complete"
    for row in pruned:
        log = tmp_path / "search" / "trials" / f"{row['trial']:04}.log"
        assert "SIGTERM" in log.read_text()


def test_a_metric_that_is_measured_at_the_end_alone_is_what_the_search_goes_by(tmp_path):
    space = ["training.learning_rate=1e-4,5e-4"]
    data = ["data.train=a.tsv", "data.validation_split=0.1"]
    training = ["batch_size=32", "epochs=1", "learning_rate=2e-4"]
    recipe = load("translate", [*data, *(f"training.{one}" for one in training)])
    options = {"space": space, "report": Report.silent()}
    found = tune(recipe, output=tmp_path / "search", seeds=0, **options)
    assert found["metric"] == "bleu" and found["higher_is_better"]
    assert found["best"]["settings"] == {"training.learning_rate": "1e-4"}
    with pytest.raises(KerasllmError, match="no validation metric 'blue' to optimize") as refused:
        tune(recipe, output=tmp_path / "typo", metric="blue", **options)
    assert "bleu" in refused.value.fix


def test_test_data_without_the_metric_leave_the_verdict_to_the_validation(tmp_path):
    space, settings = ["training.epochs=1,2"], ["data.test=unlike.csv"]
    found = search(tmp_path, settings=settings, space=space, trials=2, seeds=1)
    assert found["verdict"]["measured_on"] == "validation"


def test_trials_that_failed_are_told_at_the_end(tmp_path, capsys):
    space = ["training.learning_rate=1e-4,1e-3"]
    search(tmp_path, space=space, trials=2, seeds=0, report=Report())
    assert "1 trial finished, 0 pruned, 1 failed" in capsys.readouterr().err


def test_a_small_space_is_tried_out_once(tmp_path):
    result = search(tmp_path, space=["training.epochs=1,2,3"], trials=20, seeds=0)
    assert_distinct(result, 3)


def test_the_same_command_continues_with_more_trials(tmp_path):
    first = search(tmp_path, trials=3, seeds=0)
    again = search(tmp_path, trials=5, seeds=0)
    assert again["trials"][:3] == first["trials"]
    assert_distinct(again, 5)
    resumed = tune(None, output=tmp_path / "search", seeds=0, report=Report.silent())
    assert resumed == again


def test_another_search_in_the_folder_is_refused_with_what_differs(tmp_path):
    search(tmp_path, trials=1, seeds=0)
    with pytest.raises(RunError, match="training.batch_size, --space training.epochs"):
        search(tmp_path, settings=["training.batch_size=16"], space=SPACE[:1], trials=1)


def test_a_search_whose_settings_are_damaged_is_refused(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "search.json").write_text('{"trials": 3}')
    with pytest.raises(RunError, match="it lacks metric, name, storage"):
        tune(None, output=tmp_path / "search", report=Report.silent())


def test_trials_that_fail_are_replaced_and_three_in_a_row_end_the_search(tmp_path):
    space = ["training.learning_rate=1e-4,2e-4,3e-4,1e-3"]
    result = search(tmp_path, space=space, trials=3, seeds=0)
    assert_distinct(result, 3)
    space = ["training.learning_rate=1e-3,2e-3,3e-3,4e-3"]
    with pytest.raises(KerasllmError, match="The loss is not a number") as error:
        search(tmp_path / "other", space=space, trials=3)
    assert error.value.exit_status == 1


def test_where_memory_runs_out_a_trial_accumulates_more_and_keeps_its_batch_size(tmp_path):
    settings = ["training.batch_size=128"]
    result = search(tmp_path, settings=settings, space=SPACE[1:], trials=2, seeds=0)
    assert_distinct(result, 2)
    best = load(tmp_path / "search" / "best.yaml").training
    assert (best.batch_size, best.accumulate) == (128, 4)


def test_what_the_recipe_does_wrong_is_told_once_by_its_own_words(tmp_path):
    with pytest.raises(KerasllmError, match="no column 'missing'") as error:
        search(tmp_path, settings=["data.text=missing"], trials=3)
    assert error.value.exit_status == 2


def test_leaks_into_the_test_data_are_told_before_the_trials_and_may_be_accepted(tmp_path):
    settings = ["data.test=leaked.csv"]
    with pytest.raises(KerasllmError, match="3 test rows are in train too") as error:
        search(tmp_path, settings=settings, trials=2)
    assert error.value.exit_status == 2
    assert not list((tmp_path / "search" / "trials").iterdir())
    assert_distinct(search(tmp_path, settings=[*settings, "data.leaks=warn"], trials=2), 2)


def test_a_budget_ends_the_trials_and_the_next_command_continues(tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "1")
    with pytest.raises(KerasllmError, match="No trial was finished"):
        search(tmp_path, settings=["training.epochs=9"], space=SPACE[:1], budget=1.0, trials=2)
    monkeypatch.setenv("STAND_IN_SECONDS", "0")
    result = search(tmp_path, settings=["training.epochs=9"], space=SPACE[:1], trials=2, seeds=0)
    assert_distinct(result, 2)


def test_several_workers_share_the_trials(tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.3")
    assert_distinct(search(tmp_path, trials=6, workers=3, seeds=1), 6)


def test_a_database_holds_the_trials(tmp_path):
    address = f"sqlite:///{tmp_path}/trials.db"
    assert_distinct(search(tmp_path, trials=3, storage=address, seeds=0), 3)
    assert not (tmp_path / "search" / "study.journal").exists()
    # Another folder of this name, in the same database.
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match="holds another search of a folder 'search'"):
        search(tmp_path / "other", settings=["training.batch_size=16"], storage=address)


# Killed as the system kills: SIGKILL reaches the search alone, and its trials go with it.
SCRIPT = """
import sys
from pathlib import Path
from kerasllm.recipe import load
from kerasllm.tuning import trial_run
from kerasllm.workflows.report import Report
from kerasllm.workflows.tune import tune
trial_run.COMMAND = (sys.executable, sys.argv[1])
tune(load("bert_cls"), space=sys.argv[3:], trials=20, output=sys.argv[2], seeds=0, workers=2,
     report=Report.silent())
assert "tensorflow" not in sys.modules
"""


def begin(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, STAND_IN, str(folder / "search"), *SPACE]
    environment = {**os.environ, "STAND_IN_SECONDS": "0.2", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, cwd=folder)


def test_a_search_that_is_killed_twice_ends_with_20_distinct_trials(tmp_path):
    for count, number in ((3, signal.SIGKILL), (9, signal.SIGTERM)):
        process = begin(tmp_path)
        trials = tmp_path / "search" / "trials"
        while len(list(trials.glob("[0-9]*.yaml"))) < count:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        process.wait()
        assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM, 1)
        # A line that was being written.
        if number == signal.SIGKILL:
            with open(tmp_path / "search" / "study.journal", "a") as file:
                file.write('{"op_code": 4, "wor')
    assert begin(tmp_path).wait() == 0
    result = json.loads((tmp_path / "search" / "result.json").read_text())
    assert_distinct(result, 20)
    assert all(row["state"] == "complete" or row["step"] for row in result["trials"])


@pytest.mark.slow
def test_20_real_trials_killed_twice_are_distinct_and_the_best_one_can_be_repeated(
    tmp_path, session_cache
):
    """On 500 reviews with MiniLM, as a user types it."""
    reviews = ROOT / "kerasllm" / "data" / "starter" / "movie_reviews_train.csv"
    with open(reviews, newline="") as file:
        header, *rows = csv.reader(file)
    with open(tmp_path / "reviews.csv", "w", newline="") as file:
        # Those of one label come first.
        csv.writer(file).writerows([header, *rows[:: len(rows) // 500][:500]])
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "KERASLLM_CACHE": str(session_cache)}
    command = [sys.executable, "-m", "kerasllm", "tune", "--recipe", "bert_cls", "--seeds=0"]
    command += ["--train", "reviews.csv", "--trials=20", "--output=search"]
    command += ["--set=data.max_length=64"]
    memory: list[float] = []
    for enough in (4, 12, 20):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment)
        while process.poll() is None:
            if not (tmp_path / "search/best.yaml").exists():
                memory.append(resident_mib(process.pid))
            if enough < 20 and len(list((tmp_path / "search/trials").glob("*.yaml"))) > enough:
                process.kill()
            time.sleep(0.5)
        process.wait()
    assert process.returncode == 0
    result = json.loads((tmp_path / "search" / "result.json").read_text())
    assert_distinct(result, 20)
    # TensorFlow takes 400 MiB, and what draws the plots at the end 150.
    assert max(memory) < 150
    trial = tmp_path / "search" / "trials" / f"{result['best']['trial']:04}" / "metrics.json"
    again = [*command[:3], "finetune", "--recipe", "search/best.yaml", "--output", "again"]
    subprocess.run(again, cwd=tmp_path, env=environment, check=True)
    repeated = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert repeated["validation"] == json.loads(trial.read_text())["validation"]


def resident_mib(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in status.splitlines() if "VmRSS" in x), 0.0)
