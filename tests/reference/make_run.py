"""Writes `run_directories/VERSION/`: a run directory that later versions must open.

    python tests/reference/make_run.py

Run it once for each minor version, before it is released, and keep what earlier versions wrote.
"""

import os
import platform
import shutil
import socket
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import kerasllm
from kerasllm import audit
from kerasllm.recipe import load
from kerasllm.workflows.finetune import finetune
from tests.conftest import toy_settings
from tests.toy import save_toy_preset, toy_rows, write_csv


def main() -> None:
    target = ROOT / "tests/reference/run_directories" / kerasllm.__version__.rpartition(".")[0]
    # Nothing of the machine is kept.
    audit._user = lambda: "somebody"
    socket.gethostname = lambda: "somewhere"
    platform.platform = lambda: "Linux"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["KERASLLM_CACHE"] = str(Path(folder, "cache"))
        save_toy_preset(Path("preset"), hidden_dim=16, num_layers=1)
        write_csv(Path("train.csv"), toy_rows(200))
        write_csv(Path("test.csv"), toy_rows(40, seed=1))
        settings = [*toy_settings(Path(), Path("preset")), "training.keep_checkpoints=1"]
        finetune(load("bert_cls", settings), name="bert_cls", output="run")
        shutil.rmtree(target, ignore_errors=True)
        # Pictures, and what only a training reads.
        left_out = shutil.ignore_patterns(
            "*.png", "report.html", "tensorboard", "checkpoints", ".lock"
        )
        shutil.copytree("run", target / "run", ignore=left_out)
        shutil.copy("test.csv", target)


if __name__ == "__main__":
    main()
