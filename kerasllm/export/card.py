"""The model card: README.md in every exported folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kerasllm.export.formats import FORMATS, Engine, Format, Options
from kerasllm.export.parity import FILE_NAME, Parity
from kerasllm.export.source import Source
from kerasllm.tasks.task import Head
from kerasllm.plurals import counted

CARD = "README.md"

_DIGITS_OF_FINGERPRINT = 12
_PER_CLASS = {"precision": "precision", "recall": "recall", "f1": "F1", "support": "rows"}


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
        f"## Files\n\n{_table(['file', 'bytes'], [[f, f'{n:,}'] for f, n in files.items()])}",
        _outputs(source.head),
        _training(source.facts),
        _metrics(source),
        _parity(source, format.engine(), results),
        f"## Licence\n\n{_licence(source.facts)}",
        _limits(source),
        _recipe(source.facts),
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
    begun = f", begun from the pretrained `{base}`" if base else ", trained from scratch"
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
        parts.append(_table(header, rows))
    return "\n\n".join(["## Outputs", *parts]) if parts else None


def _training(facts: Mapping) -> str | None:
    data = facts.get("data")
    if not data:
        return None
    rows = [
        [
            part,
            ", ".join(f"`{file}`" for file in one["files"]) or "held out of train",
            one.get("contents") or (counted(one["rows"], "row") if one["rows"] else ""),
            f"`{one['fingerprint'][:_DIGITS_OF_FINGERPRINT]}`" if one["fingerprint"] else "",
        ]
        for part, one in data.items()
    ]
    seed = f"\n\nSeed {facts['seed']}." if facts.get("seed") is not None else ""
    versions = facts.get("versions") or {}
    made = ", ".join(f"{package} {version}" for package, version in versions.items())
    made = f"\n\nTrained with {made}." if made else ""
    table = _table(["part", "files", "holds", "fingerprint"], rows)
    return f"## What it was trained on\n\n{table}{seed}{made}"


def _metrics(source: Source) -> str | None:
    metrics, named = source.facts.get("metrics", {}), source.task.metrics
    parts = {part: metrics[part] for part in ("train", "validation", "test") if metrics.get(part)}
    found = {
        name: [one.get(name) for one in parts.values()]
        for name in named
        if any(isinstance(one.get(name), (int, float)) for one in parts.values())
    }
    if not found:
        return None
    rows = [[named[name], *map(_number, values)] for name, values in found.items()]
    text = f"## Metrics\n\n{_table(['', *parts], rows)}"
    per_class = parts.get("test", parts.get("validation", {})).get("per_class")
    if per_class:
        keys = [key for key in _PER_CLASS if key in next(iter(per_class.values()))]
        classes = [
            [label, *(_number(one[key]) for key in keys)] for label, one in per_class.items()
        ]
        text += f"\n\n{_table(['label', *(_PER_CLASS[key] for key in keys)], classes)}"
    return text


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
        f"{_table(header, rows)}\n\n"
        f"The same numbers are in `{FILE_NAME}`."
    )


def _licence(facts: Mapping) -> str:
    base, licence = facts.get("base"), facts.get("licence")
    if base is None:
        said = ["The weights were trained from scratch; who trained them decides on their licence."]
    elif licence is None:
        said = [f"The base weights `{base}` are under the licence that their publisher gave them."]
    else:
        said = [f"The base weights `{base}` are under {licence}."]
    for name, one in facts.get("data_licences", {}).items():
        said.append(f"The training data `{name}` are under {one}.")
    return " ".join(said)


def _limits(source: Source) -> str:
    lines = [
        f"It reads {source.max_length:,} tokens at most, special tokens included.",
        "It was measured on the data above; on texts of another kind it may be much worse.",
        *source.head.limits,
    ]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _recipe(facts: Mapping) -> str | None:
    recipe = facts.get("recipe")
    return f"## Recipe\n\n```yaml\n{recipe.strip()}\n```" if recipe else None


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    # What would end the cell or the row.
    return str(value).replace("|", "\\|").replace("\n", " ")


def _number(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
