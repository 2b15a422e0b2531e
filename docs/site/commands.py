"""A page for each verb of the command line, made of the help that `--help` prints."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path

import click

from kerasllm.cli.main import cli

_FOLDER = "commands"
_STATUS = """
The exit status is 0 when the job is done, 1 when it failed, 2 when the command, the recipe or the
data was refused, and 128 plus the number of a signal that ended it: 130 for Ctrl-C, 143 for
SIGTERM. With `--json` stdout holds JSON alone; errors and progress are on stderr.
"""


def pages(folder: Path) -> dict[str, str]:
    """Returns the page of each verb, and one that lists them, by their names on the site.

    Args:
        folder: The other pages: those that show a verb are linked from its page.
    """
    context = click.Context(cli, info_name="kerasllm")
    verbs = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    shown = {
        page.relative_to(folder): set(
            re.findall(r"^kerasllm ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        )
        for page in sorted(folder.rglob("*.md"))
    }
    made = {f"{_FOLDER}/index.md": _list(verbs)}
    for name, verb in verbs.items():
        places = [page for page, names in shown.items() if name in names]
        made[f"{_FOLDER}/{name}.md"] = _page(name, verb, context, places)
    return made


def _list(verbs: dict[str, click.Command]) -> str:
    rows = [f"| [`{name}`]({name}.md) | {_first_line(verb)} |" for name, verb in verbs.items()]
    table = ["| command | what it does |", "|---|---|", *rows]
    return (
        "\n".join(
            ["# The command line", "", "`kerasllm COMMAND --help` prints these pages.", "", *table]
        )
        + "\n"
        + _STATUS
        + _options(cli, click.Context(cli, info_name="kerasllm"), "Options of all")
    )


def _page(name: str, verb: click.Command, parent: click.Context, places: list[Path]) -> str:
    text = f"# kerasllm {name}\n\n" + _command(name, verb, parent, "##")
    if places:
        links = [f"[{_title(page)}]({os.path.relpath(page, _FOLDER)})" for page in places]
        text += f"\n## Where it is used\n\n{', '.join(links)}\n"
    return text


def _command(name: str, command: click.Command, parent: click.Context, heading: str) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    text = "\n\n".join(_paragraphs(command)) + "\n"
    if not isinstance(command, click.Group):
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        return text + f"\n```\n{usage}\n```\n" + _options(command, context, f"{heading} Options")
    for inner_name in command.list_commands(context):
        inner = command.get_command(context, inner_name)
        text += f"\n{heading} {context.command_path} {inner_name}\n\n"
        text += _command(inner_name, inner, context, f"{heading}#")
    return text


def _options(command: click.Command, context: click.Context, title: str) -> str:
    options = (one for one in command.get_params(context) if isinstance(one, click.Option))
    records = [record for one in options if (record := one.get_help_record(context))]
    rows = [f"| {_code(name)} | {_escaped(help)} |" for name, help in records]
    if not rows:
        return ""
    title = title if title.startswith("#") else f"## {title}"
    # Anchors of sub-commands would be options_1, options_2.
    title = f"**{title.lstrip('# ')}**" if title.startswith("###") else title
    return "\n".join(["", title, "", "| option | |", "|---|---|", *rows]) + "\n"


def _paragraphs(command: click.Command) -> list[str]:
    """Returns the help of a command as Markdown; what click does not wrap is code."""
    found = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        kept = paragraph.startswith("\b\n")
        paragraph = paragraph.removeprefix("\b\n")
        if kept:
            shell = all(line.startswith("kerasllm ") for line in paragraph.splitlines())
            found.append(f"```{'sh' if shell else ''}\n{paragraph}\n```")
        else:
            found.append(_escaped(paragraph))
    return found


def _first_line(command: click.Command) -> str:
    return _escaped(inspect.cleandoc(command.help or "").partition("\n")[0])


def _title(page: Path) -> str:
    return "README" if page.name == "index.md" else page.stem.replace("_", " ")


def _code(name: str) -> str:
    return f"`{name}`"


def _escaped(text: str) -> str:
    """Returns text as Markdown shows it: what is not in backticks is no mark-up."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([*<>|\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)
