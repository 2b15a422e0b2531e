"""Sections of a model card that tell how a model was made and how good it is, as Markdown.

The card of an export and that of a run (`kerasllm report --format md`) are made of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from kerasllm.plurals import counted

_DIGITS_OF_FINGERPRINT = 12
_PER_CLASS = {"precision": "precision", "recall": "recall", "f1": "F1", "support": "rows"}
_PARTS = ("train", "validation", "test")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# What would end a cell, or begin code, a link or a picture.
_MARKDOWN = re.compile(r"([\\|`\[\]])")
# Control characters, and those that turn the direction of a text around.
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def training_section(facts: Mapping) -> str | None:
    """Returns what a model was trained on, if that is known; see `Source.facts`."""
    data = facts.get("data")
    if not data:
        return None
    rows = [
        [
            part,
            Code(", ".join(f"`{code(file)}`" for file in one["files"]) or "held out of train"),
            one.get("contents") or (counted(one["rows"], "row") if one["rows"] else ""),
            Code(f"`{one['fingerprint'][:_DIGITS_OF_FINGERPRINT]}`" if one["fingerprint"] else ""),
        ]
        for part, one in data.items()
    ]
    seed = f"\n\nSeed {facts['seed']}." if facts.get("seed") is not None else ""
    versions = facts.get("versions") or {}
    made = ", ".join(f"{package} {version}" for package, version in versions.items())
    made = f"\n\nTrained with {made}." if made else ""
    found = table(["part", "files", "holds", "fingerprint"], rows)
    return f"## Training data\n\n{found}{seed}{made}"


def metrics_section(
    metrics: Mapping, names: Mapping[str, str], intervals: Mapping | None = None
) -> str | None:
    """Returns the metrics of a run, if there are any.

    Args:
        metrics: By the part of the data.
        names: The name of each metric, by its key.
        intervals: Those of the test metrics, see `kerasllm.reports.run_facts.intervals_of`.
            Defaults to `None`.
    """
    parts = {part: metrics[part] for part in _PARTS if metrics.get(part)}
    found = {
        name: [one.get(name) for one in parts.values()]
        for name in names
        if any(isinstance(one.get(name), (int, float)) for one in parts.values())
    }
    if not found:
        return None
    between = (intervals or {}).get("metrics") or {}
    rows = [[names[name], *map(number, values)] for name, values in found.items()]
    if between:
        for row, name in zip(rows, found, strict=True):
            row.append(" to ".join(map(number, between.get(name, ()))))
    header = ["", *parts, *(["95% interval (test)"] if between else [])]
    text = f"## Metrics\n\n{table(header, rows)}"
    if between:
        text += (
            f"\n\nIntervals: {intervals['method']}, {intervals['resamples']:,} resamples of "
            f"{counted(intervals['rows'], intervals['noun'])}."
        )
    per_class = parts.get("test", parts.get("validation", {})).get("per_class")
    if per_class:
        keys = [key for key in _PER_CLASS if key in next(iter(per_class.values()))]
        classes = [[label, *(number(one[key]) for key in keys)] for label, one in per_class.items()]
        text += f"\n\n{table(['label', *(_PER_CLASS[key] for key in keys)], classes)}"
    return text


def licence_section(facts: Mapping) -> str:
    """Returns under which licences the weights and the data are."""
    base, licence = facts.get("base"), facts.get("licence")
    if base is None:
        said = ["The weights were trained from scratch; their author decides on the licence."]
    elif licence is None:
        said = [f"The base weights `{code(base)}` are under their publisher's licence."]
    else:
        said = [f"The base weights `{code(base)}` are under {licence}."]
    for name, one in facts.get("data_licences", {}).items():
        said.append(f"The training data `{name}` are under {one}.")
    return "## Licence\n\n" + " ".join(said)


def recipe_section(facts: Mapping) -> str | None:
    """Returns the recipe, if there is one."""
    recipe = facts.get("recipe")
    if not recipe:
        return None
    # Longer than any fence that a value may hold.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", recipe)), default=0))
    return f"## Recipe\n\n{fence}yaml\n{recipe.strip()}\n{fence}"


class Code(str):
    """Markdown that stands in a cell as it is."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table; what its cells hold is shown, and never read as Markdown or HTML."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(value: object) -> str:
    """Returns a text as a cell of a table has it; `Code` as it is."""
    return str(value) if isinstance(value, Code) else plain_text(value)


def plain_text(value: object) -> str:
    """Returns a text on one line that Markdown and HTML leave alone."""
    text = _ACTING.sub(" ", str(value)).translate(_HTML)
    return _MARKDOWN.sub(r"\\\1", text)


def code(text: str) -> str:
    """Returns a text that stands between backticks."""
    return _ACTING.sub(" ", text).replace("`", "'").replace("|", "\\|")


def number(value: float | int | None) -> str:
    """Returns a metric as a table shows it; `""` where there is none."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
