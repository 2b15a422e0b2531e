"""A tiny model that writes words, as a task would open it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tokenizers

from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from tests.generation.models import VOCABULARY, tiny

_SPECIAL = ["<start>", "<end>", "<user>", "<model>", "<system>", "<unk>"]
WORDS = [f"word{number}" for number in range(VOCABULARY - len(_SPECIAL))]
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<' + ('model' if message.role == 'assistant' else message.role) + '> ' }}"
    "{{ message.content }} {% if message.role == 'assistant' %}<end> {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)


@pytest.fixture(scope="session")
def writer():
    """A model with the attributes of `kerasllm.models.causal_lm.CausalLM` that generation uses."""
    vocabulary = {word: number for number, word in enumerate([*_SPECIAL, *WORDS])}
    engine = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    engine.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    engine.add_special_tokens(_SPECIAL)
    tokenizer = TokenizerJson(engine.to_str(), start_token="<start>", end_token="<end>")

    class Writer(SimpleNamespace):
        __hash__ = object.__hash__

    template = ChatTemplate(TEMPLATE, stop=["<end>"])
    return Writer(task=tiny("gpt2"), tokenizer=tokenizer, chat_template=template, max_length=40)


@pytest.fixture
def opened(writer, monkeypatch):
    """Makes `kerasllm generate any_name` open the tiny model; returns it."""
    from kerasllm.tasks.task import task_of_presets

    monkeypatch.setattr(type(task_of_presets()), "open", lambda self, folder, **_: writer)
    return writer
