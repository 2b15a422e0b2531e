"""Texts and prompts that are given in Python: which forms they have, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from kerasllm.data.tables import as_files
from kerasllm.data.texts import checked_text
from kerasllm.errors import CommandError, DataError
from kerasllm.tasks.task import PredictOptions
from kerasllm.workflows.generate import Prompt, checked
from kerasllm.workflows.trained import Trained

Conversation = Sequence[Mapping[str, str]]
"""Messages, `{"role": ..., "content": ...}`; the last one is the user's."""


class Generation(TypedDict, total=False):
    """The arguments of `TrainedModel.generate` besides the prompts, for type checkers."""

    max_new_tokens: int
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    beams: int
    length_penalty: float
    stop: str | Sequence[str]
    seed: int | None
    chat: bool
    batch_size: int
    adapter: str | None


def inputs_of(trained: Trained, texts: Any, options: PredictOptions) -> Iterable[Any]:
    """Returns what the task of a model predicts for.

    Args:
        trained: The model.
        texts: A text, or any iterable of texts, or of tuples where the model reads several; or a
            table or a `pathlib.Path`, read as the task reads files.
        options: The columns of a table.

    Raises:
        KerasllmError: If one of them is no text.
    """
    task = trained.task
    if _is_file_or_table(texts):
        return task.inputs(trained, as_files(texts), options)
    for name in ("text", "text_pair"):
        if getattr(options, name) is not None:
            raise CommandError(
                "A column was named, but the texts have no columns",
                where=name,
                fix="leave it out, or give a table or a file",
            )
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, Iterable):
        raise DataError(f"These are not texts: {texts!r}", fix="give a list of texts")
    count = len(task.head(trained.open()).texts) if task.predicts else 1
    return [_checked_text(text, count, number) for number, text in enumerate(texts)]


def _is_file_or_table(data: Any) -> bool:
    rows = isinstance(data, (list, tuple)) and bool(data) and isinstance(data[0], Mapping)
    columns = hasattr(data, "columns") or hasattr(data, "column_names")
    return isinstance(data, os.PathLike) or rows or columns


def _checked_text(given: Any, count: int, number: int) -> str | tuple[str, ...]:
    texts = given if isinstance(given, (list, tuple)) else (given,)
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(
            f"Item {number} is not a text. Received: {given!r}", fix="give texts that are not empty"
        )
    return checked_text(given, count, number)


def checked_prompt(prompt: Any, where: str) -> Prompt:
    """Returns a text or a conversation as a prompt.

    Args:
        prompt: A text, or a list of messages.
        where: Its place, for errors.

    Raises:
        KerasllmError: If it is neither.
    """
    if isinstance(prompt, str) and prompt.strip():
        return Prompt(str(prompt), where)
    if isinstance(prompt, (list, tuple)) and all(isinstance(one, Mapping) for one in prompt):
        return Prompt(checked([dict(one) for one in prompt], where), where)
    raise CommandError(
        f"A prompt is a text or a list of messages. Received: {prompt!r}",
        where=where,
        fix='give "a text", or [{"role": "user", "content": "..."}] for a conversation',
    )
