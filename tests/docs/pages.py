"""The pages of the documentation, as the tests of this folder read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[str]:
    """Yields the lines of fenced blocks that begin with `kerasllm `; continued lines are joined."""
    for language, block in _BLOCK.findall(text):
        if language in ("", "sh", "bash"):
            yield from shell_commands(block)


def shell_commands(block: str) -> Iterator[str]:
    """Yields the commands of kerasllm in lines of a shell."""
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        yield from (
            part.strip()
            for part in re.split(r"&&|\|\|", line.removeprefix("$ "))
            if re.match(r"\s*kerasllm( |$)", part)
        )
