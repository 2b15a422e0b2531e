"""Compares the estimate of a training's memory with what the training takes, on a CPU.

    python -m benchmarks.memory [--only TEXT] [--steps 4]

For each case one process builds the model and estimates, without a step; another, fresh one trains
it for a few steps with `compile` and `fit` and is measured from outside.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine, run_measured

HERE = Path(__file__).parent
PARTS = {"process": "process", "above_base": "above its base", "tensors": "tensors"}
SIZES = {
    "MiniLM-L6": {"num_layers": 6, "num_heads": 12, "hidden_dim": 384, "intermediate_dim": 1536},
    "BERT-base": {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072},
}


@dataclass(frozen=True)
class Case:
    """A training to estimate and measure; `rows` is its global batch."""

    size: str
    rows: int
    length: int
    precision: str = "float32"
    trains: str = "all"
    accumulate: int = 1
    strategy: str = "one_device"
    xla: bool = False
    fused: bool = False

    def __str__(self) -> str:
        extras = [f"accumulate {self.accumulate}"] * (self.accumulate > 1)
        extras += [self.strategy] * (self.strategy != "one_device") + ["XLA"] * self.xla
        extras += ["fused, a part for each core"] * self.fused
        shape = f"{self.rows}x{self.length}"
        return ", ".join([self.size, shape, self.precision, self.trains, *extras])


CASES = [
    Case("MiniLM-L6", 8, 64),
    Case("MiniLM-L6", 32, 128),
    Case("MiniLM-L6", 32, 128, "mixed_bfloat16"),
    Case("MiniLM-L6", 64, 256, "mixed_bfloat16"),
    Case("MiniLM-L6", 64, 256, accumulate=4),
    Case("MiniLM-L6", 32, 128, trains="LoRA"),
    Case("MiniLM-L6", 64, 128, trains="head"),
    Case("BERT-base", 8, 64),
    Case("BERT-base", 8, 128),
    Case("BERT-base", 32, 128, "mixed_bfloat16"),
    Case("BERT-base", 64, 128, "mixed_bfloat16", accumulate=4),
    Case("BERT-base", 32, 128, "mixed_bfloat16", trains="LoRA"),
    Case("MiniLM-L6", 32, 128, strategy="virtual:2"),
    Case("MiniLM-L6", 32, 128, "mixed_bfloat16", strategy="virtual:4"),
    Case("MiniLM-L6", 32, 128, xla=True),
    Case("BERT-base", 8, 128, xla=True),
    Case("MiniLM-L6", 32, 32, "mixed_bfloat16", fused=True),
    Case("MiniLM-L6", 32, 128, "mixed_bfloat16", fused=True),
    Case("MiniLM-L6", 64, 128, fused=True),
    Case("BERT-base", 32, 128, "mixed_bfloat16", fused=True),
]


def main() -> None:
    options = parse_arguments()
    if options.role:
        from kerasllm.runtime.startup import import_tensorflow

        # As the commands do, before anything else imports it.
        import_tensorflow(lean=True)
        role = estimate if options.role == "estimate" else train
        print(json.dumps(role(Case(**json.loads(options.case)), options.steps)))
        return
    console = Console(stderr=True)
    results = []
    for case in CASES:
        if options.only in str(case):
            console.print(f"{case} ...")
            results.append(compare(case, options.steps))
    result = {
        "benchmark": "memory",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "cases": results,
    }
    path = options.output or HERE / "results" / f"memory-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    Console(width=130).print(table(results))
    console.print(f"Written to {path}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    parser.add_argument("--steps", type=int, default=4, help="steps to train (default: 4)")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    parser.add_argument("--role", choices=["estimate", "train"], help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(case: Case, steps: int) -> dict:
    """Runs both processes of a case and holds one against the other."""

    def run(role: str):
        arguments = ["--role", role, "--case", json.dumps(asdict(case)), "--steps", str(steps)]
        command = [sys.executable, "-m", "benchmarks.memory", *arguments]
        measured = run_measured(command, env={"CUDA_VISIBLE_DEVICES": "-1"})
        return json.loads(measured.stdout.splitlines()[-1]), measured.peak_memory

    estimated, _ = run("estimate")
    trained, peak = run("train")
    measured = {"process": peak, **trained}
    measured["above_base"] = peak - trained["base"]
    return {
        "case": asdict(case),
        "name": str(case),
        "estimate": estimated,
        "measured": measured,
        "ratio": {key: measured[key] and estimated[key] / measured[key] for key in PARTS},
    }


def estimate(case: Case, steps: int) -> dict:
    """Estimates a case's memory without a step."""
    import tensorflow as tf

    from kerasllm.distribution.memory import PROCESS_BYTES, estimate_memory

    model, devices = build(case)
    rows = case.rows // devices
    inputs = {name: tf.TensorSpec([rows, case.length], tf.int32) for name in model.input_names}
    batch = (inputs, tf.TensorSpec([rows], tf.int32), tf.TensorSpec([rows]))

    @tf.function
    def step(data):
        arguments = (data, tf.constant(0, tf.int64), tf.constant(model.requests))
        model.distribute_strategy.run(model.train_step, args=arguments)

    needs = estimate_memory(model, step.get_concrete_function(batch))
    process = needs.process(devices)
    return {
        **asdict(needs),
        "tensors": devices * needs.device,
        "above_base": process - PROCESS_BYTES,
        "process": process,
    }


def train(case: Case, steps: int) -> dict:
    """Trains a case; tells what filled the process before the model, and the peak of tensors."""
    import numpy as np
    import tensorflow as tf

    before = {}
    model, _ = build(case, lambda: before.update(base=resident()))
    rows = case.rows * steps
    random = np.random.default_rng(0)
    inputs = {name: np.ones((rows, case.length), "int32") for name in model.input_names}
    inputs["token_ids"] = random.integers(0, 30_000, (rows, case.length), "int32")
    labels = random.integers(0, 2, rows, "int32")
    data = tf.data.Dataset.from_tensor_slices((inputs, labels, np.ones(rows, "float32")))
    model.fit(data.batch(case.rows, drop_remainder=True), epochs=1, verbose=0)
    return {**before, "tensors": tensors_at_peak()}


def build(case: Case, before: Callable[[], None] = lambda: None):
    """Returns a compiled model with random weights, and the number of its devices.

    Args:
        case: What to build.
        before: Called when TensorFlow runs and nothing is built. Defaults to nothing.
    """
    import keras
    import keras_hub
    import tensorflow as tf

    from kerasllm.data.labels import Labels
    from kerasllm.distribution import strategy
    from kerasllm.models.adapters.encoder_lora import add_lora
    from kerasllm.models.text_classifier import TextClassifier
    from kerasllm.runtime.threads import set_threads, slices_for
    from kerasllm.training.fit import FineTunedModel
    from kerasllm.training.optimizers import build_optimizer

    # As `kerasllm finetune` does.
    slices = slices_for(case.rows // case.accumulate) if case.fused else 1
    set_threads(slices)
    keras.utils.set_random_seed(0)
    scope = strategy(case.strategy)
    tf.matmul(tf.ones([8, 8]), tf.ones([8, 8]))  # Starts the runtime.
    before()
    with scope.scope():
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=30_522,
            max_sequence_length=512,
            dropout=0.1,
            dtype=case.precision,
            **SIZES[case.size],
        )
        task = keras_hub.models.BertTextClassifier(backbone, num_classes=2, dropout=0.1)
        if case.trains == "LoRA":
            add_lora(task)
        if case.trains == "head":
            backbone.trainable = False
        model = TextClassifier(task, Labels(["0", "1"])) if case.fused else FineTunedModel(task)
        variables = model.trainable_variables
        optimizer = build_optimizer("adamw", 1e-4, variables, weight_decay=0.01, clip_norm=1.0)
        model.compile(optimizer, accumulate=case.accumulate, xla=case.xla, slices=slices)
    return model, scope.num_replicas_in_sync


def resident() -> int:
    """Bytes of this process that are in memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("This benchmark needs Linux.")


def tensors_at_peak() -> int | None:
    """The most that TensorFlow's allocator had handed out at once, where it counts."""
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("CPU:0")["peak"] or None


def table(results: list[dict]) -> Table:
    """Estimate, measured and their ratio, for each part of the memory; a row for each case."""
    title = "memory at its peak: MiB estimated / measured = ratio"
    shown = Table(title=title, title_justify="left")
    shown.add_column("")
    for part in PARTS.values():
        shown.add_column(part, justify="right")

    def cell(result: dict, key: str) -> str:
        estimated, measured = result["estimate"][key] >> 20, result["measured"][key]
        if measured is None:
            return f"{estimated:,}"
        return f"{estimated:,} / {measured >> 20:,} = {result['ratio'][key]:.2f}"

    for result in results:
        shown.add_row(result["name"], *(cell(result, key) for key in PARTS))
    ratios = [result["ratio"]["process"] for result in results]
    shown.caption = f"process: {min(ratios):.2f} to {max(ratios):.2f} of what was measured"
    shown.caption_justify = "left"
    return shown


if __name__ == "__main__":
    main()
