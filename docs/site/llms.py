"""llms.txt: the pages of the site as Markdown, listed for language models (https://llmstxt.org)."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

_CONFIG = Path(__file__).parents[2] / "zensical.toml"


def copy_pages(pages: Path, site: Path) -> None:
    """Puts the Markdown of each page into the site, where llms.txt lists it.

    Args:
        pages: The folder of the pages.
        site: The folder of the site that was built of them.
    """
    for page in pages.rglob("*.md"):
        target = site / page.relative_to(pages)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, target)


def text_of(pages: Path) -> str:
    """Returns llms.txt: each page of the navigation with its first sentence."""
    project = tomllib.loads(_CONFIG.read_text(encoding="utf-8"))["project"]
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}"]
    for title, entry in _entries(project["nav"]):
        if isinstance(entry, list):
            lines += ["", f"## {title}", ""]
            for name, page in _entries(entry):
                summary = _summary((pages / page).read_text(encoding="utf-8"))
                lines.append(f"- [{name}]({page})" + (f": {summary}" if summary else ""))
        else:
            lines += ["", f"- [{title}]({entry})"]
    return "\n".join(lines) + "\n"


def _entries(nav: list[dict]) -> Iterator[tuple[str, str | list]]:
    for entry in nav:
        yield from entry.items()


def _summary(text: str) -> str:
    """Returns the first sentence of a page, without its links; empty if code comes first."""
    paragraph = text.partition("\n\n")[2].lstrip().partition("\n\n")[0]
    if paragraph.startswith(("```", "|", "#", ":::", "-", "!")):
        return ""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph.replace("\n", " "))
    return re.split(r"(?<=\.) ", plain)[0].rstrip(":")
