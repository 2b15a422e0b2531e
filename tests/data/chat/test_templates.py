"""Chat templates make the text that transformers makes, and cannot do harm."""

import json
import time
from pathlib import Path

import jinja2
import pytest

from kerasllm.data.chat import templates as chat_templates
from kerasllm.data.chat.templates import BUILT_IN, ChatTemplate, built_in, own, read_template
from kerasllm.data.tokenizers import TokenizerJson, from_folder
from kerasllm.errors import DataError

REFERENCE = Path(__file__).parents[2] / "reference" / "chat"
CHATS = json.loads((REFERENCE / "expected.json").read_text(encoding="utf-8"))["chats"]
TOY = from_folder(REFERENCE)
QUESTION = [{"role": "user", "content": "Hi"}]


def template_of(chat):
    if chat["template"] in BUILT_IN:
        return built_in(chat["template"], TOY)
    return own(chat["source"], TOY)


def test_texts_and_prompts_are_those_of_transformers():
    assert {chat["template"] for chat in CHATS} > set(BUILT_IN)
    for chat in CHATS:
        template = template_of(chat)
        assert template.source == chat["source"]
        assert template.render(chat["messages"]) == chat["text"]
        prompt = template.render(chat["messages"][:-1], add_generation_prompt=True)
        assert prompt == chat["prompt"]


def test_an_answer_continues_its_prompt():
    for name in BUILT_IN:
        template = built_in(name, TOY)
        prompt = template.render(QUESTION, add_generation_prompt=True)
        whole = template.render([*QUESTION, {"role": "assistant", "content": "Yo"}])
        assert whole.startswith(prompt)
        answer, stop = whole[len(prompt) :].split("Yo")
        assert not answer.strip()
        assert stop.strip().startswith(template.stop)


def test_models_without_a_system_role_read_it_in_the_first_question():
    said = [{"role": "system", "content": "Be brief."}, *QUESTION]
    assert "user\nBe brief.\n\nHi<end_of_turn>" in built_in("gemma", TOY).render(said)
    assert "[INST] Be brief.\n\nHi [/INST]" in built_in("mistral", TOY).render(said)


def test_plain_begins_with_the_start_token_only_where_the_tokenizer_does():
    assert built_in("plain", TOY).render(QUESTION) == "<|endoftext|>User: Hi\n"
    named = TokenizerJson(TOY.content, named_tokens={"bos_token": "<|im_start|>"})
    assert built_in("plain", named).render(QUESTION) == "User: Hi\n"


def test_stop_texts_are_those_that_the_models_own_template_writes():
    assert own(BUILT_IN["llama3"], TOY).stop == ("<|eot_id|>", "<|im_end|>")
    assert built_in("gemma", TOY).stop == ("<end_of_turn>", "<|im_end|>")
    assert built_in("chatml", TOY).stop == ("<|im_end|>",)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ raise_exception('roles must alternate') }}", "rejects.*roles must alternate"),
        ("{{ messages[0].nothing.at_all }}", "rejects.*no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself"),
        ("{% include 'secrets' %}", "fails"),
        ("{{ ''.__class__.__mro__ }}", "not allowed.*__class__"),
        ("{{ messages.append(1) }}", "not allowed"),
        ("{{ 'x' * 10 ** 12 }}", "not allowed"),
        ("{{ [0] * 100000000 }}", "not allowed.*repeats"),
        ("{{ 7 ** 7 ** 7 ** 7 }}", "not allowed.*asks for"),
        ("{{ lipsum(n=100000000) }}", "rejects.*undefined"),
        ("{% for i in range(99999999) %}{% endfor %}", "fails: OverflowError"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            "not allowed.*100,000 turns",
        ),
        (
            (
                "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
                "{{ f(99) }}"
            ),
            "not allowed.*100,000 turns",
        ),
    ],
)
def test_a_template_that_fails_or_does_harm_is_stopped(source, said):
    begin = time.monotonic()
    with pytest.raises(DataError, match=said):
        ChatTemplate(source).render(QUESTION)
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    "source",
    [
        "{%- for m in messages -%}\n  {{- m.role }}: {{ m.content -}}\n{% endfor %}\nx\n",
        "{% for m in messages %}\n  {% if loop.first %}a{% endif %}\n {{ m.role }}\n{% endfor %}",
        "{% macro f(x) %}\n  {{ x }}!\n{% endmacro %}\n{{ f(1) ~ f(2) | upper }}",
        "{% for x in range(9) if x % 2 %}{{ x }}{% else %}none{% endfor %}",
        "{% set s %}{% for x in 'abc' %}{{ x }} {% endfor %}{% endset %}{{ s | trim }}",
    ],
)
def test_counting_steps_changes_no_text(source):
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    expected = plain.render(messages=QUESTION * 2)
    assert ChatTemplate(source).render(QUESTION * 2) == expected


def test_loops_can_be_left():
    source = "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert ChatTemplate(source).render(QUESTION) == "01"


def test_json_is_written_as_models_expect_it():
    assert ChatTemplate("{{ messages | tojson }}").render([{"content": "<é>"}]) == (
        '[{"content": "<é>"}]'
    )
    assert ChatTemplate("{{ strftime_now('%Y') | length }}").render([]) == "4"


def test_source_that_is_not_jinja_is_refused_with_its_line():
    with pytest.raises(DataError, match="not valid Jinja") as error:
        ChatTemplate("a\n{% for x in %}", where="model/chat_template.jinja")
    assert error.value.where == "model/chat_template.jinja:2"


def test_the_template_of_a_folder_is_found_where_hubs_put_it(tmp_path):
    assert read_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"eos_token": "x"}')
    assert read_template(tmp_path) is None
    config.write_text('{"chat_template": "one"}')
    assert read_template(tmp_path) == "one"
    config.write_text(
        '{"chat_template": [{"name": "rag", "template": "r"}, '
        '{"name": "default", "template": "d"}]}'
    )
    assert read_template(tmp_path) == "d"
    ChatTemplate("own").save(tmp_path)
    assert read_template(tmp_path) == "own"
    (tmp_path / "huggingface").mkdir()
    ChatTemplate("preset").save(tmp_path / "huggingface")
    assert read_template(tmp_path) == "preset"
    (tmp_path / "huggingface" / chat_templates.TEMPLATE_FILE).write_bytes(b"\xff")
    with pytest.raises(DataError, match="cannot be read"):
        read_template(tmp_path)


def test_fingerprints_tell_templates_and_their_tokens_apart():
    prints = {built_in(name, TOY).fingerprint for name in BUILT_IN}
    assert len(prints) == len(BUILT_IN)
    other = TokenizerJson(TOY.content, end_token="<|im_start|>")
    assert built_in("plain", other).fingerprint not in prints
    with pytest.raises(ValueError, match="name='vicuna'"):
        built_in("vicuna", TOY)
