"""Every command in the README, the docs, the recipes and the help is one that kerasllm takes."""

import inspect
import re
import shlex

import click
import pytest

from kerasllm import recipe as recipes
from kerasllm.cli.main import cli
from kerasllm.cli.recipe_options import load_recipe
from kerasllm.export.formats import find_format
from tests.docs.pages import PAGES, commands, shell_commands


def check(command: str) -> None:
    """Parses a command as `kerasllm` does, and loads its recipe with its settings; runs nothing."""
    words = _words(command)
    if "..." in words:
        # The rest is the reader's: a verb, and options that it has.
        words = words[: words.index("...")]
        verb = cli.get_command(click.Context(cli), words[0])
        known = {name for option in verb.params for name in option.opts}
        assert {word for word in words[1:] if word.startswith("--")} <= known, command
        return
    names, given = _parsed(cli, words)
    if names == ["launch"]:
        check(shlex.join(["kerasllm", *words[words.index("--") + 1 :]]))
    if names == ["export"]:
        find_format(given["format"])
    recipe = given.pop("recipe", None)
    if names == ["compress"] and given["method"]:
        recipe = f"compress_{given['method']}"
    if recipe is None or names == ["launch"]:
        return
    # Of a file that the reader has written, what a page sets is a key of any recipe.
    recipe = "bert_cls" if recipe.endswith(".yaml") else recipe
    if "train" in given:
        load_recipe(recipe, given)
    else:
        recipes.load(recipe, given.get("overrides", ()))


def _parsed(command: click.Command, words: list[str]) -> tuple[list[str], dict]:
    """Returns the names of the sub-commands, and what the options of the last one were given."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, words)
        names, given = _parsed(found, rest)
        return [name, *names], given
    return [], command.make_context(command.name, list(words)).params


def _words(command: str) -> list[str]:
    """Returns the words of a command up to a pipe; what is at an address is not opened."""
    words = shlex.split(command, comments=True)[1:]
    ends = [place for place, word in enumerate(words) if re.match(r"\d?[|<>&;]", word)]
    return [re.sub(r"^\w+://.*", "address", word) for word in words[: min(ends, default=None)]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_taken(page):
    for command in commands(page.read_text(encoding="utf-8")):
        _taken(command)


@pytest.mark.parametrize("name", recipes.names())
def test_the_commands_above_a_recipe_are_taken(name):
    lines = recipes.path_of(name).read_text(encoding="utf-8").splitlines()
    found = list(
        shell_commands("\n".join(line.lstrip("# ") for line in lines if line.startswith("#   ")))
    )
    assert found
    for command in found:
        _taken(command)


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_the_commands_in_the_help_are_taken(name):
    verbs = [cli.get_command(click.Context(cli), name)]
    verbs += getattr(verbs[0], "commands", {}).values()
    for verb in verbs:
        for command in shell_commands(inspect.cleandoc(verb.help or "")):
            _taken(command)


@pytest.mark.parametrize(
    "command",
    [
        "kerasllm finetune --recipe bert_clss",
        "kerasllm finetune --recipe bert_cls --epochs 3",
        "kerasllm finetune --recipe bert_cls --set training.epoch=3",
        "kerasllm finetune --recipe ner --text-pair other",
        "kerasllm export my_run --format tflite",
        "kerasllm recipes lists",
        "kerasllm launch --workers 2 -- finetune --recipe bert_clss",
        "kerasllm finetune --recipes ...",
    ],
)
def test_a_wrong_command_would_be_seen(command):
    with pytest.raises(pytest.fail.Exception):
        _taken(command)


def _taken(command: str) -> None:
    try:
        check(command)
    except Exception as error:
        pytest.fail(f"{command}\n{getattr(error, 'message', error)}", pytrace=False)


def test_pages_show_every_verb():
    shown = {
        command.split()[1]
        for page in PAGES
        for command in commands(page.read_text(encoding="utf-8"))
    }
    assert set(cli.list_commands(click.Context(cli))) <= shown


def test_a_request_with_a_body_says_that_it_is_json():
    # What curl sends by itself is the type of a form, which the server refuses.
    requests = [
        line
        for page in PAGES
        for line in re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8")).splitlines()
        if line.startswith("curl ") and " -d " in line
    ]
    assert len(requests) >= 5
    assert not [line for line in requests if "application/json" not in line]
