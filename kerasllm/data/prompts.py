"""Short texts for a language model, such as prompts are, from files of texts or conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kerasllm.data.chat.conversation_files import ConversationFiles
from kerasllm.data.chat.conversations import kind_of_rows
from kerasllm.data.chat.formats import UnclearShape
from kerasllm.data.chat.preferences import Preference
from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.data.documents import Documents

# What a prompt is: longer ones would make large models slow to compare.
_PROMPT_TOKENS = 64
_SHORTEST_TEXT = 20
# Logits of each token are compared.
_CHARACTERS = 200


def prompts_of(
    spec: str | Sequence[str], split: str, data: Any | None, model: Any
) -> tuple[Iterator[str], tuple[str, ...], str]:
    """Reads prompts: of conversations what is said before the last answer, in the chat template;
    of plain text its paragraphs.

    Args:
        spec: Files, globs or `starter:NAME`.
        split: The part that `starter:NAME` means.
        data: The section `data` of a recipe, which says what the files hold; `None`: as they look.
        model: The model, with its tokenizer and chat template.

    Returns:
        The texts, of 64 tokens at most, the names of the files, and what a text comes from:
        `"paragraph"`, `"conversation"` or `"pair"`.

    Raises:
        DataError: If a file is missing or cannot be read.
    """
    text = getattr(data, "text", None)
    plain = text is not None or getattr(data, "format", "auto") == "text"
    kind = "text" if plain else _kind_of(spec, split, data)
    if kind == "text":
        documents = Documents(spec, split=split, text=text, on_bad_row="skip")
        texts, files = _paragraphs(documents), documents.files
    else:
        found = ConversationFiles(
            spec,
            split,
            getattr(data, "format", "auto"),
            getattr(data, "system", None),
            "skip",
            prompt=getattr(data, "prompt", None),
            response=getattr(data, "response", None),
            preferences=kind == "pair",
        )
        texts, files = _asked(found, model), found.files
    limit = min(_PROMPT_TOKENS, max((model.max_length or _PROMPT_TOKENS) // 2, 1))
    return _cut(texts, model, limit), files, "paragraph" if kind == "text" else kind


def paragraphs_of(
    spec: str | Sequence[str], split: str, data: Any | None
) -> tuple[Iterator[str], tuple[str, ...]]:
    """Reads the paragraphs of plain text, each cut to 200 characters.

    Args:
        spec: Files, globs or `starter:NAME`.
        split: The part that `starter:NAME` means.
        data: The section `data` of a recipe, which says what the files hold; `None`: as they look.

    Returns:
        The texts, and the names of the files.

    Raises:
        DataError: If a file is missing or cannot be read.
    """
    text = getattr(data, "text", None)
    documents = Documents(spec, split=split, text=text, on_bad_row="skip")
    return (each[:_CHARACTERS] for each in _paragraphs(documents)), documents.files


def _kind_of(spec: str | Sequence[str], split: str, data: Any | None) -> str:
    if getattr(data, "prompt", None) or getattr(data, "response", None):
        return "conversation"
    try:
        return kind_of_rows(spec, split)
    except UnclearShape:
        return "text"


def _paragraphs(documents: Documents) -> Iterator[str]:
    for document in documents:
        for paragraph in document.text.split("\n\n"):
            text = paragraph.strip()
            if len(text) >= _SHORTEST_TEXT:
                yield text


def _asked(files: ConversationFiles, model: Any) -> Iterator[str]:
    for _, _, found, problem in files.rows():
        if problem:
            continue
        pair = isinstance(found, Preference)
        messages = found.chosen[: found.prompt] if pair else found[:-1]
        yield _written(messages, model.chat_template, model.tokenizer.start_token)


def _written(messages: list[dict], template: ChatTemplate | None, start: str | None) -> str:
    if template is None:
        return "\n".join(message["content"] for message in messages)
    text = template.render(messages, add_generation_prompt=True)
    # The tokenizer puts it there itself.
    return text.removeprefix(start) if start else text


def _cut(texts: Iterator[str], model: Any, limit: int) -> Iterator[str]:
    for text in texts:
        ids = model.tokenizer.encode_whole(text)
        if len(ids) > limit:
            text = model.tokenizer.decode(ids[:limit], skip_special=False)
        if text.strip():
            yield text
