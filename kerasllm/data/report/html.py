"""A report as one HTML page that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from kerasllm.data.report.report import DataReport
from kerasllm.data.report.svg import bars, histogram
from kerasllm.plurals import counted

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #222 }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.2rem }
table { border-collapse: collapse; width: 100%; font-size: 14px }
td, th { text-align: left; padding: .2rem .6rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid #eee }
td.number, th.number { text-align: right } td.place { white-space: nowrap; color: #777 }
svg text { font: 11px system-ui, sans-serif; fill: #444 }
svg .mark { stroke: #b33; stroke-dasharray: 3 3 }
.legend span { margin-right: 1rem }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
.finding { border-left: 4px solid #999; padding: .1rem 1rem; margin: 1rem 0 }
.wrong { border-color: #b33 } .harmful { border-color: #e08a2e } .notable { border-color: #3b6fb6 }
.gravity { text-transform: uppercase; font-size: 11px; letter-spacing: .06em; color: #777 }
tr.last td { border-bottom: 2px solid #ccc }
"""
# The page loads nothing, from nowhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html_of(found: DataReport, title: str = "Data report") -> str:
    """Returns a report as a page; all that comes from the data is escaped.

    Args:
        found: The report.
        title: Its heading. Defaults to `"Data report"`.
    """
    report = found.as_json()
    parts = report["parts"]
    body = [f"<h1>{escape(title)}</h1>", _parts(parts)]
    if labels := {part: facts["labels"] for part, facts in parts.items() if "labels" in facts}:
        body += ["<h2>Labels</h2>", bars(labels)]
    if scores := {part: facts["scores"] for part, facts in parts.items() if "scores" in facts}:
        histograms = {part: of["histogram"] for part, of in scores.items()}
        body += ["<h2>Scores</h2>", histogram(histograms)]
    body += [
        f"<h2>Lengths, in {escape(found.unit)}</h2>",
        histogram(
            {part: facts["lengths"]["histogram"] for part, facts in parts.items()},
            mark=found.max_length,
        ),
    ]
    if report["languages"]:
        body += ["<h2>Languages</h2>", bars({"train": report["languages"]})]
    body.append("<h2>Findings, most important first</h2>")
    body += [_finding(finding) for finding in report["findings"]]
    if not report["findings"]:
        body.append("<p>No problems were found.</p>")
    body += [f"<p>Not checked: {escape(missing)}</p>" for missing in report["not_checked"]]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _parts(parts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(part)}</td><td class=number>{counted(facts['rows'], facts['noun'])}</td>"
        f"<td class=number>{facts['unusable']:,}</td>"
        f"<td>{escape(', '.join(facts['files'][:5]))}</td>"
        f"<td>{escape('; '.join([facts['read_as'], *facts['remarks']]))}</td></tr>"
        for part, facts in parts.items()
    )
    return (
        "<table><tr><th>part<th class=number>rows<th class=number>cannot be used<th>files"
        f"<th>read as</tr>{rows}</table>"
    )


def _finding(finding: Mapping[str, Any]) -> str:
    rows = []
    for rows_together in finding["examples"]:
        for number, row in enumerate(rows_together, start=1):
            label = row.get("label", "")
            label = ", ".join(map(str, label)) if isinstance(label, list) else str(label)
            last = " class=last" if number == len(rows_together) else ""
            rows.append(
                f"<tr{last}><td class=place>{escape(row['place'])}</td><td>{escape(label)}</td>"
                f"<td>{escape(row.get('text', ''))} {escape(row.get('note', ''))}</td></tr>"
            )
    if not rows:
        rows = [f"<tr><td>{escape(place)}</td></tr>" for place in finding["places"][:5]]
    return (
        f'<div class="finding {escape(finding["gravity"])}">'
        f"<div class=gravity>{escape(finding['gravity'])}</div><h3>{escape(finding['title'])}</h3>"
        f"<p>{escape(finding['advice'])}</p><table>{''.join(rows)}</table></div>"
    )
