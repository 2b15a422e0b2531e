"""The errors that users see: what is wrong, where, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kerasllm.addresses import redact

MEMORY_RAN_OUT = "Memory ran out"
"""How the error begins that a training without enough memory ends with."""

# Of what is shown: a name or a list that came from a file may be a megabyte.
_LONGEST = 20_000
_LONGEST_LINE = 4000
# Of a word, such as a path or an address.
_LONG_WORD = re.compile(r"(?<!\S)(\S{300})(\S{200,})")


class KerasllmError(Exception):
    """An error that is shown to the user as one readable block, never as a traceback.

    Args:
        what: One sentence: what is wrong, with the value that was received.
        where: The place: `file:line`, a recipe key, an option of the command line.
            Defaults to `None`.
        fix: What the user can do about it. Defaults to `None`.
    """

    exit_status = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None):
        # No address in a message shows the credentials that it holds.
        self.what = redact(what)
        self.where = None if where is None else redact(str(where))
        self.fix = None if fix is None else redact(fix)
        super().__init__(self.what)

    def __str__(self) -> str:
        lines = [cut(self.what, _LONGEST)]
        if self.where:
            lines.append(f"  where: {cut(self.where)}")
        if self.fix:
            lines.append(f"  do:    {cut(self.fix)}")
        return "\n".join(lines)


def cut(text: str, longest: int = _LONGEST_LINE) -> str:
    """Returns a text as it is shown: what came from a file may be a megabyte.

    Args:
        text: The text.
        longest: So many of its characters are shown. Defaults to `4000`.
    """
    # Halves of pairs, which no file and no terminal can be written to with, are escaped.
    text = text.encode(errors="backslashreplace").decode()
    text = _LONG_WORD.sub(lambda word: f"{word[1]}... ({len(word[2]):,} characters more)", text)
    if len(text) <= longest:
        return text
    return f"{text[:longest]}... ({len(text) - longest:,} characters more)"


class CommandError(KerasllmError):
    """The command line asks for something that cannot be done."""


class RecipeError(KerasllmError):
    """A recipe, or a `--set` on top of it, does not fit the schema."""


class DataError(KerasllmError):
    """A data file is missing, broken or does not fit the task."""


class PresetError(KerasllmError):
    """A pretrained model cannot be found, downloaded, verified or read."""


class OfflineError(PresetError):
    """A pretrained model has to be downloaded, and the network cannot be reached."""

    FIX = (
        "check the network, or give a local folder with the model's files (in a recipe: --set "
        "model.preset=FOLDER)"
    )


class SignatureError(KerasllmError):
    """A model is not signed, not by a key that is trusted, or not the one that was signed."""


class StorageError(KerasllmError):
    """A file or a folder elsewhere cannot be read or written."""


class RunError(KerasllmError):
    """A run directory is missing, incomplete or already in use."""


class JobError(KerasllmError):
    """The command was accepted, but the job failed while it ran."""

    exit_status = 1


class Interrupted(KerasllmError):
    """A signal ended the job, and what it had done is saved.

    Args:
        signal: The signal, or `None` if another process was told. Defaults to `None`.
    """

    def __init__(self, what: str, *, signal: int | None = None, **kwargs: str | None):
        super().__init__(what, **kwargs)
        self.exit_status = 128 + int(signal or 15)


# Options that take no value.
_FLAGS = ("accept_changes", "chat", "overwrite", "resume")


@contextmanager
def worded_for_python(keys: Sequence[str] = ()) -> Iterator[None]:
    """Lets errors of the block name arguments where they would name options of the command line.

    The arguments of `kerasllm.finetune` and of a `TrainedModel` are called as the options are.

    Args:
        keys: Keys of a recipe, such as `data.text`, that are arguments by their last names.
            Defaults to `()`.
    """
    try:
        yield
    except KerasllmError as error:
        error.what = _worded(error.what, keys)
        error.where = error.where and _worded(error.where, keys)
        error.fix = error.fix and _worded(error.fix, keys)
        raise


def _worded(text: str, keys: Sequence[str]) -> str:
    """Returns a text with `resume=True` for `--resume`; whole commands stay as they are."""

    def argument(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return f"{name}=True" if name in _FLAGS else name

    parts = re.split(r"(`[^`]*`)", text)
    for place, part in enumerate(parts):
        if not part.startswith("`") and not re.search(r"\bkerasllm [a-z]", part):
            # What one command is told by an option of another name.
            part = re.sub(r" \(evaluate, predict, data: --[^)]*\)", "", part)
            setting = r"--set (?:'([\w.]+=[^']*)'|([\w.]+=\S*?))(?=[\s;,?)]|$)"
            part = re.sub(setting, lambda match: match[1] or match[2], part)
            parts[place] = re.sub(r"(?<![\w-])--([a-z][a-z-]*)", argument, part)
    text = "".join(parts)
    if keys:
        text = text.replace("let finetune skip bad rows", "skip bad rows")
    for key in keys:
        text = re.sub(rf"(?<![\w.]){re.escape(key)}(?![\w.]*\w)", key.rpartition(".")[2], text)
    return text
