"""A run directory as a training leaves it, made without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.evaluation.calibration import calibration_report
from kerasllm.evaluation.classification import classification_report, log_softmax
from kerasllm.evaluation.outcomes import DATA, Outcomes, names_column, write_outcomes
from kerasllm.recipe import load
from kerasllm.run import Run, write_json, write_text

NAMES = ("negative", "neutral", "positive")
TEXT = "A film that is neither short nor dull"


def make_run(
    folder: Path,
    *,
    rows: int = 600,
    skill: float = 2.0,
    seed: int = 0,
    noise: int = 0,
    names: Sequence[str] = NAMES,
    text: str = TEXT,
    column: str = "source",
    values: Sequence[str] = ("web", "print"),
    fingerprint: str = "f" * 64,
    settings: Sequence[str] = (),
    steps: int = 400,
) -> Run:
    """Writes a finished run of a classifier, which is worse on long texts and on the first value.

    Args:
        folder: The run directory.
        rows: Test rows.
        skill: How far the right label is above the others.
        seed: Of the data: their labels, lengths and values.
        noise: The seed of what the model gives.
        names: The labels.
        text: What each text begins with.
        column: A column of the data.
        values: The values of that column.
        fingerprint: Of the test data.
        settings: What the recipe sets besides, as `key=value`.
        steps: Steps of the training.
    """
    run = Run(folder)
    run.model.mkdir(parents=True)
    recipe = load("bert_cls", [f"training.seed={noise}", *settings])
    write_text(run.recipe, recipe.to_yaml())
    data, drawn = np.random.default_rng(seed), np.random.default_rng(1000 + noise)
    labels = data.integers(0, len(names), rows)
    tokens = data.integers(4, 129, rows)
    groups = data.integers(0, len(values), rows)
    able = skill * (1 - 0.5 * (tokens > 96)) * (1 - 0.5 * (groups == 0))
    logits = drawn.normal(size=(rows, len(names)))
    logits[np.arange(rows), labels] += able
    logits *= 1.5
    chances, best = log_softmax(logits), logits.argmax(-1)
    each = np.arange(rows)
    columns: dict[str, Any] = {
        "file": names_column(np.zeros(rows, int), ["test.csv"]),
        "line": each + 2,
        "tokens": tokens,
        "expected": names_column(labels, names),
        "predicted": names_column(best, names),
        "error": (best != labels).astype(np.uint8),
        "confidence": np.exp(chances[each, best]).astype(np.float32),
        "loss": (-chances[each, labels]).astype(np.float32),
        f"{DATA}{column}": names_column(groups, values),
    }
    texts = (f"{text} {number}" for number in range(rows))
    write_outcomes(Outcomes(columns, texts, names=tuple(names)), run.predictions)
    test = classification_report(labels, logits, names)
    test |= calibration_report(best == labels, np.exp(chances.max(-1)))
    part = {"loss": 0.5, "accuracy": 0.8}
    timing = {"steps": steps, "train_seconds": 12.5, "tokens_per_second": 4000.0, "padding": 0.06}
    _write_log(run, steps, drawn)
    counts = {name: int(n) for name, n in zip(names, np.bincount(labels, minlength=len(names)))}
    write_json(
        run.environment,
        {
            "started": "2026-11-30T10:36:21+00:00",
            "command": "kerasllm finetune --recipe bert_cls",
            "seed": noise,
            "data": {"train": "a" * 64, "test": fingerprint},
            "versions": {"python": "3.11.7", "keras": "3.15.1"},
            "platform": "Linux",
            "cpus": 2,
            "devices": ["/physical_device:CPU:0"],
            "strategy": "one_device: CPU:0",
            "precision": "float32",
            "rows": {"train": 8000, "validation": 800, "test": rows},
            "contents": {"train": "8,000 rows", "validation": "800 rows", "test": f"{rows:,} rows"},
            "tokens": {"test": {"total": int(tokens.sum()), "median": 66.0, "longest": 128.0}},
            "balance": {"train": counts, "test": counts},
        },
    )
    write_json(run.metrics, {"train": part, "validation": {**part}, "test": test, "timing": timing})
    return run


def _write_log(run: Run, steps: int, random: np.random.Generator) -> None:
    with open(run.metrics_log, "w", encoding="utf-8") as file:
        for step in range(5, steps + 1, 5):
            done = step / steps
            row = {
                "step": step,
                "epoch": round(done, 3),
                "loss": 0.4 + 0.7 * np.exp(-5 * done) + 0.05 * random.normal(),
                "accuracy": min(1.0, 0.9 - 0.5 * np.exp(-5 * done) + 0.03 * random.normal()),
                "learning_rate": 1e-4 * min(10 * done, (1 - done) / 0.9),
                "gradient_norm": 2 + random.normal() ** 2,
                "tokens_per_second": 4000 + 100 * random.normal(),
                "input_wait": 0.01,
            }
            file.write(json.dumps(row) + "\n")
            if step % (steps // 4) == 0:
                found = {"loss": row["loss"] + 0.05, "accuracy": row["accuracy"] - 0.02}
                file.write(json.dumps({"step": step, "validation": found}) + "\n")
