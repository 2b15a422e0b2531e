"""What a training in shards would do: where each large variable lies, and what would fail."""

from __future__ import annotations

import math
import time

import numpy as np
from rich.table import Table

from kerasllm.distribution import layouts
from kerasllm.distribution.layouts import DATA, Layout, layouts_of
from kerasllm.distribution.strategies import describe
from kerasllm.environment import use_jax
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.recipe.strategy_names import check_name
from kerasllm.workflows.job import Job
from kerasllm.workflows.plan_summary import Target, size
from kerasllm.workflows.report import Report


def connect(recipe: WholeRecipe):
    """Returns the sharded strategy of a recipe; without accelerators it is on virtual devices."""
    use_jax()
    # It imports JAX, which need not be installed.
    from kerasllm.distribution import sharded

    return sharded.connect(check_name(recipe.training.strategy)[1], planned=True)


def target_of(strategy, device_bytes: int | None) -> Target:
    """Returns the devices that a sharded job is meant for: those that it is planned on."""
    device = strategy.mesh.local_devices[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return Target("sharded", strategy.shape[DATA], True, device_bytes or limit)


def layouts_of_job(job: Job) -> dict[str, list[Layout]]:
    """Returns the layouts of what a training holds, by what it is."""
    model, mesh = job.model, job.strategy.shape
    return {
        "weights": layouts_of(_once([*model.task.variables, *model.trainable_variables]), mesh),
        "gradients": layouts_of(model.trainable_variables, mesh),
        "optimizer": layouts_of(model.optimizer.variables, mesh),
    }


def memory_of(found: dict[str, list[Layout]], room: int, target: Target) -> dict:
    """Returns the bytes that each device needs, and has.

    Args:
        found: What `layouts_of_job` returns.
        room: Bytes of a step beside the variables, gradients included.
        target: The devices.
    """
    needs = {name: sum(each.device_bytes for each in group) for name, group in found.items()}
    activations = max(room - needs["gradients"], 0)
    total = sum(needs.values()) + activations
    # Of less room than the gradients' estimate nothing can be told, as in `plan`.
    return {**needs, "activations": activations or None, "total": total, "available": target.memory}


def problems_of(found: dict[str, list[Layout]], devices: int) -> list[str]:
    """Returns which large variables every device would hold whole, in words."""
    return [
        f"layout: each of {devices} devices would hold all of {name}{_alike(count)}, {each}, "
        f"{size(each.bytes * count)}: no dimension is a multiple of an axis of the mesh; choose a "
        "mesh whose axes divide one"
        for name, each, count in _grouped(layouts.replicated(found["weights"], devices))
    ]


def step_of(job: Job, inputs, *, make: bool) -> tuple[int, dict | None]:
    """Compiles one step, and makes it.

    Args:
        job: The job.
        inputs: A batch.
        make: Whether to make it.

    Returns:
        The bytes that it needs on each device beside the variables, and what it was.
    """
    training = job.model.make_train_function()
    room = training.room(inputs)
    if not make:
        return room, None
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        _, each = training(iter([inputs]), 0, 1)
        seconds.append(round(time.perf_counter() - started, 3))
    return room, {
        "devices": describe(job.strategy),
        "loss": float(np.asarray(each["step_loss"])[0]),
        "first_seconds": seconds[0],
        "seconds": seconds[1],
    }


def as_json(found: dict[str, list[Layout]]) -> list[dict]:
    """Returns the layouts of the weights for a machine."""
    return [
        {
            "path": each.path,
            "shape": list(each.shape),
            "axes": [list(names) for names in each.axes],
            "bytes": each.bytes,
            "device_bytes": each.device_bytes,
        }
        for each in found["weights"]
    ]


def show_layouts(report: Report, job: Job, found: dict[str, list[Layout]]) -> None:
    """Shows where each large variable lies; the rest in one line."""
    devices = math.prod(job.strategy.shape.values())
    report.heading(f"Layouts on {job.strategy}")
    weights = found["weights"]
    split = [each for each in weights if each.parts > 1]
    large = [each for each in split if each.is_large] or split
    table = Table(box=None, pad_edge=False)
    table.add_column("variable", overflow="fold")
    for name in ("layout", "in all", "a device"):
        table.add_column(name, justify="left" if name == "layout" else "right", no_wrap=True)
    for named, each, count in _grouped(large):
        table.add_row(
            named + _alike(count),
            str(each),
            size(each.bytes * count),
            size(each.device_bytes * count),
        )
    report.show(table)
    rest = [each for each in weights if each.parts == 1]
    small = [each for each in split if each not in large]
    for group, noun, what in (
        (small, "variable", "smaller than 1 MB, split as well"),
        ([each for each in rest if not each.is_large], "small variable", "whole on each device"),
    ):
        if group:
            held = sum(each.device_bytes for each in group)
            report.line(f"{counted(len(group), noun)} {what}: {size(held)} a device")
    total = sum(each.bytes for each in weights)
    held = sum(each.device_bytes for each in weights)
    report.line(
        f"{size(held)} of {size(total)} on each of {counted(devices, 'device')}: "
        f"{held / total:.1%} of the weights"
    )


def _alike(count: int) -> str:
    return f" ({count} alike)" if count > 1 else ""


def _grouped(found: list[Layout]) -> list[tuple[str, Layout, int]]:
    """Returns layouts that differ in the number of their layer alone as one, with their count."""
    groups: dict[tuple, list[Layout]] = {}
    for each in found:
        name = "".join("#" if letter.isdecimal() else letter for letter in each.path)
        while "##" in name:
            name = name.replace("##", "#")
        groups.setdefault((name, each.shape, each.axes), []).append(each)
    return [
        (name if len(group) > 1 else group[0].path, group[0], len(group))
        for (name, *_), group in groups.items()
    ]


def _once(variables) -> list:
    return list({id(variable): variable for variable in variables}.values())
