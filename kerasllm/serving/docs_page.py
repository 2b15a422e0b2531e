"""The documentation page of an API, as HTML that loads nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;font-size:1.1rem}code,pre{font:14px/1.4 ui-monospace,monospace}
pre{background:#8881;padding:.8rem;overflow-x:auto}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #8884}
"""
# Nothing is loaded and nothing runs, even if a name in the page contains code.
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_REF = "#/components/schemas/"
# Fields that are there for clients that send them; the description has them all.
_LEFT_OUT = ("ignored", "not supported")


def page_of(description: Mapping[str, Any], address: str) -> str:
    """Returns the HTML of a description that `kerasllm.serving.openapi` made.

    Args:
        description: The description.
        address: Where the server is reached, for the commands in it.
    """
    info, schemas = description["info"], description["components"]["schemas"]
    parts = [
        f"<h1>{escape(info['title'])}</h1>",
        (
            f"<p>Served by kerasllm {escape(info['version'])}. "
            'For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
        ),
    ]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(method.upper(), path, operation, schemas, address))
    title, body = escape(info["title"]), "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _operation(method: str, path: str, operation: Mapping, schemas: Mapping, address: str) -> str:
    parts = [
        f"<h2><code>{escape(method)} {escape(path)}</code></h2>",
        f"<p>{escape(operation['summary'])}.</p>",
    ]
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        parts.append(_fields(_resolved(media["schema"], schemas), schemas))
        if "example" in media:
            parts.append(f"<pre>{escape(_command(address + path, operation, media))}</pre>")
    return "\n".join(parts)


def _command(url: str, operation: Mapping, media: Mapping) -> str:
    lines = [f"curl {url}", "-H 'Content-Type: application/json'"]
    if operation.get("security"):
        lines.append("-H 'Authorization: Bearer KEY'")
    body = json.dumps(media["example"], ensure_ascii=False).replace("'", "'\\''")
    return " \\\n  ".join([*lines, f"-d '{body}'"])


def _fields(schema: Mapping, schemas: Mapping) -> str:
    required = schema.get("required", ())
    rows, left_out = [], {what: [] for what in _LEFT_OUT}
    for name, field in schema.get("properties", {}).items():
        what = field.get("description", "")
        if what in _LEFT_OUT:
            left_out[what].append(name)
            continue
        default = "required" if name in required else json.dumps(field.get("default", ""))
        cells = [f"<code>{escape(name)}</code>", escape(_type(field, schemas)), escape(what)]
        cells.append(escape(default.replace('""', "")))
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "<tr><th>field</th><th>type</th><th>what it is</th><th>default</th></tr>"
    told = [
        f"<p>{escape(what.capitalize())}: {_names(names)}.</p>"
        for what, names in left_out.items()
        if names
    ]
    return "\n".join(["<table>", head, *rows, "</table>", *told])


def _names(names: list[str]) -> str:
    return ", ".join(f"<code>{escape(name)}</code>" for name in names)


def _type(field: Mapping, schemas: Mapping) -> str:
    """Returns the type of a field in words: `number, 0 to 2`, `list of string`."""
    field = _resolved(field, schemas)
    if "properties" in field:
        return f"object ({', '.join(field['properties'])})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(one, schemas) for one in field["anyOf"]))
    if "enum" in field:
        return " or ".join(json.dumps(value) for value in field["enum"])
    kind = field.get("type", "any")
    if kind == "array":
        return f"list of {_type(field.get('items', {}), schemas)}"
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    if kind not in ("number", "integer") or (low is None and high is None):
        return kind
    above = "above" if "exclusiveMinimum" in field else "from"
    return f"{kind} {above} {low}" + (f" to {high}" if high is not None else "")


def _resolved(schema: Mapping, schemas: Mapping) -> Mapping:
    reference = schema.get("$ref")
    return schemas[reference.removeprefix(_REF)] if reference else schema
