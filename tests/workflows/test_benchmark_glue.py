"""`kerasllm benchmark`: tasks by their folders, seeds, median and spread, published figures."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from kerasllm.cli.main import main
from kerasllm.data.readers.sources import Source
from kerasllm.errors import CommandError, DataError, Interrupted, RunError
from kerasllm.recipe import load
from kerasllm.reports.run_groups import seeds_in
from kerasllm.tuning import trial_run
from kerasllm.workflows.benchmark_files import find_tasks, settings_of
from kerasllm.workflows.benchmark_glue import benchmark
from kerasllm.workflows.benchmark_tasks import GLUE, SUPERGLUE
from kerasllm.workflows.report import Report
from tests.workflows.toy_glue import write_glue, write_superglue

STAND_IN = Path(__file__).with_name("benchmark_stand_in.py")


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> Path:
    """A folder with all tasks of GLUE."""
    return write_glue(tmp_path_factory.mktemp("glue"))


@pytest.fixture
def no_training(monkeypatch, request):
    monkeypatch.setattr(trial_run, "COMMAND", (sys.executable, str(STAND_IN)))
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))


def trained(folder: Path) -> list[str]:
    """Returns the trainings of a folder since it was last asked."""
    file = folder / "trained.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def report_of_80_columns(self, console=None) -> None:
    """In the place of `Report.__init__`: a terminal, without its colours."""
    self.console = Console(
        stderr=True, width=80, force_terminal=True, color_system=None, highlight=False
    )


@pytest.mark.parametrize(("which", "write"), [(GLUE, write_glue), (SUPERGLUE, write_superglue)])
def test_every_task_is_read_as_it_is_published(tmp_path, which, write):
    found, missing = find_tasks(which, write(tmp_path / "data"))
    assert [each.task.name for each in found] == [task.name for task in which.tasks]
    assert not missing
    for each in found:
        each.write_copies(tmp_path / "copies")
        parts = ("train", "dev", "second") if each.second else ("train", "dev")
        problem = load(each.task.recipe).data.problem
        for part in parts:
            source = Source(
                each.files(part, tmp_path / "copies"), text_pair="auto", problem=problem
            )
            rows = [row for batch in source.batches() for row in zip(batch.texts, batch.targets)]
            assert len(rows) == (24 if which is GLUE else 12)
            assert (source.pair_column is None) == (each.task.name in ("CoLA", "SST-2"))
            labels = {label for _, label in rows}
            assert len(labels) == (24 if each.task.name == "STS-B" else 2)
            if each.task.word:
                assert all(text.startswith("place: ") for text, _ in rows)


def test_folders_of_the_hub_and_compressed_files_are_found(tmp_path):
    for name in ("stsb/stsb-en-train.csv.gz", "stsb/stsb-en-dev.csv.gz", "rte/test.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "mnli").mkdir()
    for part in ("train", "validation_matched", "validation_mismatched"):
        for shard in range(2):
            (tmp_path / "mnli" / f"{part}-{shard:05}-of-00002.parquet").touch()
    (tmp_path / "ax").mkdir()
    found, missing = find_tasks(GLUE, tmp_path)
    assert [each.task.name for each in found] == ["STS-B", "MNLI"]
    assert [len(files) for files in (found[1].train, found[1].dev, found[1].second)] == [2, 2, 2]
    assert missing["CoLA"] == "there is no such folder" and "no train.tsv" in missing["RTE"]
    assert "without training data" in missing["AX"]
    assert settings_of(found[0], tmp_path)["data.train"][0].endswith("stsb-en-train.csv.gz")


def test_what_cannot_be_trained_is_refused_by_name(tmp_path, glue):
    for which, names, words in (
        (GLUE, ["cola", "sst"], "has no task 'sst'"),
        (SUPERGLUE, ["copa"], "COPA is not trained: its rows are questions with choices"),
    ):
        with pytest.raises(CommandError, match=words):
            find_tasks(which, glue, names)
    with pytest.raises(DataError, match="Tasks are missing: BoolQ: there is no such folder"):
        find_tasks(SUPERGLUE, glue, ["BoolQ", "RTE"])
    with pytest.raises(DataError, match="none of GLUE's tasks"):
        find_tasks(GLUE, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_tasks(GLUE, tmp_path / "none")
    with pytest.raises(CommandError, match="local folders only"):
        benchmark("glue", "toy", "s3://bucket/glue")


def test_all_tasks_are_trained_measured_by_glues_rules_and_shown(
    no_training, glue, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(Report, "__init__", report_of_80_columns)
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "glue", "--preset", "hf://me/toy-model", "--data", str(glue), "--json"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--seeds", "2", "--workers", "2"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0
    folder = tmp_path / "runs" / "glue-toy-model"
    found = json.loads(out)
    assert found == json.loads((folder / "benchmark.json").read_text())
    assert {name: list(task["metrics"]) for name, task in found["tasks"].items()} == {
        "CoLA": ["mcc"],
        "SST-2": ["accuracy"],
        "MRPC": ["f1", "accuracy"],
        "STS-B": ["pearson", "spearman"],
        "QQP": ["f1", "accuracy"],
        "MNLI": ["accuracy_matched", "accuracy_mismatched"],
        "QNLI": ["accuracy"],
        "RTE": ["accuracy"],
        "WNLI": ["accuracy"],
    }
    rte = found["tasks"]["RTE"]["metrics"]["accuracy"]
    assert (rte["median"], rte["least"], rte["most"]) == (0.55, 0.5, 0.6)
    assert {(each["data"], each["value"]) for each in rte["published"]} == {
        ("dev", 65.7),
        ("test", 66.4),
    }
    assert all(each["source"] and each["model"] for each in rte["published"])
    assert found["tasks"]["MNLI"]["metrics"]["accuracy_mismatched"]["values"] == [0.25, 0.25]
    # The two parts of MNLI count as one task.
    assert found["average"]["values"][0] == pytest.approx((8 * 0.5 + (0.5 + 0.25) / 2) / 9)
    err = re.sub(r"\x1b\[[\d?]*[A-Za-z]", "", err)
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]", err))
    shown = [line.split() for line in err.splitlines()]
    assert ["RTE", "accuracy", "55.0", "50.0", "60.0", "65.7", "66.4"] in shown
    assert "[2] BERT base, test data: Devlin et al. 2019, table 1" in err
    assert "RTE, seed 1: accuracy 60.0" in err and "about" in err
    # A task's folder is one of seeds; a checkpoint is of no more use.
    assert len(seeds_in(folder / "RTE")) == 2
    assert not list(folder.glob("*/*/checkpoints"))


def test_what_is_finished_is_kept_and_other_settings_are_refused(
    no_training, glue, tmp_path, capsys
):
    folder = tmp_path / "out"
    options = {"tasks": ["mrpc"], "seeds": 2, "output": folder}
    benchmark("glue", "toy", glue, **options)
    assert trained(folder) == ["MRPC/seed-0", "MRPC/seed-1"]
    more = benchmark("glue", "toy", glue, tasks=["RTE", "MRPC"], seeds=3, output=folder)
    assert trained(folder) == ["MRPC/seed-2", "RTE/seed-0", "RTE/seed-1", "RTE/seed-2"]
    assert len(more["tasks"]["MRPC"]["metrics"]["f1"]["values"]) == 3
    assert "2 of 6 trainings are done" in capsys.readouterr().err
    for change in ({"epochs": 5}, {"settings": ["training.learning_rate=1e-3"]}):
        with pytest.raises(RunError, match="other settings: training"):
            benchmark("glue", "toy", glue, **options, **change)
    with pytest.raises(RunError, match="model.preset=toy, now other"):
        benchmark("glue", "other", glue, **options)
    with pytest.raises(RunError, match="holds something else"):
        benchmark("glue", "toy", glue, output=glue)
    with pytest.raises(RunError, match="holds runs of GLUE"):
        benchmark("superglue", "toy", write_superglue(tmp_path / "data"), output=folder)
    assert trained(folder) == []


def test_a_signal_stops_the_training_and_the_same_command_continues(no_training, glue, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "benchmark.json").write_text("{}")
    (folder / "stop-RTE").touch()
    options = {"tasks": ["CoLA", "RTE"], "seeds": 1, "output": folder}
    with pytest.raises(Interrupted, match="SIGTERM after 1 of 2 trainings") as caught:
        benchmark("glue", "toy", glue, **options)
    assert caught.value.exit_status == 143
    (folder / "stop-RTE").unlink()
    assert trained(folder) == ["CoLA/seed-0"]
    benchmark("glue", "toy", glue, **options)
    assert trained(folder) == ["RTE/seed-0"]


def test_what_is_set_is_over_the_recipes_and_the_learning_rate_suits_the_preset(
    no_training, glue, tmp_path
):
    def recipe(folder: str, preset: str, **options):
        benchmark("glue", preset, glue, tasks=["RTE"], seeds=1, output=tmp_path / folder, **options)
        (run,) = (tmp_path / folder / "RTE").glob("seed-*.yaml")
        return load(run)

    own = recipe("a", load("pair_cls").model.preset)
    assert own.training.learning_rate == load("pair_cls").training.learning_rate
    assert own.training.epochs == 3 and own.data.validation_split == 0
    other = recipe("b", "toy", epochs=2, settings=["data.max_length=64", "training.seed=7"])
    assert (other.training.learning_rate, other.training.epochs) == (2e-5, 2)
    assert (other.data.max_length, other.training.seed) == (64, 7)


def test_a_task_that_fails_is_named_and_the_others_are_trained(no_training, glue, tmp_path, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "benchmark.json").write_text("{}")
    (folder / "fail-CoLA").touch()
    options = ["--tasks", "CoLA,RTE", "--seeds", "1", "--output", str(folder), "--json"]
    command = ["benchmark", "glue", "--preset", "toy", "--data", str(glue), *options]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2, "the first training failed: the others would as well"
    assert "first training failed, CoLA, seed 0: The data are not read" in capsys.readouterr().err
    (folder / "fail-CoLA").rename(folder / "fail-RTE")
    # As the advice of a refusal may be.
    command += ["--set", "data.max_length=64"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    out, err = capsys.readouterr()
    assert ended.value.code == 1 and "1 task failed: RTE" in err
    found = json.loads(out)
    assert list(found["tasks"]) == ["CoLA"] and "are not read" in found["failed"]["RTE"]
    (folder / "fail-RTE").unlink()
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    assert list(json.loads(capsys.readouterr().out)["tasks"]) == ["CoLA", "RTE"]


def test_the_word_that_is_asked_about_is_read(no_training, tmp_path):
    data = write_superglue(tmp_path / "data")
    (data / "COPA").mkdir()
    found = benchmark("superglue", "toy", data, seeds=1, output=tmp_path / "out")
    assert list(found["tasks"]) == ["BoolQ", "CB", "RTE", "WiC"]
    assert found["missing"] == {"COPA": "its rows are questions with choices"}
    assert list(found["tasks"]["CB"]["metrics"]) == ["macro_f1", "accuracy"]
    row = json.loads((tmp_path / "out/WiC/data/dev.jsonl").read_text().split("\n")[1])
    assert row["sentence1"].startswith("place: ") and row["label"] is True
    (data / "WiC" / "val.jsonl").write_text('{"sentence1": "no word"}\n')
    with pytest.raises(DataError, match="no word and sentence1"):
        benchmark("superglue", "toy", data, seeds=1, output=tmp_path / "out")


def test_a_toy_model_is_trained_for_an_epoch(toy_preset, session_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))
    data = write_glue(tmp_path / "data", ["MNLI"], rows=64)
    settings = ["training.learning_rate=5e-3", "data.buckets=1", "data.max_length=32"]
    found = benchmark(
        "glue", str(toy_preset), data, seeds=1, epochs=1, settings=settings, output=tmp_path / "out"
    )
    assert not found["failed"]
    metrics = found["tasks"]["MNLI"]["metrics"]
    assert set(metrics) == {"accuracy_matched", "accuracy_mismatched"}
    assert all(0 <= each["median"] <= 1 for each in metrics.values())
    assert (tmp_path / "out" / "MNLI" / "seed-0" / "model").is_dir()
    code = (
        "import sys\nfrom kerasllm.workflows import benchmark_glue\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
