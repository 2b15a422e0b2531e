"""The model card: README.md in every exported folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kerasllm.export.card_sections import (
    code,
    licence_section,
    metrics_section,
    recipe_section,
    table,
    training_section,
)
from kerasllm.export.formats import FORMATS, Engine, Format, Options
from kerasllm.export.parity import FILE_NAME, Parity
from kerasllm.export.source import Source
from kerasllm.tasks.task import Head

CARD = "README.md"


def write_card(
    source: Source,
    name: str,
    format: Format,
    options: Options,
    results: Sequence[Parity],
    files: Mapping[str, int],
) -> str:
    """Returns the Markdown of a model card.

    It holds no path, user or host name of the machine that made it: `Source.facts` has none.

    Args:
        source: What was exported.
        name: The name of the format.
        format: The format.
        options: What was chosen about it.
        results: What parity found.
        files: The files of the format, by their path in the folder, and their sizes in bytes.
    """
    parts = [
        _front_matter(source, format),
        f"# {source.name}",
        _summary(source, name),
        f"## How to load it\n\n{format.usage(source, options).strip()}",
        f"## Files\n\n{table(['file', 'bytes'], [[f, f'{n:,}'] for f, n in files.items()])}",
        _outputs(source.head),
        training_section(source.facts),
        metrics_section(
            source.facts.get("metrics", {}), source.task.metrics, source.facts.get("intervals")
        ),
        _parity(source, format.engine(), results),
        licence_section(source.facts),
        _limits(source),
        recipe_section(source.facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(source: Source, format: Format) -> str:
    """What model hubs read."""
    lines = ["tags: [kerasllm]"]
    if source.head.pipeline:
        lines.insert(0, f"pipeline_tag: {source.head.pipeline}")
    if licence := source.facts.get("licence"):
        lines.insert(0, f"license: {licence.lower()}")
    if library := format.library(source):
        lines.append(f"library_name: {library}")
    return "\n".join(["---", *lines, "---"])


def _summary(source: Source, name: str) -> str:
    count = source.model.task.count_params() / 1e6
    kind = source.head.kind
    article = "An" if kind[0] in "aeiou" else "A"
    base = source.facts.get("base")
    begun = f", starting from the pretrained `{code(base)}`" if base else ", trained from scratch"
    return (
        f"{article} {kind} of the family {source.family.removesuffix('Backbone')} with "
        f"{count:,.1f} million parameters{begun}. It reads up to {source.max_length:,} tokens.\n\n"
        f"Format `{name}`: {FORMATS[name].description}. Exported by kerasllm."
    )


def _outputs(head: Head) -> str | None:
    """What the head gives: facts of each output as columns of a table, others as lines."""
    columns = {key: one for key, one in head.facts.items() if isinstance(one, (list, tuple))}
    lines = [f"- {key}: {one}" for key, one in head.facts.items() if key not in columns]
    parts = ["\n".join(lines)] if lines else []
    if columns:
        header = ["number", *(key.removesuffix("s") for key in columns)]
        rows = [[number, *row] for number, row in enumerate(zip(*columns.values(), strict=True))]
        parts.append(table(header, rows))
    return "\n\n".join(["## Outputs", *parts]) if parts else None


def _parity(source: Source, engine: Engine, results: Sequence[Parity]) -> str:
    rows = [
        [
            one.precision,
            f"{one.largest_difference:.2e}",
            f"{one.mean_difference:.2e}",
            f"{one.agreement:.2%}",
            f"{one.tolerance:g}; {one.least_agreement:.0%}",
        ]
        for one in results
    ]
    agreeing = f"{source.head.agreeing} that agree"
    header = ["precision", "largest difference", "mean difference", agreeing, "limits"]
    return (
        f"## Parity\n\nThe files in this folder were run on {source.rows_from}, and compared with "
        f"the model in float32: {source.head.compared_words}. They were run by {engine.name}.\n\n"
        f"{table(header, rows)}\n\n"
        f"The same numbers are in `{FILE_NAME}`."
    )


def _limits(source: Source) -> str:
    lines = [
        f"It reads at most {source.max_length:,} tokens, special tokens included.",
        "It was evaluated on the data above; it may be much worse on other kinds of text.",
        *source.head.limits,
    ]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)
