"""The model card of a run: its report as Markdown, without paths and without texts of the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasllm.export.card_facts import facts_of_run
from kerasllm.export.card_sections import (
    code,
    licence_section,
    metrics_section,
    plain_text,
    recipe_section,
    table,
    training_section,
)
from kerasllm.recipe import load
from kerasllm.reports.plain import number
from kerasllm.run import Run
from kerasllm.tasks.task import task_of


def report_card(path: str | Path, facts: Mapping[str, Any]) -> str:
    """Returns the Markdown of a model card, with the sections that an export has too.

    Args:
        path: The run directory.
        facts: What `kerasllm.reports.run_facts.facts_for_report` gave.

    Raises:
        RunError: If the run did not finish: it has no model.
    """
    run = Run.open(path)
    recipe = load(str(run.recipe))
    told, task = facts_of_run(run, recipe), task_of(recipe)
    base = told.get("base")
    begun = f"starting from the pretrained `{code(base)}`" if base else "trained from scratch"
    parts = [
        _front_matter(told),
        f"# {plain_text(facts['name'])}",
        f"A model of the task `{task.name}`, {begun}, fine-tuned by kerasllm.",
        training_section(told),
        metrics_section(told["metrics"], task.metrics, facts["intervals"]),
        _failures(facts["slices"]),
        licence_section(told),
        (
            "## Limits\n\n- It was evaluated on the data above; it may be much worse on other "
            "kinds of text."
        ),
        recipe_section(told),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(facts: Mapping) -> str:
    lines = ["tags: [kerasllm]"]
    if licence := facts.get("licence"):
        lines.insert(0, f"license: {licence.lower()}")
    return "\n".join(["---", *lines, "---"])


def _failures(slices: Mapping | None) -> str | None:
    """Returns the groups of rows that are worse than the rest."""
    if not slices or not slices["slices"]:
        return None
    rows = [
        [one["column"], one["value"], f"{one['rows']:,}", *map(number, (one["error"], one["rest"]))]
        for one in slices["slices"]
    ]
    header = ["column", "value", "rows", slices["error"], "of all others"]
    return f"## Where it fails\n\n{table(header, rows)}"
