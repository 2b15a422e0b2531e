"""`kerasllm export`: what a user sees."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from kerasllm import audit
from kerasllm.errors import RunError, SignatureError
from kerasllm.signing import trust
from kerasllm.workflows.predict import predict
from kerasllm.workflows.sign import sign, verify
from kerasllm.workflows.trained import open_run, open_trained
from tests.export.echo import install_echo
from tests.signing.keys import make_key


def test_it_prints_files_sizes_and_parity(kerasllm, toy_run, tmp_path, monkeypatch):
    install_echo(monkeypatch)
    output = tmp_path / "out"
    result = kerasllm("export", toy_run, "--format", "echo", "--output", output, "--rows", 9)
    assert result.status == 0
    assert "weights.bin" in result.out and "kB" in result.out
    assert "100.00%" in result.out and str(output) in result.out
    assert "Compared by running it with an echo." in result.out
    assert json.loads((output / "parity.json").read_text())["run_by"] == "an echo"
    assert "They were run by an echo." in (output / "README.md").read_text()
    assert "loading the model" in result.err and "loading" not in result.out
    result = kerasllm("export", toy_run, "--format", "echo", "--output", f"{output}2", "--json")
    found = json.loads(result.out)
    assert found["format"] == "echo" and found["compared_by"] == "an echo"
    assert found["parity"][0]["agreement"] == 1.0 and "weights.bin" in found["files"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "lite"], "did you mean litert?"),
        (["--format", "onnx", "--precision", "int8"], "--format litert"),
        (["--rows", "many"], "Received: many"),
        (["--rows", "0"], "Received: 0"),
    ],
)
def test_what_is_refused_is_named(kerasllm, toy_run, tmp_path, arguments, words):
    result = kerasllm("export", toy_run, "--output", tmp_path / "out", *arguments)
    assert result.status == 2 and words in result.err and not result.out
    assert not list(tmp_path.iterdir())


def test_what_is_not_the_model_any_more_fails(kerasllm, toy_run, tmp_path, monkeypatch):
    install_echo(monkeypatch).error = 0.5
    result = kerasllm("export", toy_run, "--format", "echo", "--output", tmp_path / "out")
    assert result.status == 1 and not result.out
    assert "largest difference 5.00e-01" in result.err and "nothing was kept" in result.err
    assert not list(tmp_path.iterdir())


def test_a_missing_run_is_refused_before_tensorflow_is_imported(tmp_path):
    code = (
        "import sys; from kerasllm.cli.main import main\n"
        "try: main(['export', 'no/such/run', '--format', 'onnx'])\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout.strip() == "False"
    assert "no/such/run is neither a run directory nor a preset" in done.stderr
    assert "where:" not in done.stderr


def test_sigterm_leaves_nothing(kerasllm, toy_run, tmp_path, monkeypatch):
    echo = install_echo(monkeypatch)
    monkeypatch.setattr(
        echo, "write", lambda source, folder, options: os.kill(os.getpid(), signal.SIGTERM)
    )
    result = kerasllm("export", toy_run, "--format", "echo", "--output", tmp_path / "out")
    assert result.status == 143 and "nothing was kept" in result.err
    assert not list(tmp_path.iterdir())


def test_an_export_is_signed_and_used_where_its_key_is_trusted(
    kerasllm, toy_run, tmp_path, monkeypatch
):
    install_echo(monkeypatch)
    private, public = make_key(tmp_path)
    out = tmp_path / "out"
    result = kerasllm("export", toy_run, "--format", "echo", "--output", out, "--sign", private)
    assert result.status == 0 and "model.sig" in result.out
    files = verify(out, [str(public)]).signed.files
    assert {"weights.bin", "README.md", "parity.json"} <= files.keys()
    line = json.loads((toy_run / audit.FILE).read_text().splitlines()[-1])
    assert line["event"] == "export" and line["output"] == str(out)
    assert line["signed_with"] == verify(out, [str(public)]).signed.key.fingerprint
    monkeypatch.setenv("KERASLLM_TRUST", str(public))
    open_trained(toy_run)  # which this process trained
    monkeypatch.setattr(trust, "_own", set())
    with pytest.raises(SignatureError, match="not signed"):
        open_trained(toy_run)
    copy = shutil.copytree(toy_run, tmp_path / "run")
    sign(copy, private)
    found = verify(copy, [str(public)])
    assert found.trail.lines == len((toy_run / audit.FILE).read_text().splitlines()) + 1
    (copy / audit.FILE).unlink()
    with pytest.raises(RunError, match="lines are left of the"):
        verify(copy, [str(public)])
    assert next(iter(predict(open_run(copy), ["a good film"])))["label"]


def test_a_key_that_is_none_is_refused_before_anything_is_exported(kerasllm, toy_run, tmp_path):
    result = kerasllm("export", toy_run, "--output", tmp_path / "out", "--sign", tmp_path / "none")
    assert result.status == 2 and "The key cannot be read" in result.err
    assert not (tmp_path / "out").exists()
