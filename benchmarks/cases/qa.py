"""The recipe qa against Hugging Face's Trainer.

Both train the encoder of the recipe on the same questions (QAMR), with the recipe's batch size,
learning rate, schedule, warm-up, weight decay and clipping, and then answer the test questions.
Without a validation split kerasllm trains on all questions, as the peer does. The seed is that of
the turn, on both sides.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.inputs import KERASLLM
from benchmarks.measure import has_bfloat16, run_measured
from benchmarks.suite import OURS, PEERS, REPEAT, Case, NotBelow, SuiteOptions, Target, Way
from kerasllm import recipe as recipes
from kerasllm.data.starters import find_starter
from kerasllm.models.presets import resolve

PEER = "transformers"
QUICK_STEPS = 4


class Qa(Case):
    name = "qa"
    description = "trains MiniLM-L6 on questions (QAMR), two epochs"
    targets = (Target("seconds", PEER, 1.0), NotBelow("f1", PEER, 0.01))

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        # Caches are warm: kerasllm's tokens are stored.
        run_measured([*KERASLLM, "plan", "--no-step", *_arguments(options)])

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        worker = [sys.executable, "-m", "benchmarks.workers.finetune", "--quality", "f1"]
        # Which rows a few steps take is not told by the peer.
        worker += ["--work", "steps", *([] if options.quick else ["real_tokens"])]
        precision = "bfloat16" if has_bfloat16() else "float32"
        return [
            Way(OURS, "auto", [*worker, *_arguments(options), "--seed", REPEAT]),
            Way(PEER, precision, _peer(options, precision)),
        ]


def _arguments(options: SuiteOptions) -> list[str]:
    steps = ["--set", f"training.max_steps={QUICK_STEPS}"] if options.quick else []
    return ["--recipe", "qa", "--set", "data.validation_split=0", *steps]


def _peer(options: SuiteOptions, precision: str) -> list[str]:
    """What a peer's script is told of the recipe, so that it does the same."""
    recipe = recipes.load("qa")
    training = recipe.training
    told = {
        "model": resolve(recipe.model.preset),
        "train": find_starter("starter:questions", "train")[1],
        "test": find_starter("starter:questions", "test")[1],
        "epochs": training.epochs,
        "steps": QUICK_STEPS if options.quick else 0,
        "batch-size": training.batch_size,
        "max-length": recipe.data.max_length,
        "max-answer-length": recipe.data.max_answer_length,
        "learning-rate": training.learning_rate,
        "warmup": training.warmup,
        "weight-decay": training.weight_decay,
        "clip-norm": training.clip_norm or 0,
        "precision": precision,
        "seed": REPEAT,
    }
    script = [options.peer_python, str(PEERS / "huggingface_qa.py")]
    return [*script, *(part for name, value in told.items() for part in (f"--{name}", str(value)))]


CASE = Qa()
