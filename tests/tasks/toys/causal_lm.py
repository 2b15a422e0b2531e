"""A book for a new model, and conversations for an adapter on a toy preset."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tasks.toy_task import Toy
from tests.toy_language_model import book_settings, chat_settings, write_book


def text(folder: Path, preset: Path | None) -> Toy:
    """A new GPT-2 learns the beginning of a book."""
    settings = _dictionary(book_settings(folder))
    test = write_book(folder / "test.txt", 2_000)
    return Toy(
        "gpt_lm",
        {
            **settings,
            "data.train": str(write_book(folder / "book.txt", 9_000)),
            "data.test": str(test),
            "data.vocabulary_size": 300,
            "model.layers": 2,
        },
        falls=0.85,
    )


def conversations(folder: Path, preset: Path) -> Toy:
    """An adapter learns to answer."""
    return Toy("gpt_sft_lora", _dictionary(chat_settings(folder, preset)), falls=0.6)


def _dictionary(settings: list[str]) -> dict:
    pairs = (setting.split("=", 1) for setting in settings)
    return {key: json.loads(value) for key, value in pairs}


VARIANTS = {"text": text, "conversations": conversations}
