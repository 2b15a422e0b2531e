"""Chat templates that were made to do harm: bounded in time and memory, refused in words."""

import resource
import time

import pytest

from kerasllm.data.chat import template_sandbox
from kerasllm.data.chat.template_sandbox import SandboxedTemplate
from kerasllm.errors import DataError
from tests.hostile.cases_templates import draw_template
from tests.hostile.harness import refusal

CASES, MORE = 100, 1000
MESSAGES = [
    {"role": role, "content": f"What is {number}?\n\n"}
    for number in range(4)
    for role in ("user", "assistant")
]
VARIABLES = {
    "messages": MESSAGES,
    "tools": None,
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
}


def render(source: str) -> None:
    text = SandboxedTemplate(source).render(VARIABLES)
    assert len(text) <= 1 << 24
    assert "root:" not in text


def try_out(seed: int) -> bool:
    began = time.monotonic()
    refused = refusal(render, draw_template(seed))
    # To compile it and to render it, and to begin another process.
    assert time.monotonic() - began < 2 * template_sandbox.SECONDS + 3
    assert refused is None or len(refused) < 2000
    return refused is not None


def still_works() -> bool:
    return SandboxedTemplate("{{ messages|length }}").render(VARIABLES) == "8"


def test_drawn_templates_are_rendered_or_refused(monkeypatch):
    # Those that take too long are ended sooner: there are many of them.
    monkeypatch.setattr(template_sandbox, "SECONDS", 0.3)
    refused = sum(try_out(seed) for seed in range(CASES))
    assert CASES // 3 < refused < CASES
    monkeypatch.undo()
    assert still_works()


@pytest.mark.slow
def test_a_thousand_drawn_templates_are_rendered_or_refused():
    # In KiB, of the largest process that this one has started; other tests start some as well.
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    for seed in range(CASES, CASES + MORE):
        try_out(seed)
    assert still_works()
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert largest < 700 << 10 or largest == before


@pytest.mark.parametrize("message", ["x" * 9_000_000, "\ud800", "\0"])
def test_what_a_template_says_of_a_conversation_is_cut(message):
    template = SandboxedTemplate("{{ raise_exception(messages[0].content) }}")
    with pytest.raises(DataError) as refused:
        template.render({"messages": [{"role": "user", "content": message}]})
    assert len(str(refused.value)) < 2000
    str(refused.value).encode()
