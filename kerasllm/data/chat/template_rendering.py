"""Compiles and renders the chat templates of downloaded models, in a separate process.

Jinja's sandbox keeps a template from reaching out. It bounds neither time nor memory: constants are
folded while a template is compiled, and loops in each other never end. So this file is run as a
program, by `kerasllm.data.chat.template_sandbox`, in a process whose limits hold for any template.
It imports only Jinja and the standard library, because it has to start quickly.
"""

from __future__ import annotations

import collections
import datetime
import json
import resource
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, ClassVar

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

# No template that is meant well comes near: a conversation has a hundred messages, not a hundred
# thousand.
_MOST_STEPS = 100_000
_LONGEST = 1 << 24
_LARGEST_POWER = 64
# A template may refuse a conversation with all of its text.
_LONGEST_MESSAGE = 1000
# Compiled templates that are kept.
_MOST_KEPT = 32
# Of the counter of steps: a name that the source does not hold, so that it cannot be set.
_COUNTER = "count_step"

MEMORY = 512 << 20
"""Bytes that the process may take, beside what it has when it begins."""

SECONDS = 5
"""How long compiling or rendering a template may take."""

LENGTH = struct.Struct("<I")
"""How a message begins: with the number of its bytes."""


class Renderer:
    """A chat template as transformers compiles it.

    Args:
        source: The Jinja source.

    Raises:
        jinja2.TemplateSyntaxError: The source is not Jinja.
    """

    def __init__(self, source: str):
        counter = _COUNTER
        while counter in source:
            counter += "_"
        self._environment = _Environment(
            counter,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlocks, _StepCounter, loopcontrols],
        )
        self._template = self._environment.from_string(source)

    def render(self, variables: Mapping[str, Any], marks: tuple[str, str] | None = None) -> str:
        """Returns the text that the template makes.

        Args:
            variables: What the template can see, plain JSON values.
            marks: What to put before and after each `{% generation %}` block. Defaults to `None`.
        """
        self._environment.marks = marks
        self._environment.steps = 0
        text = self._template.render(variables)
        if len(text) > _LONGEST:
            raise SecurityError(f"it writes {len(text):,} characters")
        return text


def what_went_wrong(error: BaseException) -> str:
    """Says in words why a template was not compiled or not rendered."""
    text = _in_words(error)
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."


def _in_words(error: BaseException) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"The chat template is not valid Jinja: {error}"
    if isinstance(error, SecurityError):
        return f"The chat template does something that is not allowed: {error}"
    if isinstance(error, jinja2.TemplateError):
        return f"The chat template rejects the conversation: {error}"
    if isinstance(error, RecursionError):
        return "The chat template calls itself endlessly"
    if isinstance(error, MemoryError):
        return f"The chat template needs more than {MEMORY >> 20} MB of memory"
    return f"The chat template fails: {type(error).__name__}: {error}"


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
                yield Token(line, "name", self.environment.counter)
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

    def __init__(self, counter: str, **kwargs: Any):
        # The extensions ask for it.
        self.counter = counter
        super().__init__(**kwargs)
        self.marks: tuple[str, str] | None = None
        self.steps = 0
        # It writes as much text as it is asked to.
        self.globals.pop("lipsum")
        self.globals.update(
            raise_exception=_raise_exception,
            strftime_now=lambda form: datetime.datetime.now().strftime(form),
        )
        self.globals[counter] = self._count_step
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


# The process


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more.

    A request is the object `{"source", "variables", "marks"}` in JSON; without `variables` the
    template is only compiled. An answer is `{"text"}`, or `{"error", "line"}`.
    """
    kept: collections.OrderedDict[str, Renderer] = collections.OrderedDict()
    while head := requests.read(LENGTH.size):
        content = requests.read(*LENGTH.unpack(head))
        _limit_time()
        try:
            answer = {"text": _answer(kept, **json.loads(content))}
        except Exception as error:  # noqa: BLE001 - the answer says it
            answer = {"error": what_went_wrong(error), "line": getattr(error, "lineno", None)}
        content = json.dumps(answer).encode()
        answers.write(LENGTH.pack(len(content)) + content)
        answers.flush()


def _answer(
    kept: collections.OrderedDict[str, Renderer],
    source: str,
    variables: dict | None,
    marks: list[str] | None,
) -> str | None:
    renderer = kept.pop(source, None) or Renderer(source)
    kept[source] = renderer
    if len(kept) > _MOST_KEPT:
        kept.popitem(last=False)
    return None if variables is None else renderer.render(variables, marks)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        # Only Linux says, and only Linux keeps the limit.
        return
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


def _limit_time() -> None:
    """Ends the process where a request takes too long and nobody waits for it any more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + SECONDS + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


if __name__ == "__main__":
    _limit_memory()
    serve(sys.stdin.buffer, sys.stdout.buffer)
