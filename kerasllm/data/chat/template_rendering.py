"""Jinja for templates that came with a download: nothing to reach out of, nor to run for ever."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from kerasllm.errors import DataError

# No template that is meant well comes near: a conversation has a hundred messages, not a hundred thousand.
_MOST_STEPS = 100_000
_LONGEST = 1 << 24
_LARGEST_POWER = 64

_GENERATION_BLOCK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class SandboxedTemplate:
    """A chat template as transformers compiles it, with limits.

    Args:
        source: The Jinja source.
        where: The place to name in errors. Defaults to `None`.

    Attributes:
        has_generation_blocks: Whether the template marks by `{% generation %}` what the assistant
            says.

    Raises:
        DataError: The source is not Jinja.
    """

    def __init__(self, source: str, where: str | None = None):
        self._environment = _Environment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlocks, _StepCounter, loopcontrols],
        )
        try:
            self._template = self._environment.from_string(source)
        except (jinja2.TemplateSyntaxError, RecursionError) as error:
            line = getattr(error, "lineno", None)
            raise DataError(
                f"The chat template is not valid Jinja: {error}",
                where=f"{where}:{line}" if where and line else where,
                fix="correct the template, or choose a built-in one",
            ) from error
        self.has_generation_blocks = bool(_GENERATION_BLOCK.search(source))

    def render(self, variables: Mapping[str, Any], marks: tuple[str, str] | None = None) -> str:
        """Returns the text that the template makes.

        Args:
            variables: What the template can see, plain JSON values.
            marks: What to put before and after each `{% generation %}` block. Defaults to `None`.

        Raises:
            DataError: The template fails, or does what a template may not.
        """
        self._environment.marks = marks
        self._environment.steps = 0
        try:
            return self._template.render(variables)
        except SecurityError as error:
            what = f"The chat template does what a template may not: {error}"
        except jinja2.TemplateError as error:
            what = f"The chat template refuses the conversation: {error}"
        except RecursionError:
            what = "The chat template calls itself without an end"
        except Exception as error:  # whatever Python makes of the template's expressions
            what = f"The chat template fails: {type(error).__name__}: {error}"
        raise DataError(what, fix="correct the conversation, or choose another template")


class _StepCounter(Extension):
    """Counts the turns of loops and the calls of macros.

    Jinja has no limit for them, and a few loops in each other never end.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Puts a call of the counter at the beginning of each body."""
        counted = False
        before = None
        for token in stream:
            yield token
            if before == "block_begin":
                counted = token.test_any("name:for", "name:macro")
            if token.type == "block_end" and counted:
                counted = False
                line = token.lineno
                yield Token(line, "variable_begin", "{{")
                yield Token(line, "name", "count_step")
                yield Token(line, "lparen", "(")
                yield Token(line, "rparen", ")")
                yield Token(line, "variable_end", "}}")
            before = token.type


class _GenerationBlocks(Extension):
    """The blocks `{% generation %}` ... `{% endgeneration %}` of transformers."""

    tags: ClassVar = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        """Reads a block; its text goes through `_marked`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        start, end = self.environment.marks or ("", "")
        return f"{start}{caller()}{end}"


class _Environment(ImmutableSandboxedEnvironment):
    """What transformers gives to a template, and no more."""

    intercepted_binops = frozenset(["*", "**"])

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.marks: tuple[str, str] | None = None
        self.steps = 0
        # It writes as much text as it is asked to.
        self.globals.pop("lipsum")
        self.globals.update(
            raise_exception=_raise_exception,
            strftime_now=lambda form: datetime.datetime.now().strftime(form),
            count_step=self._count_step,
        )
        self.filters["tojson"] = _to_json

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Multiplies, unless the result would fill the memory."""
        numbers = [side for side in (left, right) if isinstance(side, (int, float))]
        sizes = [len(side) for side in (left, right) if isinstance(side, (str, list, tuple))]
        if operator == "**" and any(abs(number) > _LARGEST_POWER for number in numbers):
            raise SecurityError(f"it asks for {left} ** {right}")
        if sizes and numbers and sizes[0] * numbers[0] > _LONGEST:
            raise SecurityError(f"it repeats {sizes[0]} items {numbers[0]} times")
        return super().call_binop(context, operator, left, right)

    def _count_step(self) -> str:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise SecurityError(f"its loops take more than {_MOST_STEPS:,} turns")
        return ""


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes HTML, which no model expects."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
