"""Whatever a template does, it ends: in time, in memory, and with a message."""

import os
import resource
import signal
import statistics
import threading
import time

import pytest

from kerasllm.data.chat import template_sandbox
from kerasllm.data.chat.template_sandbox import SandboxedTemplate
from kerasllm.data.chat.templates import BUILT_IN
from kerasllm.errors import DataError

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
    "start_token": "<s>",
}
LONG = "x" * 100
HOSTILE = [
    # Constants, which are folded while the template is compiled.
    *("{{ 'a'|center(%d) }}" % 10**size for size in (9, 10, 18)),  # noqa: UP031 - braces
    *("{{ 'a'|indent(%d, true) }}" % 10**size for size in (9, 12)),  # noqa: UP031 - braces
    "{{ '%2000000000d' % 3 }}",
    "{{ '%.2000000000f' % 3 }}",
    "{{ '{:>2000000000}'.format('a') }}",
    "{{ 'a'.ljust(5000000000) }}",
    "{{ 'a'.zfill(5000000000) }}",
    "{{ 'a'.rjust(5000000000)|length }}",
    "{{ 'a'.expandtabs(5000000000) }}",
    "{{ ('\\t' * 1000000).expandtabs(100000) }}",
    "{{ [1, [2]]|tojson(indent=900000000) }}",
    "{{ 'a b'|wordwrap(1, wrapstring='x' * 16000000) }}",
    "{{ ('a ' * 1000000)|replace('a', 'x' * 16000) }}",
    "{{ ('x' * 16000000).replace('x', 'x' * 16000000) }}",
    "{{ ('x' * 16000000)|batch(1)|list|length }}",
    "{{ ('a,' * 8000000).split(',')|sort|join('x' * 1000) }}",
    "{{ ('x' * 10000000)|list|sort|length }}",
    "{{ ('x' * 8000000)|urlize }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ 7 * 10 ** 60 * 10 ** 60 * 10 ** 60 }}",
    "{{ 64 ** 64 * 64 ** 64 }}",
    # While it is rendered.
    "{% set a = 'x' * 10000000 %}{{ " + "~".join("a" * 60) + " }}",
    "{% set a = 'x' * 10000000 %}{{ " + "+".join("a" * 60) + " }}",
    (
        "{% set n = namespace(a='x' * 10000) %}{% for i in range(60) %}{% set n.a = n.a + n.a %}"
        "{% endfor %}{{ n.a|length }}"
    ),
    (
        "{% set n = namespace(a=7) %}{% for i in range(90) %}{% set n.a = n.a * n.a %}{% endfor %}"
        "{{ n.a }}"
    ),
    (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% if false %}{% endif %}"
        "{% endfor %}{% endfor %}"
    ),
    "{% for i in range(9999) %}{{ range(99999)|sum }}{% endfor %}",
    "{% for i in range(9999) %}{{ range(99999)|map('string')|join|length }}{% endfor %}",
    "{{ range(99999)|map('center', 99999)|join|length }}",
    "{% for i in range(99999) %}{{ messages|tojson|length }}{% endfor %}" * 99,
    # What counts the turns of loops is set to something else.
    (
        "{% set count_step = dict %}{% for i in range(99999) %}{% for j in range(99999) %}"
        "{% endfor %}{% endfor %}"
    ),
    (
        "{% set count_step = dict %}{% set count_step_ = dict %}{% for i in range(99999) %}"
        "{% for j in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "{% macro f(count_step) %}{{ f(1) }}{{ f(1) }}{% endmacro %}{{ f(1) }}",
    "{% for i in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    # Deep, long, or both.
    "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "{{ " + "[" * 5_000 + "]" * 5_000 + " }}",
    "{{ " + "-" * 100_000 + "1 }}",
    "{% if true %}" * 3_000 + "{% endif %}" * 3_000,
    "{{ " + "~".join(["'a'"] * 50_000) + " }}",
    "{% for i in range(9) %}" * 25 + "{% endfor %}" * 25,
    "{{ messages" + "|list" * 20_000 + " }}",
    # Out of the sandbox.
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append(messages) }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ lipsum(n=100000) }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ '{0.__class__}'|format(messages) }}",
    "{% break %}",
    "{% generation %}",
    "{{ raise_exception('no') }}",
    "{{ strftime_now('%' + 'Y' * 1000000) }}",
]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Templates that take too long are ended sooner: there are many of them."""
    monkeypatch.setattr(template_sandbox, "SECONDS", 1)


@pytest.mark.parametrize("source", HOSTILE, ids=lambda source: repr(source[:40]))
def test_it_ends_whatever_it_does(source):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    try:
        text = SandboxedTemplate(source).render(VARIABLES)
    except DataError as error:
        assert len(str(error)) < 1000
    else:
        assert len(text) <= 1 << 24
    assert time.monotonic() - began < 4
    # In KiB: what the process that asked has taken more.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    assert SandboxedTemplate("{{ messages|length }}").render(VARIABLES) == "8"


def test_one_that_took_too_long_is_not_tried_again():
    endless = SandboxedTemplate(
        "{% if tools %}{% for i in range(9999) %}{{ range(99999)|sum }}{% endfor %}{% endif %}ok"
    )
    assert endless.render(VARIABLES) == "ok"
    with pytest.raises(DataError, match="needs more than 1 seconds or 512 MB"):
        endless.render({**VARIABLES, "tools": [1]})
    began = time.monotonic()
    with pytest.raises(DataError, match="needs more than 1 seconds or 512 MB"):
        endless.render(VARIABLES)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_text_is_that_of_this_process(name):
    marks = ("<", ">")
    foreign, own = (SandboxedTemplate(BUILT_IN[name], trusted=each) for each in (False, True))
    for messages in (MESSAGES, [{"role": "user", "content": "π \ud83d \U0001f600 \0"}]):
        variables = {**VARIABLES, "messages": messages}
        assert foreign.render(variables, marks) == own.render(variables, marks)


@pytest.mark.parametrize(
    "source", ["{{ messages.a.b }}", "{{ 1 / 0 }}", "{{ raise_exception('no') }}", "{{ 9 ** 99 }}"]
)
def test_refusals_are_those_of_this_process(source):
    refusals = []
    for trusted in (False, True):
        with pytest.raises(DataError) as refusal:
            SandboxedTemplate(source, trusted=trusted).render(VARIABLES)
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]


def test_a_conversation_takes_less_than_two_milliseconds():
    template, seconds = SandboxedTemplate(BUILT_IN["chatml"]), []
    for _ in range(50):
        began = time.perf_counter()
        template.render(VARIABLES)
        seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 0.002


def test_threads_and_forks_get_their_own_texts():
    template = SandboxedTemplate("{{ number }}")
    found = {}

    def render(number):
        found[number] = {template.render({"number": number}) for _ in range(20)}

    threads = [threading.Thread(target=render, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    child = os.fork()
    if not child:
        os._exit([template.render({"number": n}) for n in range(50)] != list(map(str, range(50))))
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert found == {number: {str(number)} for number in range(8)}


def test_a_process_that_was_ended_is_begun_again():
    template = SandboxedTemplate("{{ number }}")
    process = template_sandbox._process()._process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert template.render({"number": 3}) == "3"


def test_a_conversation_that_no_json_holds_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    template = SandboxedTemplate("{{ messages }}")
    for messages in (deep, {1, 2}):
        with pytest.raises(DataError, match="cannot be given to a chat template"):
            template.render({"messages": messages})


def test_its_process_has_little_to_reach():
    template = SandboxedTemplate("x")
    maps = open(f"/proc/{template_sandbox._process()._process.pid}/maps").read()
    assert "tensorflow" not in maps and "numpy" not in maps
    assert template.render({}) == "x"
