"""The pages of the site: the README, which is the first, those of docs/, and generated ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from docs.site import commands, llms, python_reference, recipes
from docs.site.links import replace_links

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_OF_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
# Files that pages link to and that are not in docs/, such as results of benchmarks.
FILES = "files"


def write(folder: Path) -> None:
    """Writes all pages into a folder, in place of what is there.

    Args:
        folder: Where `zensical.toml` finds them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("site", "__pycache__", "*.md"))
    for source in [*(ROOT / name for name in _OF_ROOT), *sorted(DOCS.rglob("*.md"))]:
        target = folder / _place_of(source)
        text = source.read_text(encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_with_links_of_the_site(text, source, folder), encoding="utf-8")
    for made in (commands.pages(folder), recipes.pages(), python_reference.pages()):
        for name, text in made.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    (folder / "llms.txt").write_text(llms.text_of(folder), encoding="utf-8")


def _place_of(source: Path) -> Path:
    """Returns where a file of the repository is on the site."""
    if source.parent == ROOT and source.name in _OF_ROOT:
        return Path(_OF_ROOT[source.name])
    if source.is_relative_to(DOCS):
        return source.relative_to(DOCS)
    # A page of its own would need a place in the navigation, and links of its own.
    name = source.with_name(f"{source.name}.txt") if source.suffix in (".md", "") else source
    return Path(FILES) / name.relative_to(ROOT)


def _with_links_of_the_site(text: str, source: Path, folder: Path) -> str:
    """Returns a page whose links lead to places on the site; what they need is copied there."""

    def moved(link: str) -> str:
        path, hash, anchor = link.partition("#")
        if not path:
            return link
        linked = Path(os.path.normpath(source.parent / path))
        # Pages that are generated are not in docs/, and links to them are right as they are.
        if not linked.is_file():
            return link if source.is_relative_to(DOCS) else link.removeprefix("docs/")
        place = _place_of(linked)
        if place.parts[0] == FILES:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(linked, folder / place)
        start = (folder / _place_of(source)).parent
        return f"{os.path.relpath(folder / place, start)}{hash}{anchor}"

    return replace_links(text, moved)
