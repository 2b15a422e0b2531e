"""Facts as one HTML page that opens offline: no script, nothing loaded from anywhere."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from kerasllm.reports import charts
from kerasllm.reports.plain import moment, number, percent, plain, short

_CLASSES_SHOWN = 40
_PER_CLASS = ("precision", "recall", "f1", "average_precision", "threshold")


def report_page(facts: Mapping[str, Any]) -> str:
    """Returns the report of a run as a page; all that comes from the run is escaped.

    Args:
        facts: What `kerasllm.reports.run_facts.facts_for_report` gave.
    """
    mistakes = facts["mistakes"] or ()
    confident = not mistakes or any(one["confidence"] is not None for one in mistakes)
    sections = [
        ("metrics", "Metrics"),
        ("failures", "Where it fails"),
        *([("classes", "Classes")] if facts["confusion"] or facts["per_class"] else []),
        ("calibration", "Calibration"),
        ("mistakes", "Mistakes" if confident else "Worst examples"),
        *([("samples", "Generated samples")] if facts["samples"] else []),
        ("curves", "Training"),
        ("data", "Data"),
        ("made", "Reproduce it"),
    ]
    first = (facts["per_class"] or [{}])[0]
    classes = _shares(facts["balance"] or {})
    return render(
        "report.html",
        run=facts,
        confident=confident,
        sections=sections,
        class_keys=[key for key in _PER_CLASS if key in first],
        classes=classes[:_CLASSES_SHOWN],
        more_classes=len(classes[_CLASSES_SHOWN:]),
    )


def compare_page(found: Mapping[str, Any]) -> str:
    """Returns runs side by side as a page; all that comes from the runs is escaped.

    Args:
        found: What `kerasllm.reports.comparison.compare` gave.
    """
    return render("compare.html", found=found, names=[run["name"] for run in found["runs"]])


def render(template: str, **values: Any) -> str:
    """Returns a page of `templates/`; the content of texts is shown as it is, and never executed.

    Args:
        template: The name of the file.
        **values: What it shows.
    """
    return environment_of("kerasllm.reports").get_template(template).render(**values)


@functools.cache
def environment_of(package: str) -> jinja2.Environment:
    """Returns what renders the templates of a package: all that is written is escaped.

    Args:
        package: A package with `templates/`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        # Each text that is written goes through it.
        finalize=plain,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("kerasllm.reports").joinpath("templates/style.css")
    environment.globals |= {
        "style": Markup(style.read_text(encoding="utf-8")),
        "line_chart": charts.line_chart,
        "reliability_chart": charts.reliability_chart,
        "interval_chart": charts.interval_chart,
        "share_bar": charts.share_bar,
    }
    filters = {"number": number, "percent": percent, "short": short, "moment": moment}
    environment.filters |= {**filters, "value": _value, "json": _json}
    return environment


def _json(value: Any) -> str:
    """Returns a value of a recipe as a line of YAML has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shares(balance: Mapping[str, Mapping[str, int]]) -> list[tuple[str, float]]:
    """Returns the classes, the most frequent first, with their share of the most frequent one."""
    counts = next(iter(balance.values()), {})
    most = max(counts.values(), default=0) or 1
    return sorted(((name, count / most) for name, count in counts.items()), key=lambda one: -one[1])


def _value(value: Any) -> str:
    """Returns what was expected or predicted, a text or a score."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
