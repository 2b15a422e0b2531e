"""The site has every page that it should have, and no link in it leads nowhere."""

import configparser
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import kerasllm
from docs.site import pages
from docs.site.links import anchors, links
from docs.site.python_reference import MEMBERS
from kerasllm import aliases
from kerasllm import recipe as recipes
from kerasllm.cli.main import cli
from kerasllm.recipe.compression import RECIPES as COMPRESSION
from kerasllm.recipe.schema import known_keys
from kerasllm.tasks import task as tasks
from tests.docs.pages import PAGES, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of all pages, those that are generated among them."""
    folder = tmp_path_factory.mktemp("site") / "docs"
    pages.write(folder)
    return folder


def _nav(entries: list) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _nav(value)


def _section(page: str, title: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def test_each_page_is_once_in_the_navigation(site):
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    listed = sorted(_nav(project["nav"]))
    found = (page.relative_to(site).as_posix() for page in site.rglob("*.md"))
    assert listed == sorted(page for page in found if not page.startswith("examples/"))


def test_each_command_and_each_task_has_a_page(site):
    for name in cli.list_commands(click.Context(cli)):
        page = (site / "commands" / f"{name}.md").read_text(encoding="utf-8")
        verb = cli.get_command(click.Context(cli), name)
        commands = getattr(verb, "commands", {"": verb}).values()
        options = {each for one in commands for option in one.params for each in option.opts}
        assert {option for option in options if option.startswith("--")} <= set(
            re.findall(r"--[a-z-]+", page)
        )
    for name in [*tasks.names(), *COMPRESSION]:
        page = (site / "recipe_keys" / f"{name}.md").read_text(encoding="utf-8")
        for key in known_keys(recipes.schema_of(name)):
            assert len(key) == 1 or f"`{'.'.join(key)}`" in page


def test_each_recipe_is_listed(site):
    page = (site / "recipe_list.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == recipes.names()
    shown = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    for name in recipes.names():
        assert name.startswith("compress_") or f"`{name}`" in shown


def test_llms_txt_lists_each_page(site):
    listed = re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    assert sorted(listed) == sorted(_nav(project["nav"]))


def test_links_between_pages_lead_somewhere(site):
    wrong = []
    for page in sorted(site.rglob("*.md")):
        for link in links(page.read_text(encoding="utf-8")):
            path, _, anchor = link.partition("#")
            target = Path(os.path.normpath(page.parent / path)) if path else page
            known = not anchor or anchor in anchors(target.read_text(encoding="utf-8"))
            if not (target.exists() and target.is_relative_to(site) and known):
                wrong.append(f"{page.name}: {link}")
    assert not wrong


def test_links_in_the_repository_lead_somewhere():
    # Pages that are generated are on the site alone.
    generated = ("commands/", "recipe_keys/", "recipe_list.md", "python_reference.md", "llms.txt")
    for page in PAGES:
        for link in links(page.read_text(encoding="utf-8")):
            path = link.partition("#")[0]
            assert not path or path.startswith(generated) or (page.parent / path).exists(), link


def test_each_public_name_is_in_the_reference():
    modules = {path.stem for path in (ROOT / "kerasllm").iterdir()}
    names = set(kerasllm.__all__) - modules - {"KerasllmError"}
    assert names <= set(MEMBERS) and "KerasllmError" in MEMBERS["errors"]


def test_each_extra_is_described():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    described = set(re.findall(r"`(\w+)`", _section("installation.md", "Extras")))
    assert set(config["options.extras_require"]) <= described


def test_messages_that_are_explained_are_in_the_code():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    titles = re.findall(r"^### (.*)$", text, re.MULTILINE)
    messages = "\n".join(_code())
    assert len(titles) >= 25
    for title in titles:
        for part in filter(None, title.split("…")):
            assert part in messages, title


def _code() -> Iterator[str]:
    """Yields the code of each module, with texts that go on in the next line in one piece."""
    for file in (ROOT / "kerasllm").rglob("*.py"):
        yield re.sub(r'"\n\s+f?"', "", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "library", ["Hugging Face Trainer", "Keras and KerasHub", "TensorFlow Model Garden", "axolotl"]
)
def test_names_of_other_libraries_lead_where_a_refusal_of_them_leads(library):
    known = {".".join(key) for name in tasks.names() for key in known_keys(recipes.schema_of(name))}
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", _section("coming_from.md", library), re.MULTILINE)
    checked = 0
    for theirs, ours in rows[1:]:
        keys = re.findall(r"`([a-z]+\.[a-z_.]+)(?:=[^`]*)?`", ours)
        assert {key for key in keys if key.split(".")[0] in ("data", "model", "training")} <= known
        for name in re.findall(r"`(\w+)`", theirs):
            if (key := aliases.KEYS.get(name)) and key.ours:
                assert key.ours in keys, (name, key.ours)
                checked += 1
    assert checked >= 5
