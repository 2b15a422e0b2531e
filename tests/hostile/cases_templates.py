"""Draws chat templates that were made to take memory or time, or to reach out."""

from __future__ import annotations

import random

_LARGE = [10**5, 10**6, 5 * 10**7, 10**9, 9 * 10**9, 10**12, 2**31 - 1, 2**63 - 1, 10**30, -(10**9)]
_SOME = [0, 1, 2, 30, 99, 1000]
_WIDE = [
    "{a}|center({n})",
    "{a}|indent({n}, true)",
    "{a}|indent({n}, true, true)",
    "'%{n}d' % 3",
    "'%.{n}f' % 3",
    "'%*d' % ({n}, 3)",
    "'{{:>{n}}}'.format('a')",
    "'{{0:{{1}}}}'.format('a', {n})",
    "'%{n}s'|format('a')",
    "{a}.ljust({n})",
    "{a}.rjust({n})",
    "{a}.zfill({n})",
    "{a}.center({n})",
    "('\\t' ~ {a}).expandtabs({n})",
    "{a} * {n}",
    "[{a}] * {n}",
    "({a},) * {n}",
    "{n} * {a}",
    "[1, [2]]|tojson(indent={n})",
    "{a}|wordwrap(1, wrapstring='x' * {n})",
    "({a} * 1000)|wordwrap({n})",
    "{a}|replace('a', 'x' * {n})",
    "({a} * 1000)|batch({n}, 'x')|list|length",
    "({a} * 1000)|slice({n})|list|length",
    "{a}|truncate({n})",
    "range({n})|list|length",
    "range({n})|sum",
    "range({n})|join('x' * {n})",
    "range({n})|map('string')|join|length",
    "range({n})|map('center', {n})|join",
    "range({n})|sort|reverse|list|length",
    "range({n})|groupby(0)|list",
    "(range({n})|list)[::-1]|unique|list|length",
    "range({n})|random",
    "{n} ** {n}",
    "{n} ** {m}",
    "9 ** 9 ** {m}",
    "{n} * {n} * {n}",
    "{n} // 7 % 3",
    "7.0 ** {n}",
    "{a}.join(range({n})|map('string'))",
    "{a}.encode('utf-32')|length",
    "{a}.split('a' * {n})",
    "({a} * 1000).replace('', {a} * {m})",
    "({a} * 1000).translate({{97: 'x' * {m}}})",
    "{n}|filesizeformat",
    "{a}|urlize({n})",
    "{n}|round({n})",
    "dict(a={n})|pprint",
    "{n}.to_bytes({m}, 'big')",
    "(1).__lshift__({n})",
    "{n}.bit_length()",
    "strftime_now('%' ~ {n} ~ 'd')",
    "strftime_now('%Y' * {n})",
    "lipsum(n={n})",
    "cycler(*range({n})).next()",
    "joiner({a} * {n})()",
    "namespace(a={a} * {n}).a|length",
]
_REACHING = [
    "''.__class__.__mro__[1].__subclasses__()",
    "self.__init__.__globals__",
    "cycler.__init__.__globals__['os'].popen('id').read()",
    "messages.append(messages)",
    "messages.clear()",
    "''['__cl' ~ 'ass__']",
    "''|attr('__class__')",
    "[]|map(attribute='__class__')|list",
    "messages|map(attribute='__class__.__mro__')|list",
    "'{0.__class__}'.format(messages)",
    "'{0[role]}'|format(messages)",
    "raise_exception(messages)",
    "raise_exception('x' * 9000000)",
    "().__class__.__base__.__subclasses__()|length",
    "range.__self__",
    "namespace.__init__.__func__",
    "caller()",
    "super()",
    "loop.index",
    "varargs",
    "self._TemplateReference__context.environment",
]
_NAMES = "count_step count_step_ range dict namespace messages loop self x".split()
_VALUES = ["dict", "range", "none", "0", "messages", "''", "namespace", "[]", "cycler"]
_STATEMENTS = [
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% from 'a' import b %}",
    "{% extends 'a' %}",
    "{% break %}",
    "{% continue %}",
    "{% generation %}{% endgeneration %}",
    "{% generation %}",
    "{% raw %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "{% autoescape true %}{{ '<' * 9 }}{% endautoescape %}",
    "{% do messages.append(1) %}",
    "{% debug %}",
    "{% trans %}a{% endtrans %}",
    "{% endfor %}",
    "{{",
    "{% for %}",
    "{#",
    "\0",
    "\ud800",
    "{{ '\\ud800' }}",
    '{{ "\\u0000" }}',
]


def draw_template(seed: int) -> str:
    """Returns the template of a seed."""
    draw = random.Random(seed)
    source = "".join(_part(draw) for _ in range(draw.choice([1, 1, 2, 4])))
    if draw.random() < 0.08:
        source = _noise(draw, source)
    return source


def _expression(draw: random.Random) -> str:
    if draw.random() < 0.15:
        return draw.choice(_REACHING)
    number = draw.choice(_LARGE if draw.random() < 0.7 else _SOME)
    text = draw.choice(["'a'", "'a b'", "bos_token", "messages[0].content", "('a' * 1000000)"])
    return draw.choice(_WIDE).format(a=text, n=number, m=draw.choice(_LARGE + _SOME))


def _part(draw: random.Random) -> str:
    kind = draw.choice(
        "expression expression expression doubling squaring loops shadow recursion macro deep long "
        "statement conversation".split()
    )
    if kind == "expression":
        shown = "{{ " + _expression(draw) + " }}"
        condition = draw.choice(["tools", "messages", "not tools"])
        if draw.random() < 0.2:
            return "{% if " + condition + " %}" + shown + "{% endif %}"
        return shown
    if kind == "doubling":
        sign, turns = draw.choice(["~", "+"]), draw.choice([20, 40, 90_000])
        if draw.random() < 0.5:
            sum_of = sign.join("a" * draw.choice([60, 3000]))
            return "{% set a = 'x' * 1000000 %}{{ " + sum_of + " }}"
        return (
            "{% set n = namespace(a='x' * 1000) %}{% for i in range(" + str(turns) + ") %}"
            "{% set n.a = n.a " + sign + " n.a %}{% endfor %}{{ n.a|length }}"
        )
    if kind == "squaring":
        sign = draw.choice(["*", "+", "**"])
        return (
            "{% set n = namespace(a=7) %}{% for i in range(90) %}{% set n.a = n.a "
            + sign + " n.a %}{% endfor %}{{ n.a }}"
        )  # fmt: skip
    if kind == "loops":
        depth, turns = draw.choice([1, 2, 5, 25]), draw.choice([9, 9999, 99999])
        inner = draw.choice(["", "{% if false %}{% endif %}", "{{ " + _expression(draw) + " }}"])
        loop = "{% for i in range(" + str(turns) + ") %}"
        return loop * depth + inner + "{% endfor %}" * depth
    if kind == "shadow":
        names = draw.choice(
            [
                "{% set NAME = VALUE %}",
                "{% for NAME in [VALUE] %}{% endfor %}",
                "{% set NAME %}x{% endset %}",
                "{% macro NAME() %}{% endmacro %}",
                "{% with NAME = VALUE %}{% endwith %}",
            ]
        )
        names = names.replace("NAME", draw.choice(_NAMES)).replace("VALUE", draw.choice(_VALUES))
        return names + "{% for i in range(99999) %}" * 2 + "{% endfor %}" * 2
    if kind == "recursion":
        calls = draw.choice([1, 2, 9])
        return draw.choice(
            [
                "{% for i in messages recursive %}"
                + "{{ loop(messages) }}" * calls
                + "{% endfor %}",
                "{% macro f(x) %}" + "{{ f(x) }}" * calls + "{% endmacro %}{{ f(1) }}",
                "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
                "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}{{ f() }}{% endcall %}",
            ]
        )
    if kind == "macro":
        many = "{% macro m{0}() %}{{ m{1}() }}{{ m{1}() }}{% endmacro %}"
        number = draw.choice([20, 200])
        return (
            "".join(
                many.replace("{0}", str(one)).replace("{1}", str(one + 1)) for one in range(number)
            )
            + "{{ m0() }}"
        )
    if kind == "deep":
        times = draw.choice([50, 500, 20_000])
        return draw.choice(
            [
                "{{ " + "(" * times + "1" + ")" * times + " }}",
                "{{ " + "[" * times + "]" * times + " }}",
                "{{ " + "{'a':" * times + "1" + "}" * times + " }}",
                "{{ " + "-" * times + "1 }}",
                "{{ " + "not " * times + "1 }}",
                "{% if true %}" * times + "{% endif %}" * times,
                "{{ messages" + "|list" * times + " }}",
                "{{ messages" + "[0]" * times + " }}",
                "{{ a" + ".a" * times + " }}",
                "{{ 1" + " if 1 else 1" * times + " }}",
            ]
        )
    if kind == "long":
        times = draw.choice([100, 3_000, 30_000])
        part = draw.choice(["{{ 'a' }}", "{% set a = 1 %}", "x" * 50, "{# c #}", "{{ 1 + 1 }}"])
        return part * times
    if kind == "statement":
        return draw.choice(_STATEMENTS)
    return (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content']|trim }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


def _noise(draw: random.Random, source: str) -> str:
    place = draw.randrange(len(source))
    sign = draw.choice(["{%", "%}", "{{", "}}", "#}", "'", "\0", "\u2028"])
    return draw.choice(
        [
            source[:place],
            source[place:],
            source[:place] + sign + source[place:],
            source * 3,
        ]
    )
