"""What `compress` prints: the model before and after."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from kerasllm.compression.measure import Comparison
from kerasllm.compression.run_model import Subject
from kerasllm.plurals import counted
from kerasllm.run import Run
from kerasllm.workflows.report import Report

_MEGABYTE = 1e6
# More kernels than these are summed up.
_LAYERS_SHOWN = 12


def show(
    report: Report, subject: Subject, comparison: Comparison, facts: Mapping, run: Run
) -> None:
    """Shows size, speed and quality before and after, and what pruning did to each layer."""
    if facts.get("layers"):
        report.heading("Sparsity")
        report.show(sparsity_table(facts["layers"]))
        report.line(
            f"{facts['sparsity']:.1%} of the kernels' weights are 0, "
            f"{facts['sparsity_of_all']:.1%} of all weights. Zeros make files smaller once they "
            "are compressed; matrix products are not faster"
        )
    rows = counted(len(subject.rows), "row")
    report.heading(f"Before and after, on the {subject.part} data ({rows})")
    report.show(comparison_table(comparison, subject.task.metrics))
    verdict = "within" if comparison.within_limit else "PAST"
    report.line(
        f"{comparison.lost:+.2%} of the {comparison.metric} lost, {verdict} the limit of "
        f"{comparison.limit:.2%}"
    )
    report.line(f"run     {run.path}")


def comparison_table(comparison: Comparison, metrics: Mapping[str, str]) -> Table:
    """Returns size, speed and quality in a row each, with the ratio of after to before.

    Args:
        comparison: The model before and after.
        metrics: The name of each metric in the table, by its key.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for column in ("before", "after", "after / before"):
        table.add_column(column, justify="right")
    before, after = comparison.before, comparison.after

    def row(name: str, one: float, other: float, shown: str, scale: float | None = None) -> None:
        ratio = f"{other / one:.3f}" if one else "-"
        if scale:
            one, other = one / scale, other / scale
        table.add_row(name, format(one, shown), format(other, shown), ratio)

    row("size, MB", before.bytes, after.bytes, ",.1f", _MEGABYTE)
    row("gzipped, MB", before.gzipped_bytes, after.gzipped_bytes, ",.1f", _MEGABYTE)
    row("parameters", before.parameters, after.parameters, ",")
    row("examples/s", before.rows_per_second, after.rows_per_second, ",.1f")
    for name, shown in metrics.items():
        if name in before.quality:
            row(shown, before.quality[name], after.quality[name], ".4f")
    if comparison.agreement is not None:
        table.add_row("same prediction", "", f"{comparison.agreement:.2%}", "")
    return table


def sparsity_table(layers: Mapping[str, float]) -> Table:
    """Returns the part of zeros of each kernel, the first of them where there are many."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("kernel")
    table.add_column("zeros", justify="right")
    shown = list(layers.items())[:_LAYERS_SHOWN]
    for name, share in shown:
        table.add_row(name, f"{share:.1%}")
    rest = list(layers.values())[_LAYERS_SHOWN:]
    if rest:
        table.add_row(f"{len(rest)} more", f"{min(rest):.1%} to {max(rest):.1%}")
    return table


def change(comparison: Comparison) -> str:
    """Returns the metric before and after in words."""
    before, after = (
        one.quality[comparison.metric] for one in (comparison.before, comparison.after)
    )
    return f"{before:.4f} before, {after:.4f} after"
