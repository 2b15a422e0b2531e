"""Toy language models, and text and conversations for them, for tests of whole commands."""

from __future__ import annotations

import json
from pathlib import Path

from kerasllm.data.starters import find_starter

ANSWERS = {"sea": "cold", "whale": "white", "ship": "sank"}
# Next to nothing around what is said, so that several conversations fit into 32 tokens.
_TEMPLATE = """\
{% for message in messages %}{{ message.content }}\
{% if message.role == "assistant" %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"""


def write_book(path: Path, characters: int = 24_000) -> Path:
    """Writes the beginning of Moby Dick."""
    book = find_starter("starter:moby_dick", "train")[1].read_text(encoding="utf-8")
    path.write_text(book[2000 : 2000 + characters], encoding="utf-8")
    return path


def write_chats(path: Path, count: int = 60) -> Path:
    """Writes short conversations of one or two exchanges."""
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            things = list(ANSWERS)[number % 3 :][: 1 + number % 2]
            messages = []
            for thing in things:
                messages.append({"role": "user", "content": f"{thing}?"})
                messages.append({"role": "assistant", "content": ANSWERS[thing]})
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def book_settings(folder: Path) -> list[str]:
    """Returns the overrides that make `gpt_lm` a toy run of a few seconds that learns."""
    return _settings(
        {
            "data.train": str(write_book(folder / "book.txt")),
            "data.vocabulary_size": 400,
            "data.max_length": 32,
            "model.layers": 1,
            "model.heads": 2,
            "model.width": 32,
            "training.epochs": 2,
            "training.batch_size": 16,
            "training.learning_rate": 0.01,
            "training.precision": "float32",
            "training.log_every": 4,
            "training.sample_every": None,
            "training.sample_tokens": 6,
        }
    )


def chat_settings(folder: Path, preset: Path) -> list[str]:
    """Returns the overrides that make `gpt_sft_lora` a toy run that learns."""
    template = folder / "template.jinja"
    template.write_text(_TEMPLATE, encoding="utf-8")
    return _settings(
        {
            "model.preset": str(preset),
            # A toy base knows too little for an adapter alone.
            "model.lora.train": ["embeddings"],
            "data.train": str(write_chats(folder / "chats.jsonl")),
            "data.test": str(write_chats(folder / "test.jsonl", 12)),
            # There are few different ones.
            "data.leaks": "warn",
            "data.chat_template": str(template),
            "data.max_length": 32,
            "data.too_long": "cut",
            "training.epochs": 3,
            "training.learning_rate": 0.02,
            "training.precision": "float32",
            "training.log_every": 2,
        }
    )


def _settings(settings: dict) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def save_toy_decoder(folder: Path) -> Path:
    """Writes a small GPT-2 with random weights, and a tokenizer of the beginning of Moby Dick."""
    from kerasllm.recipe import load
    from kerasllm.tasks.task import task_of

    folder.mkdir(parents=True)
    recipe = load("gpt_lm", [*book_settings(folder), "model.layers=2"])
    task = task_of(recipe)
    model = task.build(recipe, task.load(recipe), "float32")
    model.save_to_preset(folder / "toy")
    return folder / "toy"
