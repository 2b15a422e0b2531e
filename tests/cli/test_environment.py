"""The environment: another Keras, no home directory, a terminal of few characters."""

import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import kerasllm as package
from kerasllm import environment
from kerasllm.cli.characters import escape_what_cannot_be_written
from kerasllm.errors import CommandError

ROOT = Path(package.__file__).parents[1]


def python(code, **variables):
    """Runs code in a process of its own, with these variables alone changed; `None` removes one."""
    found = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    environ = {name: value for name, value in found.items() if value is not None}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("KERAS_BACKEND", "jax", "TensorFlow backend"),
        ("KERAS_BACKEND", "torch", "TensorFlow backend"),
        ("TF_USE_LEGACY_KERAS", "1", "Keras 2"),
    ],
)
def test_another_keras_is_refused(kerasllm, toy_run, monkeypatch, variable, value, words):
    monkeypatch.setenv(variable, value)
    # Keras was imported before, on the right backend: as if it had not been.
    monkeypatch.setitem(sys.modules, "keras", types.ModuleType("keras"))
    result = kerasllm("predict", toy_run, "a film")
    assert result.status == 2 and words in result.err and f"unset {variable}" in result.err
    assert len(result.err.splitlines()) == 3
    doctor = kerasllm("doctor")
    assert doctor.status == 1 and "FAIL  backend" in doctor.out and words in doctor.out
    with pytest.raises(CommandError, match=words):
        package.TextClassifier


def test_an_empty_backend_is_no_choice():
    code = "import kerasllm, os; print(os.environ['KERAS_BACKEND'])"
    assert python(code, KERAS_BACKEND="")[1] == b"tensorflow\n"


def test_a_user_without_a_home_has_a_cache(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("KERASLLM_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(Path, "home", no_home)
    home = tmp_path / f"kerasllm-{os.getuid()}"
    assert environment.cache_dir() == home / ".cache" / "kerasllm"
    assert home.stat().st_mode & 0o777 == 0o700 and os.environ["HOME"] == str(home)
    home.rmdir()
    home.symlink_to(tmp_path)
    with pytest.raises(CommandError, match="no home directory"):
        environment.cache_dir()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_written_as_escapes(monkeypatch, encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    escape_what_cannot_be_written()
    text = "é ☕ 😀 \udce2"
    print(json.dumps(text, ensure_ascii=False))
    print("━ │ …", file=sys.stderr)
    out.flush()
    assert json.loads(out.buffer.getvalue().decode(encoding)) == text


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_name_is_printed_in_any_encoding(variables):
    code = "from kerasllm.cli.main import main; main(['predict', '\\u65e5\\u672c'])"
    status, _, err = python(code, **variables)
    assert status == 2 and "There is no run directory" in err
