"""A run directory is made once, is whole or not a run, and is never overwritten."""

import json
import subprocess
import sys

import pytest

from kerasllm.errors import RunError
from kerasllm.run import Run, whole_folder, write_json, write_text


def finished(path):
    run = Run.create(path, "bert_cls")
    write_text(run.recipe, "task: text_classification\n")
    run.model.mkdir()
    write_json(run.metrics, {"test": {"accuracy": 0.5}})
    return run


def test_a_finished_run_opens_with_its_metrics(tmp_path):
    finished(tmp_path / "run")
    assert Run.open(tmp_path / "run").read_metrics() == {"test": {"accuracy": 0.5}}


def test_without_a_name_each_run_has_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [Run.create(None, "bert_cls").path for _ in range(3)]
    assert len(set(paths)) == 3
    assert all(path.is_dir() and path.parent.as_posix() == "runs/bert_cls" for path in paths)


def test_an_empty_directory_is_taken(tmp_path):
    assert Run.create(tmp_path, "bert_cls").path == tmp_path


def test_a_directory_that_holds_anything_is_not_touched(tmp_path):
    finished(tmp_path / "done")
    with pytest.raises(RunError, match="holds a finished run"):
        Run.create(tmp_path / "done", "bert_cls")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "recipe.yaml").write_text("")
    with pytest.raises(RunError, match="did not finish"):
        Run.create(tmp_path / "half", "bert_cls")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        Run.create(tmp_path / "file", "bert_cls")
    with pytest.raises(RunError, match="not empty"):
        Run.create(tmp_path, "bert_cls")


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        Run.create(tmp_path / "file" / "run", "bert_cls")


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="no run directory"):
        Run.open(tmp_path / "missing")
    with pytest.raises(RunError, match="not a run"):
        Run.open(tmp_path)
    run = finished(tmp_path / "bert_cls")
    with pytest.raises(RunError) as error:
        Run.open(tmp_path)
    assert str(run.path) in error.value.fix
    run.metrics.unlink()
    with pytest.raises(RunError, match="did not finish"):
        Run.open(run.path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["metrics.json"]


def test_what_a_process_killed_at_once_leaves_is_no_run(tmp_path):
    with Run.create(tmp_path, "bert_cls").locked():
        (tmp_path / ".recipe.yaml.7.tmp").write_text("task")
        (tmp_path / ".model.7.tmp" / "assets").mkdir(parents=True)
    again = Run.create(tmp_path, "bert_cls")
    with again.locked():
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_second_process_is_refused_and_disturbs_nothing(tmp_path):
    run = Run.create(tmp_path, "bert_cls")
    with run.locked(), whole_folder(run.model) as folder:
        (folder / "half").touch()
        with pytest.raises(RunError, match="Another process"), Run(tmp_path).locked():
            pass
        assert (folder / "half").exists()
    assert (run.model / "half").exists()


def test_what_a_killed_process_was_about_to_write_is_removed(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from kerasllm.run import whole_folder\n"
        "with whole_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "out [1]"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(path)], check=False)
        assert len(list(tmp_path.iterdir())) == 1
    with whole_folder(tmp_path / "other"), whole_folder(path):
        # Of a process that lives.
        with pytest.raises(FileExistsError), whole_folder(path):
            pass
    assert {each.name for each in tmp_path.iterdir()} == {"other", "out [1]"}


def test_a_whole_folder_takes_the_place_of_a_killed_one(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with whole_folder(tmp_path / "model") as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]
