"""`--json`: on every verb that reports, one object or one a line, alone on stdout."""

import json

import click
import pytest

from kerasllm.cli.main import cli

# What they give is a file, a server, a conversation, or text that is YAML or JSON already.
REPORT_NOTHING = {
    *("chat", "data convert", "data prepare", "launch", "presets fetch", "recipes copy"),
    *("recipes schema", "recipes show", "serve", "track push", "watch"),
}


def commands() -> dict[str, click.Command]:
    context, found = click.Context(cli), {}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            found |= {f"{name} {one}": each for one, each in command.commands.items()}
        else:
            found[name] = command
    return found


def test_every_verb_that_reports_takes_it():
    lacking = {
        name
        for name, command in commands().items()
        if not any("--json" in option.opts for option in command.params)
    }
    assert lacking == REPORT_NOTHING


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["recipes", "list"], {"name", "description", "file"}),
        (["presets", "list"], {"name", "family", "licence", "description", "bytes", "cached"}),
    ],
)
def test_lists_are_an_object_a_line(kerasllm, arguments, keys):
    result = kerasllm(*arguments, "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert result.status == 0 and len(lines) > 1
    assert all(set(line) == keys for line in lines)
    assert len(kerasllm(*arguments).out.splitlines()) >= len(lines)


def test_problems_of_recipes_are_told_with_their_places(kerasllm, tmp_path):
    wrong = tmp_path / "mine.yaml"
    wrong.write_text("task: text_classification\ntraining:\n  epoch: 2\n", encoding="utf-8")
    result = kerasllm("recipes", "validate", "bert_cls", wrong, "--json")
    good, bad = map(json.loads, result.out.splitlines())
    assert result.status == 2 and good == {"file": "bert_cls", "problems": []}
    assert any(f"{wrong}:3" in one["where"] for one in bad["problems"])
    assert all(one["what"] for one in bad["problems"])


def test_a_signature_is_told(kerasllm, tmp_path):
    from tests.signing.keys import make_key

    private, _ = make_key(tmp_path)
    folder = tmp_path / "preset"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    result = kerasllm("sign", folder, "--key", private, "--json")
    assert result.status == 0 and result.err == ""
    assert json.loads(result.out)["files"].keys() == {"config.json"}
