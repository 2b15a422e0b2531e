"""A conversation with a model: its turns, and what of them fits the model's positions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kerasllm.data.chat.messages import without_mark
from kerasllm.errors import CommandError, DataError
from kerasllm.generation.settings import GenerationSettings
from kerasllm.workflows.generate import open_generator


class Conversation:
    """A conversation with a run's model or a preset.

    Args:
        source: A run directory or a preset.
        settings: How answers are generated.
        system: The system message. Defaults to `None`: nothing.
        adapter: The folder of an adapter. Defaults to `None`.

    Attributes:
        system: As given; may be set.
        turns: The messages so far: `{"role": ..., "content": ...}`, without the system's.
        dropped: How many messages the last answer did not see, because they were too many.

    Raises:
        KerasllmError: If the model is not there, or has no chat template.
    """

    def __init__(
        self,
        source: str | Path,
        settings: GenerationSettings,
        *,
        system: str | None = None,
        adapter: str | None = None,
    ):
        self._generator = open_generator(source, settings, batch_size=1, adapter=adapter)
        if not self._generator.has_chat_template:
            raise CommandError(
                "The model has no chat template, so it cannot hold a conversation",
                where=str(source),
                fix="use a model tuned on conversations, or `kerasllm generate`",
            )
        self._settings = settings
        self.system = system
        self.turns: list[dict] = []
        self.dropped = 0

    def answer(self, message: str) -> Iterator[str]:
        """Gives the model's answer to a message in chunks, as it is computed.

        What was given when the caller stops listening counts as the answer.

        Args:
            message: What the user says.

        Raises:
            DataError: If the message alone is too long; the conversation then stays as it was.
        """
        before = list(self.turns)
        self.turns.append({"role": "user", "content": without_mark(message)})
        try:
            ids = self._fitting()
        except DataError:
            self.turns = before
            raise
        pieces = []
        try:
            for piece in self._generator.stream(ids, chat=True):
                pieces.append(piece)
                yield piece
        finally:
            self.turns.append({"role": "assistant", "content": "".join(pieces).strip()})

    def undo(self) -> bool:
        """Takes back the last message and its answer; returns whether there was one."""
        there = bool(self.turns)
        del self.turns[-2:]
        return there

    def reset(self) -> None:
        """Forgets all messages; the system's stays."""
        self.turns = []

    def _fitting(self) -> list[int]:
        """Returns the tokens of the conversation, and drops its oldest turns until they fit."""
        longest = self._generator.generator.longest
        self.dropped = 0
        while True:
            system = without_mark(self.system or "")
            start = [{"role": "system", "content": system}] if system.strip() else []
            ids = self._generator.encode_chat(start + self.turns)
            # Half of the positions are for the answer, at most.
            answer = 0 if longest is None else min(self._settings.max_new_tokens, longest // 2)
            if longest is None or len(ids) + answer <= longest or len(self.turns) == 1:
                self._generator.generator.room(ids, self._settings, "message")
                return ids
            del self.turns[:2]
            self.dropped += 2
