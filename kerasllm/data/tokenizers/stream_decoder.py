"""Incremental decoding of tokens to text, for streaming output."""

from __future__ import annotations

from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson

# What a decoder writes for bytes that are no character, and so also for half of one.
_BROKEN = "\ufffd"


class StreamDecoder:
    """Decodes tokens one at a time and never gives half a character.

    A character may be spread over several tokens; it is given when its last one has come. All
    that is given, put together, is what `decode` gives for all tokens at once.

    Args:
        tokenizer: The tokenizer.
        skip_special: Whether special tokens are left out. Defaults to `True`.

    Example:
        >>> stream = StreamDecoder(tokenizer)
        >>> text = "".join(stream.step(id) for id in ids) + stream.finish()
    """

    def __init__(self, tokenizer: TokenizerJson, *, skip_special: bool = True):
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        # Some decoders drop the space before a first word: tokens are decoded after those that
        # were given last, and not by themselves.
        self._before: list[int] = []
        self._waiting: list[int] = []
        self._given = 0

    def step(self, id: int) -> str:
        """Takes a token and returns the text that is complete with it, which may be empty.

        Args:
            id: The next token.
        """
        self._waiting.append(int(id))
        text = self._text()
        complete = text.rstrip(_BROKEN)
        piece = complete[self._given :]
        self._given = max(self._given, len(complete))
        if complete == text and piece:
            self._before, self._waiting = self._waiting, []
            self._given = len(self._text())
        return piece

    def finish(self) -> str:
        """Returns what is left at the end: a character whose last bytes never came."""
        piece = self._text()[self._given :]
        self._before, self._waiting, self._given = [], [], 0
        return piece

    def _text(self) -> str:
        ids = self._before + self._waiting
        return self._tokenizer.decode(ids, skip_special=self._skip_special)
