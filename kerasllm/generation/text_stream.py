"""Streams generated text: without the end of the text, and in whole characters."""

from __future__ import annotations

from collections.abc import Sequence

from kerasllm.data.tokenizers.stream_decoder import StreamDecoder
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from kerasllm.generation.settings import GenerationSettings


class TextPieces:
    """Gives the text of tokens as soon as it cannot be the beginning of what ends it.

    Args:
        tokenizer: The tokenizer.
        settings: Its `stop_token_ids` and `stop` end the text.

    Attributes:
        stopped: Whether a stop token or text has come; tokens after it are ignored.
        tokens: How many tokens were taken, without the stop token.

    Example:

    ```python
    pieces = TextPieces(tokenizer, settings)
    for token in tokens:
        print(pieces.step(token), end="")
    print(pieces.finish())
    ```
    """

    def __init__(self, tokenizer: TokenizerJson, settings: GenerationSettings):
        self.stopped = False
        self.tokens = 0
        self._stop = settings.stop
        self._stop_tokens = frozenset(settings.stop_token_ids or ())
        self._decoder = StreamDecoder(tokenizer)
        self._waiting = ""

    def step(self, token: int) -> str:
        """Takes a token and returns the text that may be shown with it, which may be empty.

        Args:
            token: The next token.
        """
        if token in self._stop_tokens:
            self.stopped = True
            return ""
        self.tokens += 1
        self._waiting += self._decoder.step(token)
        end = first_stop(self._waiting, self._stop)
        if end is not None:
            self.stopped = True
            shown, self._waiting = self._waiting[:end], ""
            # What is left in the decoder comes after the stop text.
            self._decoder.finish()
            return shown
        return self._show(len(self._waiting) - _begun(self._waiting, self._stop))

    def finish(self) -> str:
        """Returns what is left at the end."""
        self._waiting += self._decoder.finish()
        end = first_stop(self._waiting, self._stop)
        return self._show(len(self._waiting) if end is None else end)

    def _show(self, count: int) -> str:
        shown, self._waiting = self._waiting[:count], self._waiting[count:]
        return shown


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Returns where the first of the stop texts begins, or `None`."""
    found = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    return min(found, default=None)


def _begun(text: str, stops: Sequence[str]) -> int:
    """Returns how many characters at the end of a text may be the beginning of a stop text."""
    return max(
        (
            size
            for stop in stops
            for size in range(1, min(len(stop), len(text) + 1))
            if text.endswith(stop[:size])
        ),
        default=0,
    )
