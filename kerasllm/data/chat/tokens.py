"""Turns a conversation into token ids and a loss mask."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np

from kerasllm.data.chat.templates import ChatTemplate, Message
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from kerasllm.errors import DataError

_PRIVATE_USE = range(0xE000, 0xF900)
_AFTER_THINKING = "</think>"


def encode_conversation(
    template: ChatTemplate,
    tokenizer: TokenizerJson,
    messages: Sequence[Message],
    train_on_prompt: bool = False,
    *,
    first: int = 0,
    literal: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tokens of a conversation, and which of them are trained on.

    The ids are those of the whole rendered text, as transformers' `apply_chat_template` gives
    them. Trained on is the assistant messages and the token that ends its turn, but for messages
    with a `weight` of 0. Where that stands
    in the text is what the template's `{% generation %}` blocks say, if it has any. If not, the
    conversation is rendered again with a sign at both ends of each answer: the signs show where the
    answers are, and they can be trusted if nothing else in the text changed.

    Args:
        template: The template.
        tokenizer: The tokenizer.
        messages: The messages; the last one is the assistant's.
        train_on_prompt: Whether all tokens are trained on. Defaults to `False`.
        first: The first message that may be trained on: answers before it count as given.
            Defaults to `0`.
        literal: Whether characters of `LiteralTokens.letters` stand in the messages for letters of
            special tokens. Defaults to `False`.

    Returns:
        The ids, int32 `[tokens]`, and 1 where a token is trained on, uint8 `[tokens]`. A token
        that holds both the assistant messages and what stands before or after it is trained on.

    Raises:
        DataError: The template fails, or changes answers so that they cannot be found in the text.

    Example:
        >>> ids, trained = encode_conversation(template, tokenizer, [
        ...     {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}])
        >>> tokenizer.decode(ids[trained == 1], skip_special=False)
        'Hello!<|im_end|>'
    """
    weights = [one.get("weight", 1) for one in messages if one["role"] == "assistant"]
    if any("weight" in message for message in messages):
        messages = [{k: v for k, v in one.items() if k != "weight"} for one in messages]
    text = template.render(messages)
    ids, spans = (tokenizer.literal_tokens if literal else tokenizer).encode_spans(text)
    if train_on_prompt and all(weights):
        return ids, np.ones(len(ids), np.uint8)
    if template.has_generation_blocks:
        said = _generation_blocks(template, messages, text)
    else:
        said = _answers(template, tokenizer, messages, text)
    given = sum(message["role"] == "assistant" for message in messages[:first])
    if (given or not all(weights)) and len(said) != len(weights):
        raise _cannot_find("it does not have one {% generation %} block per answer")
    trained = np.full(len(ids), train_on_prompt, np.uint8)
    starts, ends = spans[:, 0], spans[:, 1]
    # Where all count, a template may have other blocks than one for each answer.
    counted = [True] * len(said) if all(weights) else list(map(bool, weights))
    for (start, end), counts in list(zip(said, counted, strict=True))[given:]:
        trained[(starts < end) & (ends > start)] = counts
    return ids, trained


def _generation_blocks(
    template: ChatTemplate, messages: Sequence[Message], text: str
) -> list[tuple[int, int]]:
    """Where the template says that the assistant speaks."""
    start, end = _signs(messages, 2)
    marked, found = _take_out(template.render(messages, marks=(start, end)), start + end)
    signs = [sign for sign, _ in found]
    if marked != text or signs != [start, end] * (len(found) // 2):
        raise _cannot_find("its {% generation %} blocks are nested or incomplete")
    places = [place for _, place in found]
    return list(zip(places[::2], places[1::2]))


def _answers(
    template: ChatTemplate, tokenizer: TokenizerJson, messages: Sequence[Message], text: str
) -> list[tuple[int, int]]:
    """Where the assistant's turns stand in the text, each with what ends it."""
    if not messages or messages[-1]["role"] != "assistant":
        raise DataError("The conversation does not end with the assistant")
    turns = _turns(template, messages, text)
    opening = _opening(template, messages)
    closing = text[turns[-1][1] :]
    said = []
    before = 0
    limits = [start for start, _ in turns[1:]] + [len(text)]
    for (start, stop), limit in zip(turns, limits):
        # What a template puts between its generation prompt and the answer (an empty thought)
        # is for the model to write.
        place = text.rfind(opening, before, start) if opening else -1
        start = start if place < 0 else place + len(opening)
        stop += _end_of_turn(text[stop:limit], closing, template, tokenizer)
        said.append((start, stop))
        before = stop
    return said


def _turns(template: ChatTemplate, messages: Sequence[Message], text: str) -> list[tuple[int, int]]:
    """Where the answers stand in the text."""
    signs = _signs(messages, 3)
    for with_signs in (_signs_around, _signs_inside):
        marked = [
            {**message, "content": with_signs(message["content"], *signs)}
            if message["role"] == "assistant"
            else message
            for message in messages
        ]
        unmarked, found = _take_out(template.render(marked), "".join(signs))
        if unmarked == text:
            break
    else:
        raise _cannot_find("the answers influence other parts of the text")
    turns = []
    first = None
    for sign, place in found:
        first = place if first is None else first
        if sign == signs[-1]:
            turns.append((first, place))
            first = None
    if first is not None or len(turns) != sum(m["role"] == "assistant" for m in messages):
        raise _cannot_find("it leaves answers out, cuts them or repeats them")
    return turns


def _signs_around(content: str, begin: str, resume: str, end: str) -> str:
    """Thoughts, which templates often leave out, have a sign of their own after them."""
    thoughts, mark, answer = content.rpartition(_AFTER_THINKING)
    if not mark:
        return begin + content + end
    words = answer.lstrip()
    space = answer[: len(answer) - len(words)]
    return f"{begin}{thoughts}{mark}{space}{resume}{words}{end}"


def _signs_inside(content: str, *signs: str) -> str:
    """Leaves the white space at both ends outside, which templates often strip."""
    bare = content.strip()
    lead = content[: len(content) - len(content.lstrip())]
    return lead + _signs_around(bare, *signs) + content[len(lead) + len(bare) :]


def _opening(template: ChatTemplate, messages: Sequence[Message]) -> str:
    """What a generation prompt adds to a text: the header of the assistant's turn."""
    first = next(i for i, message in enumerate(messages) if message["role"] == "assistant")
    try:
        without = template.render(messages[:first])
        prompt = template.render(messages[:first], add_generation_prompt=True)
    except DataError:
        return ""
    opening = prompt[len(without) :] if prompt.startswith(without) else ""
    others = (message["content"] for message in messages if message["role"] != "assistant")
    # Where a user writes it, its place no longer tells who speaks.
    return "" if any(opening in content for content in others) else opening


def _end_of_turn(after: str, closing: str, template: ChatTemplate, tokenizer: TokenizerJson) -> int:
    """How much of what follows an answer ends the turn: all up to the first end token.

    A line break after it is the template's, and no model has to write it.

    Args:
        after: What follows the answer.
        closing: What follows the last answer, where the text ends: of what follows another one,
            no more than this can belong to it.
    """
    # An answer may end with white space of its own.
    space = len(after) - len(after.lstrip())
    ending = os.path.commonprefix([after.lstrip(), closing.lstrip()])  # noqa: RUF071 - of texts
    if not ending:
        return len(os.path.commonprefix([after, closing]))  # noqa: RUF071 - of texts
    ends = [
        (ending.index(token), -len(token))
        for token in {*tokenizer.added_tokens, *template.stop}
        if token in ending and not token.isspace()
    ]
    place, length = min(ends, default=(0, -len(ending.rstrip())))
    return space + place - length


def _signs(messages: Sequence[Message], count: int) -> list[str]:
    """Characters that are not in the conversation."""
    used = set().union(*(message["content"] for message in messages))
    free = (chr(number) for number in _PRIVATE_USE if chr(number) not in used)
    signs = list(itertools.islice(free, count))
    if len(signs) < count:
        raise _cannot_find("the conversation uses all private-use characters")
    return signs


def _take_out(text: str, signs: str) -> tuple[str, list[tuple[str, int]]]:
    """Returns a text without the signs in it, and each sign with its place in that text."""
    kept, found = [], []
    for letter in text:
        if letter in signs:
            found.append((letter, len(kept)))
        else:
            kept.append(letter)
    return "".join(kept), found


def _cannot_find(why: str) -> DataError:
    return DataError(
        f"The assistant messages cannot be located in the text of the chat template: {why}",
        fix="mark them in the template with {% generation %}, choose a built-in template, "
        "or train on the full text: --set data.train_on_prompt=true",
    )
