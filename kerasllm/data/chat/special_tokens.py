"""Special tokens written in conversations: not doubled, and no unintended ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from kerasllm.data.chat.messages import BadRow, Messages
from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.data.tokenizers.literal_tokens import FIRST_LETTER, FIRST_TOKEN
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from kerasllm.errors import DataError

MODES = ("once", "text", "keep")

STRIPPED = "message|without the special tokens at its ends, which the chat template adds"
LETTERS = "special token|within messages read as letters"
WRITTEN = "prompt|that the chat template was applied to before, which is not applied again"

# Where a template puts what is said: characters that no text holds.
_PROBES = tuple(map(chr, range(0xF8F0, 0xF8F5)))


class SpecialTokens:
    """What becomes of special tokens that are written in messages.

    Args:
        template: Makes a text of each conversation.
        tokenizer: The tokenizer.
        mode: `"once"`: those at the ends of a message that the template adds are left out, a prompt
            that was made with the template is taken as it is, and all others are letters;
            `"text"`: all are letters; `"keep"`: all are tokens, as the tokenizer reads them.

    Example:

    ```python
    special = SpecialTokens(template, tokenizer, "once")
    special.prepare([{"role": "assistant", "content": "Hello!<|im_end|>"}], notes)
    ```
    """

    def __init__(self, template: ChatTemplate, tokenizer: TokenizerJson, mode: str):
        if mode not in MODES:
            raise ValueError(
                f"special_tokens must be one of {', '.join(MODES)}. Received: {mode!r}"
            )
        self._template = template
        self._tokenizer = tokenizer
        self._mode = mode
        # Of a vocabulary that has no such token, the template's own ends are letters, and yet ends.
        ends = [text for text in template.stop if not any(map(str.isspace, text))]
        tokens = dict.fromkeys((*tokenizer.special_tokens, *ends))
        longest_first = sorted(tokens, key=len, reverse=True)
        self._tokens = re.compile("|".join(map(re.escape, longest_first))) if tokens else None

    def prepare(self, messages: Messages, notes: Counter[str]) -> tuple[Messages, bool]:
        """Returns messages with the special tokens in them as they are meant.

        Args:
            messages: The messages.
            notes: Counts what was changed.

        Returns:
            The messages, and whether they hold characters of `LiteralTokens.letters`.

        Raises:
            BadRow: If a message holds special tokens alone.
        """
        if self._mode == "keep" or not self._tokens:
            return messages, False
        if not any(self._tokens.search(message["content"]) for message in messages):
            return messages, False
        if self._mode == "once":
            messages = [self._stripped(message, notes) for message in messages]
        read = [self._as_letters(message, notes) for message in messages]
        return read, any(one is not other for one, other in zip(read, messages))

    def written(
        self, messages: Messages, notes: Counter[str]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Encodes a prompt that was made with the template, and its answer, as they are.

        Args:
            messages: The messages, as they are in the file.
            notes: Counts what was changed.

        Returns:
            As `encode_conversation`; `None` of any other conversation.
        """
        if self._mode != "once" or not self._tokens or messages[-1]["role"] != "assistant":
            return None
        turns = messages[messages[0]["role"] == "system" :]
        if len(turns) != 2 or not self._is_written(turns[0]["content"]):
            return None
        notes[WRITTEN] += 1
        header, prompt = self._header, turns[0]["content"].rstrip()
        prompt += header[len(header.rstrip()) :]
        begin = self._tokenizer.named_tokens.get("bos_token", "")
        if not self._frame("user")[0][0].startswith(begin) or prompt.startswith(begin):
            begin = ""
        stripped = self._stripped(turns[1], Counter())
        answer = read = self._as_letters(stripped, notes)["content"]
        if prompt[-1].isspace():
            answer = answer.lstrip()
        closing = self._frame("assistant")[1][-1]
        end = self._tokens.search(closing)
        text = begin + prompt + answer + closing
        stop = len(text) - len(closing) + (end.end() if end else len(closing.rstrip()))
        literal = read != stripped["content"]
        encoder = self._tokenizer.literal_tokens if literal else self._tokenizer
        ids, spans = encoder.encode_spans(text)
        said = (
            (spans[:, 0] < stop) & (spans[:, 1] > len(begin + prompt)) & (spans[:, 0] < spans[:, 1])
        )
        return ids, said.astype(np.uint8)

    def _is_written(self, prompt: str) -> bool:
        """Tells whether a prompt was made with the template: it opens the assistant's turn."""
        header = self._header.strip()
        if not header or not prompt.rstrip().endswith(header):
            return False
        if self._tokens.search(header):
            return True
        # Where that is a word, it must begin as such prompts do.
        begin = self._tokenizer.named_tokens.get("bos_token", "")
        openings = [self._frame(role)[0][0] for role in ("user", "system") if self._frame(role)[0]]
        bare = prompt.removeprefix(begin).lstrip()
        return any(bare.startswith(text.removeprefix(begin).strip()) for text in openings)

    @cached_property
    def _header(self) -> str:
        """What opens the assistant's turn, or an empty text."""
        [before, *_] = self._frame("assistant")[0] or ("",)
        # After the last end token of the turn before it.
        ends = [before.find(end) + len(end) for end in self._template.stop if end in before]
        return before[max(ends, default=0) :].lstrip()

    def _stripped(self, message: dict, notes: Counter[str]) -> dict:
        content = message["content"]
        before, after = self._frame(message["role"])
        while (short := _without(content, self._beginnings(before), self._ends(after))) != content:
            content = short
        if content == message["content"]:
            return message
        if not content.strip():
            raise BadRow(f"a message ({message['role']}) holds special tokens alone")
        notes[STRIPPED] += 1
        return {**message, "content": content}

    def _as_letters(self, message: dict, notes: Counter[str]) -> dict:
        content = message["content"]
        known = self._tokenizer.special_tokens
        found = [token for token in self._tokens.findall(content) if token in known]
        if not found:
            return message
        last = max(map(ord, content))
        if FIRST_LETTER <= last < FIRST_LETTER + len(known) or last >= FIRST_TOKEN:
            raise BadRow(f"U+{last:X} in a message ({message['role']}) is of private use")
        notes[LETTERS] += len(found)
        literal = self._tokenizer.literal_tokens

        def letter(match: re.Match) -> str:
            return literal.letter_of(match[0]) if match[0] in known else match[0]

        return {**message, "content": self._tokens.sub(letter, content)}

    def _frame(self, role: str) -> tuple[Sequence[str], Sequence[str]]:
        """What the template writes before and after what somebody says."""
        return self._frames.get(role, ((), ()))

    @cached_property
    def _frames(self) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
        turns = [
            {"role": ("user", "assistant")[n % 2], "content": probe}
            for n, probe in enumerate(_PROBES[:4])
        ]
        frames = {}
        between = _between(self._template, turns)
        if between:
            first, user, assistant, _, last = between
            frames["user"] = ((first, assistant), (user,))
            frames["assistant"] = ((user,), (assistant, last))
        between = _between(self._template, [{"role": "system", "content": _PROBES[4]}, *turns[:2]])
        if between:
            frames["system"] = ((between[0],), (between[1],))
        return frames

    def _beginnings(self, before: Sequence[str]) -> Iterator[str]:
        """What a message may begin with that comes before it anyway, the longest first."""
        for text in before:
            yield from (text[match.start() :] for match in self._tokens.finditer(text))
        names = self._tokenizer.named_tokens
        yield from filter(None, (self._tokenizer.start_token, names.get("bos_token")))

    def _ends(self, after: Sequence[str]) -> Iterator[str]:
        for text in after:
            ends = [match.end() for match in self._tokens.finditer(text)]
            ends += [len(text)] * bool(ends)
            yield from (text[:end] for end in reversed(ends))
        names = self._tokenizer.named_tokens
        yield from filter(None, (self._tokenizer.end_token, names.get("eos_token")))


def _without(content: str, beginnings: Iterator[str], ends: Iterator[str]) -> str:
    bare = content.lstrip()
    for text in beginnings:
        if bare.startswith(text.strip()):
            content = bare[len(text.strip()) :]
            # Its line break is the header's.
            content = content.lstrip() if text != text.rstrip() else content
            break
    bare = content.rstrip()
    for text in ends:
        if bare.endswith(text.strip()):
            return bare[: len(bare) - len(text.strip())]
    return content


def _between(template: ChatTemplate, turns: Messages) -> list[str] | None:
    """What a template writes before, between and after what is said."""
    try:
        text = template.render(turns)
    except DataError:
        return None
    parts = re.split("|".join(turn["content"] for turn in turns), text)
    return parts if len(parts) == len(turns) + 1 else None
