"""Generate texts with a run's model or a preset."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kerasllm.data.chat.messages import BadRow, to_answer, without_mark
from kerasllm.errors import CommandError, DataError
from kerasllm.generation.settings import GenerationSettings
from kerasllm.workflows.trained import Trained, open_generator_source
from kerasllm.plurals import counted

if TYPE_CHECKING:
    from kerasllm.generation.text import TextGenerator


@dataclass(frozen=True)
class Prompt:
    """A prompt, or a conversation that the model answers.

    Attributes:
        content: The text, or messages: `{"role": ..., "content": ...}`.
        where: Its place, for errors.
    """

    content: str | list[dict]
    where: str


def generate(
    source: str | Path | Trained,
    prompts: Iterable[Prompt],
    settings: GenerationSettings,
    *,
    chat: bool | None = None,
    batch_size: int = 8,
    adapter: str | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> Iterator[dict]:
    """Generates what follows each prompt, in memory that does not grow with their number.

    Args:
        source: A run directory, a preset, or what `open_trained` gave.
        prompts: The prompts.
        settings: How.
        chat: Whether a text is a user's message, to which the chat template is applied. Defaults to
            `None`: if the model was tuned on conversations.
        batch_size: The most prompts that are computed together. Defaults to `8`.
        adapter: The folder of an adapter. Defaults to `None`.
        notify: Called with a line when the chat template is applied by default, and when texts are
            empty. Defaults to nothing.

    Yields:
        For each prompt, in the order given: `prompt` as given, `text`, the number of its `tokens`,
        `finish_reason` (`"stop"` or `"length"`), `seed`, and `chat`: whether the chat template was
        applied.

    Raises:
        KerasllmError: If the model or a prompt is refused.
    """
    generator = open_generator(source, settings, batch_size=batch_size, adapter=adapter)
    chat = _applies_template(generator, chat, notify)
    prompts, total, empty, all_chats = iter(prompts), 0, 0, True
    # Prompts of a like length are computed together: many are looked at, to find such.
    while chunk := list(itertools.islice(prompts, 8 * batch_size)):
        answers = {}
        for as_chat in (False, True):
            some = [i for i, prompt in enumerate(chunk) if _is_chat(prompt, chat) == as_chat]
            ids = [encode(generator, chunk[i], as_chat, settings) for i in some]
            answers.update(zip(some, generator.generate(ids, chat=as_chat)))
        total += len(chunk)
        for i, prompt in enumerate(chunk):
            as_chat = _is_chat(prompt, chat)
            if is_empty(answers[i].text):
                empty, all_chats = empty + 1, all_chats and as_chat
            yield {
                "prompt": prompt.content,
                "text": answers[i].text,
                "tokens": len(answers[i].tokens),
                "finish_reason": answers[i].finish_reason,
                "seed": settings.seed,
                "chat": as_chat,
            }
    if empty:
        notify(_why_empty(generator, all_chats, empty, total))


def stream(
    source: str | Path | Trained,
    prompt: Prompt,
    settings: GenerationSettings,
    *,
    chat: bool | None = None,
    adapter: str | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> Iterator[str]:
    """Generates what follows one prompt and gives its text in pieces, as it is computed.

    Args:
        source: A run directory, a preset, or what `open_trained` gave.
        prompt: The prompt.
        settings: How.
        chat: As in `generate`.
        adapter: The folder of an adapter. Defaults to `None`.
        notify: As in `generate`.
    """
    generator = open_generator(source, settings, batch_size=1, adapter=adapter)
    as_chat = _is_chat(prompt, _applies_template(generator, chat, notify))
    empty = True
    for piece in generator.stream(encode(generator, prompt, as_chat, settings), chat=as_chat):
        empty = empty and is_empty(piece)
        yield piece
    if empty:
        notify(_why_empty(generator, as_chat, 1, 1))


def is_empty(text: str) -> bool:
    """Returns whether a text that was generated has nothing to show."""
    return not text.strip()


def _applies_template(
    generator: TextGenerator, chat: bool | None, notify: Callable[[str], None]
) -> bool:
    """Returns whether prompts are messages of a user, and says so where nobody asked for it."""
    if chat is None and generator.chats:
        notify(
            "The model was tuned on conversations: its chat template is applied to each prompt. "
            "--no-chat continues the text instead."
        )
    return generator.chats if chat is None else chat


def _why_empty(generator: TextGenerator, chat: bool, count: int, total: int) -> str:
    """Returns what to know of texts that are empty, and what to do.

    Args:
        generator: What wrote them.
        chat: Whether the chat template was applied to their prompts.
        count: How many are empty.
        total: How many were written.
    """
    which = "The text is" if total == 1 else f"{count:,} of {counted(total, 'text')} are"
    if generator.has_chat_template and not chat:
        fix = "apply its chat template with --chat, or draw other texts with --temperature 0.8"
    elif chat:
        fix = "draw other texts with --temperature 0.8, or try --no-chat"
    else:
        fix = "draw other texts with --temperature 0.8, or begin the text with a longer prompt"
    return f"{which} empty: the model ended without writing a word. To get one, {fix}."


def open_generator(source, settings, *, batch_size: int, adapter: str | None = None):
    """Opens the model of a run or a preset, to generate with it.

    Args:
        source: A run directory, a preset, or what `open_trained` gave.
        settings: How.
        batch_size: The most prompts that are computed together.
        adapter: The folder of an adapter. Defaults to `None`.

    Raises:
        KerasllmError: If it is not there, or not a causal language model.
    """
    return open_generator_source(source).generator(
        settings, batch_size=batch_size, adapter=adapter
    )


def encode(generator, prompt: Prompt, chat: bool, settings: GenerationSettings) -> list[int]:
    """Returns the tokens of a prompt; one that is too long is refused with its place."""
    if not chat:
        ids = generator.encode(prompt.content)
    else:
        if not generator.has_chat_template:
            raise CommandError(
                "The model has no chat template",
                where=prompt.where,
                fix="use --no-chat and give the whole text with --prompt, or use a model that "
                "was tuned on conversations",
            )
        content = prompt.content
        if isinstance(content, str):
            content = [{"role": "user", "content": without_mark(content)}]
        ids = generator.encode_chat(content)
    generator.generator.room(ids, settings, prompt.where)
    return ids


def read_prompts(path: str | Path) -> Iterator[Prompt]:
    """Reads a file of prompts.

    Args:
        path: A `.txt` file with a prompt a line, or a `.jsonl` file with an object a line, which
            holds `prompt` or `messages`.

    Raises:
        DataError: If the file or a line of it is refused.
    """
    path = Path(path)
    if path.suffix not in (".txt", ".jsonl"):
        raise DataError(
            f"Prompts are not read from {path.suffix!r} files",
            where=str(path),
            fix="give .txt or .jsonl",
        )
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{error.strerror}", where=str(path), fix="check the path") from None
    if not lines:
        raise DataError("The file is empty", where=str(path), fix="give it a prompt a line")
    for number, raw in enumerate(lines, start=1):
        where = f"{path}:{number}"
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError("The line is not UTF-8", where=where, fix="convert the file") from None
        line = without_mark(line)
        content = _row(line, where) if path.suffix == ".jsonl" else line
        if not content or (isinstance(content, str) and not content.strip()):
            raise DataError("The prompt is empty", where=where, fix="leave the line out")
        yield Prompt(content, where)


def _row(line: str, where: str) -> str | list[dict]:
    """Returns the prompt or the messages of a line of JSON."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"The line is not JSON: {error}", where=where) from None
    row = {key.lower(): value for key, value in row.items()} if isinstance(row, dict) else {}
    prompt, messages = row.get("prompt"), row.get("messages")
    if isinstance(prompt, str) and messages is None:
        return without_mark(prompt)
    if prompt is None and isinstance(messages, (list, str)):
        return checked(messages, where)
    raise DataError(
        "The line must be an object with a text `prompt` or a list `messages`, not both. Received: "
        f"{line[:80]}",
        where=where,
        fix='write {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}',
    )


def checked(messages: list, where: str) -> list[dict]:
    """Returns the messages of a conversation, if the model can answer them.

    Raises:
        DataError: If it cannot.
    """
    try:
        return to_answer(messages)
    except BadRow as error:
        raise DataError(
            f"The messages are no conversation to answer: {error}",
            where=where,
            fix='write [{"role": "user", "content": "..."}, ...]; the last message is the user\'s',
        ) from None


def _is_chat(prompt: Prompt, chat: bool) -> bool:
    return chat or not isinstance(prompt.content, str)
