"""The main job: the recipe bert_cls against Hugging Face's Trainer.

Both train the encoder of the recipe on the same rows, cut at the same length, with the recipe's
batch size, learning rate, schedule, warm-up, weight decay and clipping, and then classify the test
file. Without a validation split kerasllm trains on all rows, as the peer does. The seed is that of
the turn, on both sides.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.inputs import (
    KERASLLM,
    attention_operations,
    encoder_weights,
    movie_reviews,
    read_config,
)
from benchmarks.measure import has_bfloat16, run_measured
from benchmarks.suite import (
    OURS,
    PEERS,
    REPEAT,
    AtLeast,
    AtMost,
    Case,
    NotBelow,
    SuiteOptions,
    Target,
    Way,
)
from kerasllm import recipe as recipes
from kerasllm.models.presets import resolve

PEER = "transformers"
# All rows are trained on.
OVERRIDES = ("data.validation_split=0",)
QUICK_ROWS = 96


class BertCls(Case):
    name = "bert_cls"
    description = "fine-tunes MiniLM-L6 on movie_reviews, one epoch"
    targets = (
        Target("seconds", PEER, 1.5),
        Target("whole_seconds", PEER, 1.45),
        Target("seconds", PEER, 1.2, cold=True),
        Target("whole_seconds", PEER, 1.2, cold=True),
        AtMost("first_step_seconds", 12, cold=True),
        AtLeast("share", 0.5),
        NotBelow("accuracy", PEER, 0.005),
        AtLeast("real_token_share", 0.95),
    )

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        # Caches are warm: kerasllm's tokens are stored, and both sides' libraries were read once.
        overrides = recipe_arguments(options, rows(options))
        run_measured([*KERASLLM, "plan", "--no-step", *overrides])
        run_measured(peer_command(options, QUICK_ROWS, seed="0"))

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        return [
            kerasllm_way(options, rows(options)),
            Way(PEER, peer_precision(), peer_command(options, rows(options), seed=REPEAT)),
        ]

    def floor(self, results, ceilings):
        squared = [s for found in results.ways for s in found.values("squared_lengths")]
        if not squared:
            return None
        config = read_config(Path(resolve(recipes.load("bert_cls").model.preset)))
        # Forward, and twice that backward: towards the inputs and towards the weights.
        operations = 6 * encoder_weights(config) * results.work["real_tokens"]
        operations += 3 * attention_operations(config, squared[0])
        seconds = operations / ceilings["bfloat16"]
        taken = results.best(OURS, self.figure, self.more_is_better).median(self.figure)
        return {
            "seconds": seconds,
            "share": seconds / taken,
            "how": f"{operations / 1e12:.1f} trillion operations of the layers on real tokens, "
            "at the measured rate of bfloat16",
        }


def rows(options: SuiteOptions) -> int | None:
    """How many rows are trained and tested on; `None`: all."""
    return QUICK_ROWS if options.quick else None


def kerasllm_way(options: SuiteOptions, rows: int | None, *of_worker: str) -> Way:
    """The recipe as a user runs it."""
    worker = [sys.executable, "-m", "benchmarks.workers.finetune", *of_worker]
    return Way(OURS, "auto", [*worker, *recipe_arguments(options, rows), "--seed", REPEAT])


def recipe_arguments(options: SuiteOptions, rows: int | None) -> list[str]:
    arguments = ["--recipe", "bert_cls"]
    for override in OVERRIDES:
        arguments += ["--set", override]
    if rows is not None:
        for part in ("train", "test"):
            arguments += [f"--{part}", str(movie_reviews(part, options, rows))]
    return arguments


def peer_precision() -> str:
    """The peer's best: without the instructions, float32 is faster."""
    return "bfloat16" if has_bfloat16() else "float32"


def peer_command(options: SuiteOptions, rows: int | None, seed: str) -> list[str]:
    return [
        options.peer_python,
        str(PEERS / "huggingface_bert_cls.py"),
        *settings(options, rows),
        "--precision",
        peer_precision(),
        "--seed",
        seed,
    ]


def settings(options: SuiteOptions, rows: int | None) -> list[str]:
    """What a peer's script is told of the recipe, so that it does the same."""
    recipe = recipes.load("bert_cls", OVERRIDES)
    training = recipe.training
    told = {
        "model": resolve(recipe.model.preset),
        "train": movie_reviews("train", options, rows),
        "test": movie_reviews("test", options, rows),
        "epochs": training.epochs,
        "batch-size": training.batch_size,
        "max-length": recipe.data.max_length,
        "learning-rate": training.learning_rate,
        "schedule": training.schedule,
        "power": training.power,
        "warmup": training.warmup,
        "weight-decay": training.weight_decay,
        "clip-norm": training.clip_norm or 0,
    }
    return [part for name, value in told.items() for part in (f"--{name}", str(value))]


CASE = BertCls()
