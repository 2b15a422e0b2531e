"""The recipe translate against the same model in PyTorch.

Both train a new Transformer on the same batches of the same token ids, with the recipe's AdamW,
rate, warm-up, label smoothing and clipping, and then translate the test sentences with four beams.
Where the variable `KERASLLM_MULTI30K` names a folder with Multi30k, `train.en.gz`, `train.de.gz`
and `test_2016_flickr` likewise, that is the data; else the bundled phrases.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.inputs import KERASLLM
from benchmarks.measure import has_bfloat16, run_measured
from benchmarks.suite import OURS, PEERS, REPEAT, Case, NotBelow, SuiteOptions, Target, Way

PEER = "pytorch"
MULTI30K = "KERASLLM_MULTI30K"
# 10 epochs of Multi30k.
STEPS, QUICK_STEPS = 3030, 4


class Translate(Case):
    name = "translate"
    description = "trains a new Transformer, 3 + 3 layers, to translate; 3,030 steps"
    targets = (Target("seconds", PEER, 1.0), NotBelow("bleu", PEER, 1.0))

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        settings = _settings(options)
        # Caches are warm: kerasllm's tokens are stored.
        run_measured([*KERASLLM, "plan", "--no-step", "--recipe", "translate", *settings])
        worker = [sys.executable, "-m", "benchmarks.workers.translate"]
        few = ["--tests", "8"] if options.quick else []
        run_measured([*worker, "--write", str(folder), *few, *settings])

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        worker = [sys.executable, "-m", "benchmarks.workers.finetune", "--quality", "bleu", "loss"]
        worker += ["--work", "steps", "--recipe", "translate"]
        peer = [options.peer_python, str(PEERS / "pytorch_translate.py"), "--data", str(folder)]
        precisions = ("bfloat16", "float32") if has_bfloat16() else ("float32",)
        return [
            # The batches are those of seed 0, and the seed draws them too.
            Way(OURS, "auto", [*worker, *_settings(options)]),
            *(
                Way(PEER, name, [*peer, "--precision", name, "--seed", REPEAT])
                for name in precisions
            ),
        ]


def _settings(options: SuiteOptions) -> list[str]:
    settings = {
        "training.max_steps": QUICK_STEPS if options.quick else STEPS,
        "training.epochs": 40,
        "data.validation_split": 0,
        "data.leaks": "ignore",
    }
    if folder := os.environ.get(MULTI30K):
        for part, name in (("train", "train"), ("test", "test_2016_flickr")):
            files = [f"{folder}/{name}.{side}.gz" for side in ("en", "de")]
            settings[f"data.{part}"] = str(files).replace("'", '"')
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


CASE = Translate()
