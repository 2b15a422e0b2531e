"""The model card: README.md in every exported folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kerasllm.export.formats import FORMATS, Format, Options
from kerasllm.export.parity import FILE_NAME, Parity, compared
from kerasllm.export.source import Source

CARD = "README.md"

_PIPELINES = {"text_classification": "text-classification", "causal_lm": "text-generation"}
_METRICS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "mcc": "MCC",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "margin": "margin",
    "tokens": "tokens",
}
_DIGITS_OF_FINGERPRINT = 12


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
        _front_matter(source, name),
        f"# {source.name}",
        _summary(source, name),
        f"## How to load it\n\n{format.usage(source, options).strip()}",
        f"## Files\n\n{_table(['file', 'bytes'], [[f, f'{n:,}'] for f, n in files.items()])}",
        _labels(source),
        _training(source.facts),
        _metrics(source.facts.get("metrics", {})),
        _parity(source, results),
        f"## Licence\n\n{_licence(source.facts)}",
        _limits(source),
        _recipe(source.facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(source: Source, name: str) -> str:
    """What model hubs read."""
    lines = [f"pipeline_tag: {_PIPELINES[source.task]}", "tags: [kerasllm]"]
    if licence := source.facts.get("licence"):
        lines.insert(0, f"license: {licence.lower()}")
    if name == "transformers":
        lines.append("library_name: transformers")
    return "\n".join(["---", *lines, "---"])


def _summary(source: Source, name: str) -> str:
    count = source.model.task.count_params() / 1e6
    kind = "text classifier" if source.is_classifier else "language model"
    base = source.facts.get("base")
    begun = f", begun from the pretrained `{base}`" if base else ", trained from scratch"
    return (
        f"A {kind} of the family {source.family.removesuffix('Backbone')} with {count:,.1f} million "
        f"parameters{begun}. It reads up to {source.max_length:,} tokens.\n\n"
        f"Format `{name}`: {FORMATS[name].description}. Exported by kerasllm."
    )


def _labels(source: Source) -> str | None:
    if not source.is_classifier:
        return None
    rows = list(enumerate(source.model.labels.names))
    return f"## Labels\n\n{_table(['class', 'label'], rows)}"


def _training(facts: Mapping) -> str | None:
    data = facts.get("data")
    if not data:
        return None
    rows = [
        [
            part,
            ", ".join(f"`{file}`" for file in one["files"]) or "held out of train",
            f"{one['rows']:,}" if one["rows"] else "",
            f"`{one['fingerprint'][:_DIGITS_OF_FINGERPRINT]}`" if one["fingerprint"] else "",
        ]
        for part, one in data.items()
    ]
    seed = f"\n\nSeed {facts['seed']}." if facts.get("seed") is not None else ""
    versions = facts.get("versions") or {}
    made = ", ".join(f"{package} {version}" for package, version in versions.items())
    made = f"\n\nTrained with {made}." if made else ""
    table = _table(["part", "files", "rows", "fingerprint"], rows)
    return f"## What it was trained on\n\n{table}{seed}{made}"


def _metrics(metrics: Mapping) -> str | None:
    parts = {part: metrics[part] for part in ("train", "validation", "test") if metrics.get(part)}
    names = [name for name in _METRICS if any(name in one for one in parts.values())]
    if not names:
        return None
    rows = [[_METRICS[name], *(_number(one.get(name)) for one in parts.values())] for name in names]
    text = f"## Metrics\n\n{_table(['', *parts], rows)}"
    per_class = parts.get("test", parts.get("validation", {})).get("per_class")
    if per_class:
        keys = ["precision", "recall", "f1", "support"]
        classes = [[label, *(_number(one[key]) for key in keys)] for label, one in per_class.items()]
        text += f"\n\n{_table(['label', 'precision', 'recall', 'F1', 'rows'], classes)}"
    return text


def _parity(source: Source, results: Sequence[Parity]) -> str:
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
    what = "labels" if source.is_classifier else "next tokens"
    header = ["precision", "largest difference", "mean difference", f"{what} that agree", "limits"]
    return (
        f"## Parity\n\nThe files in this folder were run on {source.rows_from}, and compared with "
        f"the model in float32: {compared(source.task)}.\n\n{_table(header, rows)}\n\n"
        f"The same numbers are in `{FILE_NAME}`."
    )


def _licence(facts: Mapping) -> str:
    base, licence = facts.get("base"), facts.get("licence")
    if base is None:
        said = ["The weights were trained from scratch; whoever trained them says how to use them."]
    elif licence is None:
        said = [f"The base weights `{base}` are under the licence that their publisher gave them."]
    else:
        said = [f"The base weights `{base}` are under {licence}."]
    for name, one in facts.get("data_licences", {}).items():
        said.append(f"The training data `{name}` are under {one}.")
    return " ".join(said)


def _limits(source: Source) -> str:
    what = "Text" if source.is_classifier else "A prompt with its answer"
    lines = [
        f"{what} beyond {source.max_length:,} tokens is not read.",
        "It was measured on the data above; on texts of another kind it may be much worse.",
    ]
    if source.is_classifier:
        lines.append("It always chooses one of its labels, also for texts that none of them fits.")
    else:
        lines.append("It can write what is false, offensive, or in its training data word by word.")
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
