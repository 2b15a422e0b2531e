"""What `plan` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from kerasllm.plurals import counted
from kerasllm.workflows import finetune_summary as summary
from kerasllm.workflows.job import Job
from kerasllm.workflows.report import Report

_PARTS = {
    "weights": "of the whole model",
    "gradients": "of the trainable weights",
    "optimizer": "its slot variables",
    "activations": "of a micro-batch of the longest sequences, and workspace",
    "process": "Python, TensorFlow and the graph",
}
_NOT_PROVED = (
    "This machine cannot check: the step time on the target; the memory used by kernels, XLA and "
    "communication; that every operation has a kernel there (the lint covers known unsupported "
    "operations only); the network between workers."
)


@dataclass(frozen=True)
class Target:
    """The devices that a job is meant for.

    Attributes:
        kind: `one_device`, `mirrored`, `multi_worker` or `tpu`.
        replicas: Replicas of all machines.
        here: Whether they are this process' own.
        memory: Bytes of each device, `None` where they are not known.
    """

    kind: str
    replicas: int
    here: bool
    memory: int | None


def show(report: Report, job: Job, target: Target, found: dict) -> None:
    """Shows a plan.

    Args:
        report: Where to.
        job: The job as it is on this machine.
        target: What it is meant for.
        found: What `plan` returns.
    """
    summary.show_plan(report, job, warnings=False)
    elsewhere = f"On {target.kind} with {counted(target.replicas, 'replica')}"
    report.heading("Batches" if target.here else elsewhere)
    accumulate = job.recipe.training.accumulate
    filled = counted(found["filled_rows"], "padding example")
    fill = f" ({filled} of weight 0)" if found["filled_rows"] else ""
    report.facts(
        [
            ("global batch", counted(found["global_batch"], "example")),
            (
                "per replica",
                f"{counted(found['replica_batch'], 'example')} on each of {target.replicas}{fill}"
                + (f", in {accumulate} micro-batches of {found['micro_batch']}" * (accumulate > 1)),
            ),
            ("steps", _steps(found)),
            ("compiled", _compiled(found)),
        ]
    )
    report.heading("Memory of each device" if "process" not in found["memory"] else "Memory")
    report.show(_memory_table(found["memory"]))
    report.heading("Disk")
    disk = found["disk"]
    report.facts(
        [
            ("a checkpoint", size(disk["checkpoint"])),
            ("the run", f"{size(disk['run'])} at most, with the model; {size(disk['free'])} free"),
        ]
    )
    if "step" in found:
        step = found["step"]
        report.heading("Trial step")
        report.facts(
            [
                (
                    "on",
                    f"{step['devices']}, {found['replica_batch']} x {found['lengths'][-1]} each",
                ),
                ("loss", f"{step['loss']:.4f}"),
                (
                    "time",
                    f"{step['seconds']:.2f} s, {step['first_seconds']:.2f} s for the first call",
                ),
            ]
        )
    if "lint" in found:
        report.heading("TPU lint")
        for line in found["lint"] or ["no operations that TPUs are known not to support"]:
            report.line(line)
        report.line(
            f"every batch has the shape {found['replica_batch']} x {found['lengths'][-1]}; the "
            "last, smaller one is padded with examples of weight 0"
        )
    report.line()
    if not target.here:
        report.line(_NOT_PROVED)
        report.line()
    for problem in found["problems"]:
        report.line(f"PROBLEM  {problem}")
    for warning in found["warnings"]:
        report.line(f"WARNING  {warning.removeprefix('warning: ')}")
    if not found["problems"]:
        report.line(f"{_verdict(found['warnings'])} No run was written.")


def _verdict(warnings: Sequence[str]) -> str:
    if not warnings:
        return "No problems were found."
    are = "is" if len(warnings) == 1 else "are"
    return f"Nothing would fail, but there {are} {counted(len(warnings), 'warning')}: see above."


def size(count: int) -> str:
    """Returns bytes in words, such as `1.5 GB`."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return counted(count, "byte")


def _steps(found: dict) -> str:
    all_steps = found["epochs"] * found["steps_per_epoch"]
    steps = f"{found['epochs']} x {found['steps_per_epoch']:,} = {all_steps:,}"
    if all_steps == found["steps"]:
        return steps
    return f"{steps}, stopped after {found['steps']:,} by training.max_steps"


def _compiled(found: dict) -> str:
    if found.get("fused"):
        return "element-wise work only, fused by XLA"
    if not found["xla"]:
        return "nothing (XLA is off)"
    return f"{counted(len(found['lengths']), 'shape')} per replica, by XLA"


def _memory_table(memory: dict) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    for part, what in _PARTS.items():
        if part in memory:
            parts = memory.get("parts", 1)
            count = f"{parts} x " if parts > 1 and part != "process" else ""
            if memory[part] is None:
                table.add_row(part, "-", "within what is counted for the gradients")
                continue
            table.add_row(part, f"{count}{size(memory[part])}", what)
    table.add_row("total", size(memory["total"]), "estimated to within about 20%")
    has = memory["available"]
    table.add_row("available", size(has) if has else "?", "" if has else "set it with --memory")
    return table
