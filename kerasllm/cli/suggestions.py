"""Commands in the words of other tools are translated to ours, by the table of aliases."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from kerasllm import aliases


def command_for(name: str, rest: Sequence[str]) -> str | None:
    """Returns the command to type instead of another tool's, `None` where none is known.

    Args:
        name: What was typed after `kerasllm`.
        rest: What was typed after it.
    """
    verb = aliases.VERBS.get(name.lower())
    if verb is None:
        return None
    ours = verb.command.partition(" ")[0]
    if verb.renamed and rest:
        return f"kerasllm {ours} {shlex.join(rest)}"
    given = next((each for each in rest if not each.startswith("-")), None)
    command = verb.command.replace("RUN", shlex.quote(given)) if given else verb.command
    return f"kerasllm {command}"


def in_our_options(
    verb: str, arguments: Sequence[str], known: Mapping[str, bool]
) -> tuple[str, list[str]] | None:
    """Returns a command line with all of its options in our words, and notes on them.

    Args:
        verb: Our command.
        arguments: What was typed after `kerasllm`, the command included.
        known: The options that the command has, and whether each takes a value.

    Returns:
        The command line after `kerasllm`, and sentences; `None` where an option stays unknown.
    """
    rest, positional, typed, notes = list(arguments), [], [], []
    rest = rest[rest.index(verb) + 1 :]
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            positional.append(word)
            continue
        if name in known:
            typed.append(word)
            if known[name] and not equals and rest:
                typed.append(rest.pop(0))
            continue
        if not equals:
            # A flag, where what follows is another option.
            value = rest.pop(0) if rest and not rest[0].startswith("-") else "true"
        ours, note = _our_option(verb, aliases.normalized(name), value)
        if ours is None:
            return None
        if ours[:1] == ["RUN"]:
            positional += ours[1:]
        else:
            typed += ours
        notes += [note] if note and note not in notes else []
    return shlex.join([verb, *positional, *typed]), notes


def _our_option(verb: str, name: str, value: str) -> tuple[list[str] | None, str]:
    """Returns what to type for an option of another tool, and a note on it."""
    option = aliases.OPTIONS.get(verb, {}).get(name)
    if option == "--method":
        value = aliases.METHODS.get(value.lower(), value)
    elif option == "--format":
        value = aliases.FORMATS.get(aliases.normalized(value), value)
    if option and option.endswith("="):
        flag, _, key = option.partition(" ")
        return [flag, f"{key}{value}"], ""
    if option:
        return [option, value], ""
    if aliases.OPTIONS.get(verb) is not aliases.RECIPE_OPTIONS or name not in aliases.KEYS:
        return None, ""
    known = aliases.KEYS[name]
    if known.ours is None:
        option = known.option.replace("VALUE", shlex.quote(value)) if known.option else ""
        return shlex.split(option), known.note
    return ["--set", f"{known.ours}={aliases.value_for(known, value)}"], known.note
