"""What `finetune` shows of preference tuning: its pairs, its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from kerasllm.evaluation.tables import table_of
from kerasllm.tasks.causal_lm import CausalLMData
from kerasllm.workflows.causal_lm_summary import next_steps, remarks, show_test  # noqa: F401
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job

_METRICS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "margin": "margin",
    "chosen_reward": "reward of chosen",
    "rejected_reward": "reward of rejected",
    "pairs": "pairs",
}


def show_data(report: Report, job: Job) -> None:
    """Shows the files, the pairs in them, and what was cut or left out."""
    data: CausalLMData = job.data
    facts = [(part, _part(job, part)) for part in data.parts]
    facts.append(("tokenizer", data.tokenizer.description))
    facts.append(("chat template", data.template.name))
    facts.append(("reference", _reference(job)))
    facts.append(
        ("rows", f"a pair a row: two answers of up to {job.recipe.data.max_length} tokens")
    )
    report.facts(facts)
    for part, store in data.stores.items():
        for remark in remarks(store, "pairs"):
            report.line(f"{part}: {remark}")


def metrics_table(reports: dict[str, dict], title: str | None = None) -> Table:
    """One row for each metric, one column for each data set."""
    return table_of(reports, _METRICS, title)


def _part(job: Job, part: str) -> str:
    data: CausalLMData = job.data
    pairs = data.parts[part]
    tokens = f"{len(pairs):,} pairs, {int(pairs.sides.lengths.sum()):,} tokens"
    if part not in data.stores:
        return f"{tokens}, held out of train"
    where = getattr(job.recipe.data, part)
    files = where if isinstance(where, str) else ", ".join(where)
    return f"{files}: {tokens}" + ", reused from the store" * data.stores[part].reused


def _reference(job: Job) -> str:
    settings = job.recipe.model
    if settings.adapter is not None:
        return f"{settings.preset} with {settings.adapter} as it is"
    return f"{settings.preset} as it is"
