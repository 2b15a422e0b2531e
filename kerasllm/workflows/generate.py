"""Generate texts with a run's model or a preset."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.data.chat.messages import BadRow, to_answer, without_mark
from kerasllm.errors import CommandError, DataError
from kerasllm.generation.settings import GenerationSettings
from kerasllm.plurals import counted
from kerasllm.workflows.trained import Trained, open_generator_source

if TYPE_CHECKING:
    from kerasllm.generation.text import TextGenerator


PROMPTS_PER_ROW = 8
"""Prompts that are read at a time, for each row of a batch."""


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
    refuse: bool = True,
) -> Iterator[dict]:
    """Generates what follows each prompt, in memory that does not grow with their number.

    Args:
        source: A run directory, a preset, or what `open_trained` gave.
        prompts: The prompts.
        settings: How.
        chat: Whether a text is a user's message, to which the chat template is applied. Defaults to
            `None`: if the model was tuned on conversations.
        batch_size: The maximum number of prompts that are computed together. Defaults to `8`.
        adapter: The folder of an adapter. Defaults to `None`.
        notify: Called with a line when the chat template is applied by default, and when texts are
            empty. Defaults to nothing.
        refuse: Whether a prompt that is too long for the model ends all. Defaults to `True`.

    Yields:
        For each prompt, in the order given: `prompt` as given, `text`, the number of its `tokens`,
        `finish_reason` (`"stop"` or `"length"`), `seed`, and `chat`: whether the chat template was
        applied. For a prompt that is too long `error` alone, where these do not end all.

    Raises:
        KerasllmError: If the model or a prompt is refused.
    """
    generator = open_generator(source, settings, batch_size=batch_size, adapter=adapter)
    chat = _applies_template(generator, chat, notify)
    prompts, total, empty, all_chats = iter(prompts), 0, 0, True
    # Prompts of a like length are computed together: many are looked at, to find such.
    while chunk := list(itertools.islice(prompts, PROMPTS_PER_ROW * batch_size)):
        answers, errors = {}, {}
        for as_chat in (False, True):
            ids: dict[int, list[int]] = {}
            for i, prompt in enumerate(chunk):
                if _is_chat(prompt, chat) == as_chat:
                    try:
                        ids[i] = encode(generator, prompt, as_chat, settings)
                    except DataError as error:
                        if refuse:
                            raise
                        errors[i] = error.what
            answers.update(zip(ids, generator.generate(list(ids.values()), chat=as_chat)))
        total += len(answers)
        for i, prompt in enumerate(chunk):
            if i in errors:
                yield {"error": errors[i]}
                continue
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
    """Generates what follows one prompt and gives its text in chunks, as it is computed.

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
            "The model was tuned on conversations, so its chat template is applied to each prompt. "
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
        fix = "apply its chat template with --chat, or sample other texts with --temperature 0.8"
    elif chat:
        fix = "sample other texts with --temperature 0.8, or try --no-chat"
    else:
        fix = "sample other texts with --temperature 0.8, or start with a longer prompt"
    return f"{which} empty: the model generated no text. To get one, {fix}."


def open_generator(source, settings, *, batch_size: int, adapter: str | None = None):
    """Opens the model of a run or a preset, to generate with it.

    Args:
        source: A run directory, a preset, or what `open_trained` gave.
        settings: How.
        batch_size: The maximum number of prompts that are computed together.
        adapter: The folder of an adapter. Defaults to `None`.

    Raises:
        KerasllmError: If it is not there, or not a causal language model.
    """
    trained = open_generator_source(source)
    trained.refuse_several_processes()
    return trained.generator(settings, batch_size=batch_size, adapter=adapter)


def encode(generator, prompt: Prompt, chat: bool, settings: GenerationSettings) -> list[int]:
    """Returns the tokens of a prompt; one that is too long is refused with its place."""
    if not chat:
        ids = generator.encode(prompt.content)
    else:
        if not generator.has_chat_template:
            raise CommandError(
                "The model has no chat template",
                where=prompt.where,
                fix="use --no-chat and give the whole text with --prompt, or use a model tuned on "
                "conversations",
            )
        content = prompt.content
        if isinstance(content, str):
            content = [{"role": "user", "content": without_mark(content)}]
        ids = generator.encode_chat(content)
    generator.generator.room(ids, settings, prompt.where)
    return ids


def content_of(row: Mapping[str, Any], where: str) -> str | list[dict]:
    """Returns the prompt or the messages of a row.

    Args:
        row: The columns of a table, or the keys of an object: `prompt` or `messages`, in any case.
        where: The place, for errors.

    Raises:
        DataError: If it has neither or both, or the model cannot answer them.
    """
    named = {key.lower(): row[key] for key in row if key.lower() in ("prompt", "messages")}
    prompt, messages = named.get("prompt"), named.get("messages")
    if isinstance(prompt, str) and messages is None:
        return without_mark(prompt)
    if prompt is None and isinstance(messages, (list, str)):
        return checked(messages, where)
    raise DataError(
        "The row must have a text `prompt` or a list `messages`, not both. Received: "
        f"{json.dumps(dict(row), ensure_ascii=False, default=str)[:80]}",
        where=where,
        fix='write {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, or '
        "name the column of the prompts with --text",
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
            f"The messages are not a conversation to answer: {error}",
            where=where,
            fix='write [{"role": "user", "content": "..."}, ...]; the last message is the user\'s',
        ) from None


def _is_chat(prompt: Prompt, chat: bool) -> bool:
    return chat or not isinstance(prompt.content, str)
