"""Check a training before it starts."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.data.pipeline import replica_rows
from kerasllm.distribution import tpu
from kerasllm.distribution.lint import lint_inputs, lint_step
from kerasllm.distribution.memory import (
    bytes_of,
    checkpoint_bytes,
    device_memory,
    estimate_memory,
)
from kerasllm.distribution.strategies import describe, is_chief, kind_of, strategy
from kerasllm.distribution.tf_config import read_tf_config
from kerasllm.environment import cache_dir
from kerasllm.errors import CommandError
from kerasllm.models.layers import trainable_share
from kerasllm.recipe import WholeRecipe
from kerasllm.recipe.strategy_names import check_name, is_sharded
from kerasllm.workflows import finetune_summary as summary
from kerasllm.workflows import plan_sharded, plan_summary
from kerasllm.workflows.job import Job, prepare, prepare_process_for
from kerasllm.workflows.plan_summary import Target, size
from kerasllm.workflows.remote_run import is_remote
from kerasllm.workflows.report import Report
from kerasllm.workflows.sharded import refuse_unsupported

# So many cores has the smallest machine of most TPU generations.
_TPU_REPLICAS = 8
# Two replicas behave like any number.
_VIRTUAL_REPLICAS = 2


def plan(
    recipe: WholeRecipe,
    *,
    name: str = "finetune",
    title: str | None = None,
    replicas: int | None = None,
    device_bytes: int | None = None,
    output: str | Path | None = None,
    step: bool = True,
    verbose: bool = False,
    report: Report | None = None,
) -> dict:
    """Shows what a training would do, makes one real step of it, and writes no run.

    Args:
        recipe: The recipe.
        name: Name of the recipe. Defaults to `"finetune"`.
        title: The file of the recipe, for its heading. Defaults to `None`: its name.
        replicas: Replicas of the machines that the job is meant for. Defaults to `None`: those of
            this one, or 8 for a TPU that is not here.
        device_bytes: Memory of each of their devices. Defaults to `None`: what this machine's
            devices have, if it is meant for them.
        output: Where the run would be. Defaults to `None`: below the current folder.
        step: Whether to make one step, on this machine's devices or on virtual ones. Defaults to
            `True`.
        verbose: Whether all keys of the recipe are shown, and not only what was changed. Defaults
            to `False`.
        report: Where it is shown. Defaults to `None`: stderr.

    Returns:
        What was found, as JSON takes it; `problems` says what would fail, in words, and `warnings`
        what the data and the recipe may not be meant to be.

    Raises:
        KerasllmError: If the data, the preset or the plan is refused.
    """
    if is_sharded(recipe.training.strategy):
        refuse_unsupported(recipe)
    # On the machines that are meant, a batch is cut for their replicas and not for these cores.
    computed = None if replicas is None else {"slices": 1}
    too_late = prepare_process_for(recipe, computed)
    target, where = _target(recipe, replicas, device_bytes)
    report = (report or Report()) if is_chief(where) else Report.silent()
    if not target.here:
        recipe = _for_target(recipe, target)
    summary.show_recipe(report, recipe, name, title, verbose=verbose)
    for line in too_late:
        report.line(line)
    job = prepare(recipe, report, where, one_shape=target.kind == "tpu", computed=computed)
    # They are shown at the end.
    warnings = summary.show_data(report, job, warnings=False) + summary.training_warnings(job)
    inputs = _widest_batch(job, target)
    layouts = plan_sharded.layouts_of_job(job) if target.kind == "sharded" else None
    if layouts:
        found = _in_shards(job, target, layouts, inputs, step, report)
    else:
        found = _on_replicas(job, target, inputs, step, report)
    found |= {**_batches(job, target), "disk": _disk(job, output), "warnings": warnings}
    found["problems"] = _problems(found)
    if layouts:
        found["problems"] += plan_sharded.problems_of(layouts, where.mesh.size)
        plan_sharded.show_layouts(report, job, layouts)
    if leak := summary.refused_leak(job):
        found["problems"].append(f"data: {leak.what}")
    plan_summary.show(report, job, target, found)
    return found


def _on_replicas(job: Job, target: Target, inputs: tuple, step: bool, report: Report) -> dict:
    """Returns what a step needs, and what TPUs refuse of it; makes one if `step`."""
    with report.busy("tracing the step"):
        batch, run = _step(job, inputs)
        traced = run.get_concrete_function(batch)
    found = {"memory": _memory(job, target, traced)}
    if target.kind == "tpu":
        found["lint"] = [*lint_inputs(inputs), *lint_step(traced)]
    if step:
        with report.busy("running a trial step"):
            found["step"] = _made(job, run, batch)
    return found


def _in_shards(
    job: Job, target: Target, layouts: dict, inputs: tuple, step: bool, report: Report
) -> dict:
    """Returns what each device holds of a sharded training; makes a step if `step`."""
    with report.busy("compiling the step"):
        room, made = plan_sharded.step_of(job, inputs, make=step)
    found = {
        "memory": plan_sharded.memory_of(layouts, room, target),
        "layouts": plan_sharded.as_json(layouts),
    }
    return {**found, "step": made} if step else found


def _target(
    recipe: WholeRecipe, replicas: int | None, device_bytes: int | None
) -> tuple[Target, tf.distribute.Strategy]:
    """Returns what the job is meant for, and the strategy that its step is tried under here."""
    kind, _ = check_name(recipe.training.strategy)
    if kind == "sharded":
        if replicas is not None:
            raise CommandError(
                "a sharded strategy has no replicas: its mesh says how many devices there are",
                where="--replicas",
                fix="leave it out, and give the mesh, as in --strategy sharded:2x4",
            )
        made = plan_sharded.connect(recipe)
        return plan_sharded.target_of(made, device_bytes), made
    absent = (kind == "tpu" and not tpu.is_tpu_here()) or (
        kind == "multi_worker" and read_tf_config() is None
    )
    if replicas is None and not absent:
        made = strategy(recipe.training.strategy, communication=recipe.training.communication)
        memory = device_bytes or device_memory(_processor(made))
        return Target(kind_of(made), made.num_replicas_in_sync, True, memory), made
    if kind == "virtual" and replicas is not None:
        raise CommandError(
            f"strategy {recipe.training.strategy!r} already sets the number of replicas",
            where="--replicas",
            fix="leave --replicas out, or name the strategy of the target machines",
        )
    if replicas is None and kind == "multi_worker":
        raise CommandError(
            "There are no workers here, and their number of replicas is unknown",
            where="--replicas",
            fix="set it, e.g. --replicas 16",
        )
    replicas = replicas or _TPU_REPLICAS
    if kind == "auto":
        kind = "mirrored" if replicas > 1 else "one_device"
    tried = "one_device" if replicas == 1 else f"virtual:{_VIRTUAL_REPLICAS}"
    return Target(kind, replicas, False, device_bytes), strategy(tried)


def _for_target(recipe: WholeRecipe, target: Target) -> WholeRecipe:
    """Returns the recipe with what `auto` resolves to on accelerators: this machine has none."""
    training = recipe.training
    settled = {
        "precision": "mixed_bfloat16" if training.precision == "auto" else training.precision,
        # A TPU always compiles, regardless of the recipe.
        "xla": True if training.xla == "auto" or target.kind == "tpu" else training.xla,
    }
    return recipe.model_copy(update={"training": training.model_copy(update=settled)})


def _processor(where: tf.distribute.Strategy) -> str:
    """Returns the kind of the devices of a strategy: CPU, GPU or TPU."""
    if kind_of(where) == "tpu":
        return "TPU"
    # The strategy has hidden those that it does not use.
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def _batches(job: Job, target: Target) -> dict:
    """Returns devices, batches, steps, shapes and parameters."""
    training = job.recipe.training
    trainable, total = trainable_share(job.model.task)
    rows = replica_rows(job.plan.batch_size, target.replicas, training.accumulate)
    return {
        "strategy": target.kind,
        "replicas": target.replicas,
        "global_batch": job.plan.batch_size,
        "replica_batch": rows,
        "micro_batch": rows // training.accumulate,
        "filled_rows": rows * target.replicas - job.plan.batch_size,
        "steps_per_epoch": job.plan.steps,
        "epochs": job.epochs,
        "steps": job.steps,
        "lengths": job.plan.boundaries.tolist(),
        "xla": job.xla,
        "fused": not job.xla and job.model.fused,
        "precision": job.precision,
        "parameters": total,
        "trainable_parameters": trainable,
    }


def _widest_batch(job: Job, target: Target) -> tuple:
    """Returns the batch of this machine's replicas that needs most, as it is in the data."""
    rows = replica_rows(job.plan.batch_size, target.replicas, job.recipe.training.accumulate)
    lengths = np.asarray(job.data.train.lengths)
    # Source and target together, where rows have both.
    longest = np.argsort(-lengths.reshape(len(lengths), -1).sum(axis=1), kind="stable")
    chosen = np.resize(longest, rows * job.strategy.num_replicas_in_sync)
    model = job.model
    arrays = job.data.train.batch(
        chosen, job.plan.shapes[-1], model.input_names, model.tokenizer.pad_token_id
    )
    return tf.nest.map_structure(tf.convert_to_tensor, arrays)


def _step(job: Job, inputs: tuple) -> tuple:
    """Returns a batch that is cut for the replicas, and the function of one training step."""
    replicas = job.strategy.num_replicas_in_sync
    # Of known shape, as in the training under a strategy that wants it.
    parts = tf.data.Dataset.from_tensor_slices(
        tf.nest.map_structure(lambda all_rows: tf.stack(tf.split(all_rows, replicas)), inputs)
    )

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        return parts.skip(context.input_pipeline_id * local).take(local)

    batch = next(iter(job.strategy.distribute_datasets_from_function(of_worker)))

    @tf.function(autograph=False)
    def run(batch):
        arguments = (batch, tf.constant(0, tf.int64), tf.constant(job.model.requests))
        _, each = job.strategy.run(job.model.train_step, args=arguments)
        return job.strategy.experimental_local_results(each["step_loss"])[0]

    return batch, run


def _made(job: Job, run, batch) -> dict:
    """Makes the step twice: the first time TensorFlow prepares it, and XLA compiles."""
    started = time.perf_counter()
    loss = float(run(batch))
    first = time.perf_counter() - started
    started = time.perf_counter()
    run(batch)
    return {
        "devices": describe(job.strategy),
        "loss": loss,
        "first_seconds": round(first, 3),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _memory(job: Job, target: Target, traced) -> dict:
    """Returns the bytes that each device needs, and has."""
    needs = estimate_memory(job.model, traced)
    shared = target.here and _processor(job.strategy) == "CPU"
    # Parts of a CPU share the memory of one process.
    parts = len(job.strategy.experimental_local_results(job.model.variables[0].value))
    total = needs.process(parts) if shared else needs.device
    return {
        "weights": needs.weights,
        "gradients": needs.gradients,
        "optimizer": needs.optimizer,
        # Some gradients are sparse: of a peak that is below their estimate nothing can be told.
        "activations": needs.activations or None,
        **({"process": needs.base, "parts": parts} if shared else {}),
        "total": total,
        "available": target.memory,
    }


def _disk(job: Job, output: str | Path | None) -> dict:
    """Returns the bytes that the run needs on the disk, and those that are free."""
    training = job.recipe.training
    each = checkpoint_bytes(job.model)
    # The newest ones, the best, and the one that is being written.
    count = training.keep_checkpoints + 2
    # A run on a store is trained here first.
    folder = (cache_dir() if is_remote(output) else Path(output or ".")).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return {
        "checkpoint": each,
        "model": bytes_of(job.model.task.variables),
        "run": each * count + bytes_of(job.model.task.variables),
        "free": shutil.disk_usage(existing).free,
    }


def _problems(found: dict) -> list[str]:
    """Returns what would fail."""
    problems = [f"TPU: {finding}" for finding in found.get("lint", [])]
    memory, disk = found["memory"], found["disk"]
    if memory["available"] is not None and memory["total"] > memory["available"]:
        problems.append(
            f"memory: each device would need {size(memory['total'])} and has "
            f"{size(memory['available'])}; raise training.accumulate, lower training.batch_size or "
            "data.max_length, or train less with model.lora"
        )
    if disk["run"] > disk["free"]:
        problems.append(
            f"disk: the run would need {size(disk['run'])}, and {size(disk['free'])} are free; "
            "lower training.keep_checkpoints, or choose another location with --output"
        )
    if found["precision"].endswith("float16") and found["strategy"] == "tpu":
        if not found["precision"].endswith("bfloat16"):
            problems.append("TPU: it computes in bfloat16, not in float16; set training.precision")
    if "step" in found and not math.isfinite(found["step"]["loss"]):
        problems.append(f"the loss of the first step is {found['step']['loss']}")
    return problems
