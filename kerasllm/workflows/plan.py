"""What a training would do, and what would fail, before it starts."""

from __future__ import annotations

from kerasllm.distribution.strategies import strategy
from kerasllm.recipe import Recipe
from kerasllm.workflows import finetune_summary as summary
from kerasllm.workflows.job import prepare
from kerasllm.workflows.report import Report


def plan(recipe: Recipe, *, name: str = "finetune", report: Report | None = None) -> None:
    """Shows what a training would do, and writes no run.

    Args:
        recipe: The recipe.
        name: Name of the recipe. Defaults to `"finetune"`.
        report: Where it is shown. Defaults to `None`: stderr.
    """
    report = report or Report()
    where = strategy(recipe.training.strategy, communication=recipe.training.communication)
    report.heading(f"Recipe {name}")
    report.yaml(recipe.to_yaml())
    job = prepare(recipe, report, where)
    summary.show_data(report, job.data)
    summary.show_plan(report, job)
    report.line()
    report.line("Dry run: everything is ready to train; no step was made, no run written.")
