"""Pretraining has one loss curve on any number of devices: masks and pairs are those of a row."""

import json

import numpy as np
import pytest

from tests import forked
from tests.tasks.toys.masked_lm import from_scratch


@pytest.mark.slow
def test_replicas_and_micro_batches_change_nothing(tmp_path):
    toy = from_scratch(tmp_path, None)
    curves = []
    for strategy, accumulate in (("one_device", 1), ("virtual:2", 2)):
        run = tmp_path / strategy
        command = ["-m", "kerasllm", "finetune", "--recipe", toy.recipe]
        more = [f"training.accumulate={accumulate}", "training.precision=float32"]
        more += ["training.xla=false", "training.log_every=1", "training.max_steps=24"]
        for setting in (*toy.overrides, *more):
            command += ["--set", setting]
        command += ["--strategy", strategy, "--output", str(run)]
        done = forked.run(*command)
        assert done.returncode == 0, done.stderr
        lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        metrics = json.loads((run / "metrics.json").read_text())
        losses = [line["loss"] for line in lines if "loss" in line]
        curves.append([*losses, metrics["test"]["loss"], metrics["test"]["sentence_loss"]])
    np.testing.assert_allclose(*curves, rtol=2e-4)
    assert len(curves[0]) == 26
