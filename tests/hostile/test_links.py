"""Links that lead to themselves, in place of what is read or written: one readable refusal."""

import os
import shutil

import pytest

from kerasllm.cli.main import main
from kerasllm.errors import KerasllmError
from kerasllm.models import presets
from kerasllm.models.adapters.peft import read_adapter
from kerasllm.run import Run
from tests.signing.keys import make_key


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that is whole as far as its files go, and in the current folder."""
    monkeypatch.chdir(tmp_path)
    recipe = "task: text_classification\n"
    files = {"recipe.yaml": recipe, "metrics.json": "{}", "environment.json": "{}"}
    files |= {"model/config.json": '{"registered_name": "a"}', "model/model.weights.h5": ""}
    files |= {"adapter/adapter_config.json": "{}", "audit.jsonl": "", "checkpoints/step-1/x": ""}
    for name, content in files.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(content)
    return tmp_path / "run"


def loop(path):
    """Puts a link to itself in a place."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    os.symlink(os.path.basename(path), path)


def refused(capsys, *words) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    shown = capsys.readouterr().err
    assert ended.value.code in (1, 2) and ("Error: " in shown or "Usage: " in shown), shown
    assert "an unexpected error" not in shown, shown
    return shown


@pytest.mark.parametrize("place", ["run", "run/recipe.yaml", "run/metrics.json", "run/model"])
def test_a_run_is_refused_by_every_verb(run, tmp_path, capsys, place):
    loop(tmp_path / place)
    private, _ = make_key(tmp_path)
    with pytest.raises(KerasllmError):
        Run.open("run")
    for words in (
        ["predict", "run", "a"],
        ["evaluate", "run", "--data", "a.csv"],
        ["generate", "run", "--prompt", "a"],
        ["chat", "run"],
        ["export", "run", "--output", "out"],
        ["compress", "run", "--method", "int8"],
        ["serve", "run", "--port", "0"],
        ["finetune", "--resume", "--output", "run/model"],
    ):
        refused(capsys, *words)
    if place != "run/model":
        refused(capsys, "sign", "run", "--key", private)


@pytest.mark.parametrize(
    "place", ["run/model/config.json", "run/model/model.weights.h5", "run/model", "run"]
)
def test_a_preset_is_refused(run, tmp_path, place):
    loop(tmp_path / place)
    for preset in ("run/model", str(run / "model"), run / "model", "./run/model"):
        with pytest.raises(KerasllmError):
            presets.resolve(preset)


@pytest.mark.parametrize("place", ["run/adapter", "run/adapter/adapter_config.json"])
def test_an_adapter_is_refused(run, tmp_path, place):
    loop(tmp_path / place)
    with pytest.raises(KerasllmError):
        read_adapter("run/adapter")


@pytest.mark.parametrize(
    "words",
    [
        ["finetune", "--recipe", "loop.yaml"],
        ["recipes", "validate", "loop.yaml"],
        ["presets", "fetch", "./loop"],
        ["data", "report", "loop.csv"],
        ["data", "report", "loop"],
        ["data", "convert", "loop.csv", "--output", "out.jsonl"],
        ["sign", "loop", "--key", "loop"],
        ["sign", "run", "--key", "loop"],
        ["verify", "loop"],
        ["verify", "run", "--key", "loop"],
    ],
    ids=" ".join,
)
def test_files_that_are_named_are_refused(run, tmp_path, capsys, words):
    for name in ("loop", "loop.yaml", "loop.csv"):
        loop(tmp_path / name)
    shown = refused(capsys, *words)
    assert words[0] != "data" or "This is a link to 'loop" in shown


def test_where_keys_are_trusted_too(run, tmp_path, capsys, monkeypatch):
    _private, public = make_key(tmp_path)
    monkeypatch.setenv("KERASLLM_TRUST", str(public))
    for place in ("run/model/config.json", "run/model", "run/model.sig"):
        loop(tmp_path / place)
        refused(capsys, "predict", "run", "a")
