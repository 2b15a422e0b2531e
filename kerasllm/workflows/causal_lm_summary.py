"""What `finetune` shows of a causal language model: its text, its packs, its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kerasllm.data.chat.conversations import Counts
from kerasllm.data.token_store import TokenStore
from kerasllm.evaluation.language_model import metrics_table  # noqa: F401  see `show_results`
from kerasllm.run import Run
from kerasllm.tasks.causal_lm import CausalLMData
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job


def show_data(report: Report, job: Job) -> None:
    """Shows the files, the rows that became of them, and what was cut or left out."""
    data: CausalLMData = job.data
    kind = "conversations" if data.conversations else "texts"
    facts = [(part, _part(job, part, kind)) for part in data.parts]
    facts.append(("tokenizer", data.tokenizer.description))
    if data.conversations:
        learned = data.train.trained_tokens / data.train.lengths.sum()
        facts.append(("chat template", data.template.name))
        facts.append(("learned", f"{learned:.1%} of the tokens: {_said(job)}"))
    facts.append(("rows", _rows(job)))
    report.facts(facts)
    for part, store in data.stores.items():
        for remark in remarks(store, "conversations" if data.conversations else None):
            report.line(f"{part}: {remark}")


def show_test(report: Report, job: Job, scores: np.ndarray) -> None:
    """Shows nothing more: what a model predicts badly is no list of rows."""


def next_steps(run: Run) -> list[tuple[str, str]]:
    """Returns what a user may do with the run, and how."""
    return [
        ("write a text", f'kerasllm generate {run.path} --prompt "..."'),
        ("hold a conversation", f"kerasllm chat {run.path}"),
        ("measure on other data", f"kerasllm evaluate {run.path} --data FILE"),
    ]


def remarks(store: TokenStore, kind: str | None) -> list[str]:
    """Returns what a user should know of a store's rows; `kind` is what was cut, if anything."""
    found = []
    if store.skipped:
        file, line, why = store.skipped_rows[0]
        found.append(f"{store.skipped:,} bad rows were skipped, the first at {file}:{line}: {why}")
    if store.damage:
        found.append(f"the tokens were read anew; {store.damage}")
    if kind:
        counts = Counts.of(store)
        for count, what in (
            (counts.cut, "were cut to data.max_length"),
            (counts.dropped, "were dropped, as they are longer than data.max_length"),
            (counts.split, f"were split into {counts.pieces:,}, as they are too long"),
        ):
            if count:
                found.append(f"{count:,} {kind} {what}")
    return found


def _part(job: Job, part: str, kind: str) -> str:
    data: CausalLMData = job.data
    rows = data.parts[part]
    if part not in data.stores:
        return f"{len(rows):,} {kind} held out of train, {rows.lengths.sum():,} tokens"
    store = data.stores[part]
    where = getattr(job.recipe.data, part) or job.recipe.data.train
    files = where if isinstance(where, str) else ", ".join(where)
    if part == "validation" and job.recipe.data.validation is None:
        files = f"the end of {files}"
    reused = ", reused from the store" if store.reused else ""
    return (
        f"{files}: {len(store):,} {kind}, {int(store.lengths.sum()):,} tokens{reused}; "
        f"{len(rows):,} rows"
    )


def _said(job: Job) -> str:
    if job.recipe.data.train_on_prompt:
        return "all that is said"
    return "what the assistant says"


def _rows(job: Job) -> str:
    data: CausalLMData = job.data
    length = job.recipe.data.max_length
    if data.packs:
        each = len(data.train.pieces) / len(data.train)
        return f"packed: {each:.1f} texts in {length} tokens, which do not see each other"
    # The last block of a text is seldom full.
    if data.conversations or np.median(data.train.lengths) < length:
        return f"a text a row of up to {length} tokens, like lengths together"
    return f"full blocks of {length} tokens"
