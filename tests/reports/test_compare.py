"""Runs compared: differences and their significance, recipes, rows, refusals; lists of runs."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from kerasllm.errors import CommandError, RunError
from kerasllm.evaluation.outcomes import read_outcomes
from kerasllm.evaluation.resampling import mcnemar, student_tail, welch_p
from kerasllm.reports.run_groups import write_seeds
from kerasllm.run import Run, write_json, write_text
from kerasllm.workflows.compare_runs import compare_runs, list_runs, show_comparison, show_runs
from kerasllm.workflows.report import Report
from kerasllm.workflows.report_run import report_run
from tests.reports.made_run import make_run
from tests.reports.test_report import EVIL, Page


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`base`, `same` (another seed of it) and `better`, on the same test rows."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "base", rows=1500, noise=1)
    make_run(folder / "same", rows=1500, noise=2)
    make_run(folder / "better", rows=1500, noise=3, skill=3.5, settings=["training.epochs=2"])
    return folder


@pytest.fixture(scope="module")
def found(folder) -> dict:
    return compare_runs([folder / name for name in ("base", "same", "better")])


def difference(found: dict, metric: str, number: int) -> dict:
    [row] = [row for row in found["metrics"] if row["metric"] == metric]
    return row["differences"][number]


def test_differences_are_from_the_first_run_with_what_their_chance_is(found, folder):
    tests = [Run(folder / name).read_metrics()["test"] for name in ("base", "same", "better")]
    for number in (1, 2):
        apart = difference(found, "accuracy", number)
        expected = tests[number]["accuracy"] - tests[0]["accuracy"]
        assert apart["difference"] == pytest.approx(expected)
        low, high = apart["interval"]
        assert low < expected < high
    assert difference(found, "accuracy", 1)["p"] > 0.05
    assert difference(found, "accuracy", 2)["p"] < 1e-6
    assert "may be chance" in found["verdicts"][0]
    assert found["verdicts"][1].startswith("better is better than base")


def test_accuracy_is_tested_by_mcnemar_and_other_metrics_by_the_bootstrap(found, folder):
    apart = difference(found, "accuracy", 2)
    wrong = [
        read_outcomes(Run(folder / name).predictions)["error"] > 0 for name in ("base", "better")
    ]
    alone = int((~wrong[0] & wrong[1]).sum()), int((wrong[0] & ~wrong[1]).sum())
    assert apart["test"] == "McNemar, exact"
    assert apart["p"] == pytest.approx(mcnemar(*alone))
    assert difference(found, "macro_f1", 2)["test"] == "paired bootstrap"
    # It is not a mean over rows.
    assert "p" not in difference(found, "ece", 2)


def test_recipes_differ_in_what_was_set(found):
    assert {row["key"]: row["values"] for row in found["recipes"]} == {
        "training.epochs": [1, 1, 2],
        "training.seed": [1, 2, 3],
    }


def test_rows_are_counted_and_those_that_the_runs_disagree_on_are_listed(found, folder):
    rows = [read_outcomes(Run(folder / n).predictions) for n in ("base", "same", "better")]
    errors = np.stack([each["error"] for each in rows])
    told = found["rows"]
    assert told["all_right"] == (errors == 0).all(0).sum()
    assert told["all_wrong"] == (errors == 1).all(0).sum()
    alone = (errors[0] == 0) & (errors[1:] == 1).all(0)
    assert told["right_alone"]["base"] == alone.sum()
    said = np.array([each.columns["predicted"].to_pylist() for each in rows])
    assert len(told["disagree"]) == (said != said[0]).any(0).sum()
    one = told["disagree"][0]
    assert one["text"].startswith("A film")
    assert len(set(one["predicted"])) > 1


def test_curves_of_one_metric_are_in_one_chart(found):
    charts = {chart["name"]: chart for chart in found["curves"]}
    assert {"loss, training", "loss, validation"} <= charts.keys()
    names = [series["name"] for series in charts["loss, training"]["series"]]
    assert names == ["base", "same", "better"]


def test_the_page_shows_it_and_nothing_acts(folder, tmp_path):
    names = (f"good {EVIL}", "bad", "fair")
    evil = make_run(tmp_path / "a<script>b", names=names, text=EVIL, noise=1)
    other = make_run(tmp_path / "other", names=names, text=EVIL, noise=2)
    write_json(evil.environment, evil.read_environment())
    compare_runs([evil.path, other.path], tmp_path / "compared.html")
    text = (tmp_path / "compared.html").read_text(encoding="utf-8")
    read = Page(text)
    assert read.open == []
    assert not {"script", "img"} & {*read.tags}
    assert text.count("&lt;script&gt;") > 10
    assert "\x1b" not in text and "\u202e" not in text
    assert read.tags.count("svg") >= 4


def test_runs_of_other_test_data_are_refused(folder, tmp_path):
    other = make_run(tmp_path / "other", fingerprint="0" * 64)
    with pytest.raises(RunError, match="The test data differ: base has ffffff.*, other has 000"):
        compare_runs([folder / "base", other.path])


def test_the_test_data_of_each_seed_are_compared(tmp_path):
    one, other = seeds(tmp_path / "one", 2.0, 10), seeds(tmp_path / "other", 2.0, 20)
    late = Run(other / "seed-2")
    noted = late.read_environment()
    write_json(late.environment, {**noted, "data": {**noted["data"], "test": "0" * 64}})
    with pytest.raises(RunError, match="The test data differ: one has ffffff.*, other has 000"):
        compare_runs([one, other])


def test_of_unknown_test_data_no_rows_are_paired(tmp_path):
    runs = [make_run(tmp_path / name, rows=200, noise=noise) for noise, name in enumerate("ab")]
    for run in runs:
        write_json(run.environment, {**run.read_environment(), "data": {}})
    found = compare_runs([run.path for run in runs])
    assert "do not record which test data" in found["not_tested"] and found["rows"] is None


def test_without_test_data_other_validation_data_are_told(tmp_path):
    runs = [make_run(tmp_path / name, rows=40, noise=1) for name in "abc"]
    for number, run in enumerate(runs):
        metrics = run.read_metrics()
        del metrics["test"]
        write_json(run.metrics, metrics)
        noted = run.read_environment()
        data = {"train": "a" * 64, "validation": "bbc"[number] * 64}
        write_json(run.environment, {**noted, "data": data})
    same = compare_runs([run.path for run in runs[:2]])
    assert same["not_tested"] == "the runs have no test data"
    assert "significance unknown: train both with the same --test FILE" in same["verdicts"][0]
    assert "validation data differ" in compare_runs([run.path for run in runs])["not_tested"]


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    with pytest.raises(CommandError, match="only one run to compare"):
        compare_runs([folder / "base"])
    with pytest.raises(CommandError, match="written as a page"):
        compare_runs([folder / "base", folder / "same"], tmp_path / "x.csv")
    unfinished = make_run(tmp_path / "unfinished")
    unfinished.metrics.unlink()
    with pytest.raises(RunError, match="did not finish"):
        compare_runs([folder / "base", unfinished.path])
    with pytest.raises(RunError, match="no run directory"):
        compare_runs([folder / "base", tmp_path / "nothing"])


def test_runs_without_rows_are_compared_without_tests(folder, tmp_path):
    old = make_run(tmp_path / "old", rows=1500, noise=1)
    old.predictions.unlink()
    found = compare_runs([folder / "base", old.path])
    assert found["rows"] is None
    assert found["not_tested"] == "old keeps no predictions of its test rows"
    assert found["verdicts"][0].endswith("significance unknown")


def seeds(folder: Path, skill: float, first: int) -> Path:
    runs = [
        make_run(folder / f"seed-{number}", rows=300, skill=skill, noise=first + number)
        for number in range(4)
    ]
    write_seeds(folder, runs)
    return folder


def test_seeds_are_compared_by_their_means_and_noise_is_called_noise(tmp_path):
    one = seeds(tmp_path / "one", 2.0, 10)
    other, better = seeds(tmp_path / "other", 2.0, 20), seeds(tmp_path / "better", 3.5, 30)
    found = compare_runs([one, other, better])
    [row] = [row for row in found["metrics"] if row["metric"] == "accuracy"]
    accuracies = [Run(run).read_metrics()["test"]["accuracy"] for run in sorted(one.glob("seed-*"))]
    assert row["values"][0] == pytest.approx(np.mean(accuracies))
    assert row["spreads"][0] == pytest.approx(np.std(accuracies, ddof=1))
    assert row["differences"][1]["test"] == "seeds, Welch"
    assert "within the variation between seeds" in found["verdicts"][0]
    assert found["verdicts"][1].startswith("better is better than one")
    assert [run["seeds"] for run in found["runs"]] == [4, 4, 4]


def test_a_folder_of_seeds_leads_to_no_other_folder(tmp_path):
    folder = seeds(tmp_path / "seeds", 2.0, 10)
    write_json(folder / "seeds.json", {"runs": ["../../elsewhere"]})
    with pytest.raises(RunError, match="no run directory"):
        compare_runs([folder, folder])
    (folder / "link").symlink_to(make_run(tmp_path / "elsewhere", rows=40).path)
    for name in ("..", "link", ".", ""):
        write_json(folder / "seeds.json", {"runs": [name]})
        with pytest.raises(RunError, match="is missing"):
            compare_runs([folder, folder])


def test_students_t_and_welchs_test_have_the_values_of_tables():
    assert student_tail(2.776, 4) == pytest.approx(0.05, abs=1e-4)
    assert student_tail(12.706, 1) == pytest.approx(0.05, abs=1e-4)
    assert welch_p(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])) == pytest.approx(
        0.2879, abs=1e-4
    )
    # A single run beside seeds: their spread is its own.
    assert welch_p(np.array([1.0, 2.0, 3.0]), np.array([2.5])) > 0.5
    assert welch_p(np.array([1.0]), np.array([2.0])) is None
    # A few seeds that happen to be equal do not tell how spread others are.
    assert welch_p(np.array([1.0, 1.0]), np.array([2.0, 2.0])) is None
    assert welch_p(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 1


def test_of_a_search_its_runs_are_listed_and_it_is_none_itself(tmp_path):
    search = tmp_path / "runs" / "bert_cls-tune"
    runs = [
        make_run(search / name, rows=40, steps=40).path
        for name in ("trials/0000", "retrained/default/seed-0")
    ]
    write_text(search / "recipe.yaml", Run(runs[0]).recipe.read_text())
    write_json(search / "search.json", {"name": "bert_cls", "metric": None, "storage": None})
    assert {run["path"] for run in list_runs([tmp_path / "runs"])} == {*map(str, runs)}
    for asked in (lambda: report_run(search), lambda: compare_runs([search, search])):
        with pytest.raises(RunError, match="a search of `kerasllm tune`") as refused:
            asked()
        assert str(runs[0]) in refused.value.fix


def test_runs_are_listed_the_newest_first_and_damaged_ones_too(folder, tmp_path):
    newest = make_run(tmp_path / "deep" / "er" / "newest")
    write_json(newest.environment, {**newest.read_environment(), "started": "2026-12-24T00:00:00"})
    unfinished = make_run(tmp_path / "unfinished")
    unfinished.metrics.unlink()
    write_text(make_run(tmp_path / "damaged").recipe, "task: nonsense\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = {Path(run["path"]).name: run for run in list_runs([tmp_path])}
    assert next(iter(found)) == "newest"
    assert found.keys() == {"newest", "unfinished", "damaged"}
    assert found["newest"]["metric"] == "accuracy"
    assert found["newest"]["metrics"]["test"]["macro_f1"] > 0.5
    assert not found["unfinished"]["finished"]
    assert "nonsense" in found["damaged"]["problem"]
    assert json.dumps([*found.values()])
    with pytest.raises(RunError, match="There is no folder"):
        list_runs([tmp_path / "none"])


def test_runs_in_the_current_folder_are_pointed_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("other", "my_run"):
        Path(name).mkdir()
        write_text(Path(name) / "recipe.yaml", "task: nonsense\n")
    with pytest.raises(RunError) as refused:
        list_runs(["runs"])
    assert refused.value.fix == (
        "the current folder contains my_run and 1 more: `kerasllm runs .` shows these runs"
    )
    assert len(list_runs(["."])) == 2


def test_values_of_recipes_are_written_as_in_their_files(tmp_path):
    runs = [make_run(tmp_path / "one", rows=40, settings=["training.calibrate=true"])]
    runs.append(make_run(tmp_path / "other", rows=40, settings=["training.max_steps=7"]))
    out = io.StringIO()
    found = compare_runs([run.path for run in runs])
    show_comparison(found, Report(Console(file=out, width=200)))
    assert "training.max_steps: null | 7" in out.getvalue()
    assert "training.calibrate: true | false" in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_list_of_runs_keeps_paths_whole_at_any_width(tmp_path, width):
    paths = [tmp_path / "runs" / "bert_cls" / f"2026-11-30-14451{number}" for number in range(2)]
    for path in paths:
        make_run(path, rows=40, steps=40)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "recipe.yaml").write_text("task: [", encoding="utf-8")
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    show_runs(list_runs([tmp_path / "runs"]), Report(console))
    shown = console.file.getvalue().splitlines()
    for path in paths:
        [line] = [line for line in shown if str(path) in line]
        assert width == 200 or line.strip() == str(path)
    assert any("damaged" in line for line in shown)
    assert all(len(line.rstrip()) <= width or line.startswith(str(tmp_path)) for line in shown)
