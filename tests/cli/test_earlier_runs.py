"""Run directories that earlier versions wrote still open.

`tests/reference/make_run.py` writes one for each minor version; none is ever written again.
"""

import json
import shutil
from pathlib import Path

import pytest

FOLDERS = Path(__file__).parents[1] / "reference" / "run_directories"


@pytest.mark.parametrize("version", sorted(folder.name for folder in FOLDERS.iterdir()))
def test_a_run_of_an_earlier_version_opens(kerasllm, version, tmp_path):
    run = shutil.copytree(FOLDERS / version, tmp_path / "of") / "run"
    measured = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]

    found = kerasllm("evaluate", run, "--data", tmp_path / "of" / "test.csv", "--json")
    assert found.status == 0, found.err
    assert json.loads(found.out)["accuracy"] == pytest.approx(measured["accuracy"])
    assert json.loads(found.out)["loss"] == pytest.approx(measured["loss"], abs=1e-4)

    predicted = kerasllm("predict", run, "a good bright film .", "--json")
    assert json.loads(predicted.out)["label"] == "positive"

    assert kerasllm("report", run).status == 0 and (run / "report.html").is_file()
    facts = json.loads(kerasllm("report", run, "--json").out)
    assert facts["headline"]["value"] == pytest.approx(measured["accuracy"])
    assert str(run.name) in kerasllm("runs", tmp_path / "of").out
    assert kerasllm("verify", run).status == 0
