"""Chat templates of downloaded models, rendered in a sandbox with time and memory limits."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasllm.data.chat import template_rendering
from kerasllm.data.chat.template_rendering import LENGTH, MEMORY, SECONDS
from kerasllm.errors import DataError

_GENERATION_BLOCK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_FIX = "correct the conversation, or choose another template"
_CHOOSE = "correct the template, or choose a built-in one"


class SandboxedTemplate:
    """A chat template as transformers compiles it, with limits of time and memory.

    It is compiled and rendered in a process of its own, which all templates share and which stays
    for the next one. A template that once took too long or too much is refused from then on.

    Args:
        source: The Jinja source.
        where: The place to name in errors. Defaults to `None`.
        trusted: Whether the source is kerasllm's own: it is rendered in this process, which is
            faster. Defaults to `False`.

    Attributes:
        has_generation_blocks: Whether the template marks by `{% generation %}` what the assistant
            says.

    Raises:
        DataError: The source is not Jinja, or its compilation takes too much.
    """

    def __init__(self, source: str, where: str | None = None, *, trusted: bool = False):
        self._source = source
        self._refused: str | None = None
        self._renderer = template_rendering.Renderer(source) if trusted else None
        self.has_generation_blocks = bool(_GENERATION_BLOCK.search(source))
        if not trusted:
            answer = self._ask(None, None)
            if "error" in answer:
                line = answer.get("line")
                place = f"{where}:{line}" if where and line else where
                raise DataError(answer["error"], where=place, fix=_CHOOSE)

    def render(self, variables: Mapping[str, Any], marks: tuple[str, str] | None = None) -> str:
        """Returns the text that the template makes.

        Args:
            variables: What the template can see, plain JSON values.
            marks: What to put before and after each `{% generation %}` block. Defaults to `None`.

        Raises:
            DataError: The template fails, or does what a template may not.
        """
        if self._renderer is not None:
            try:
                return self._renderer.render(variables, marks)
            except Exception as error:
                raise DataError(template_rendering.what_went_wrong(error), fix=_FIX) from error
        answer = self._ask(variables, marks)
        if "error" in answer:
            raise DataError(answer["error"], fix=_FIX)
        return answer["text"]

    def _ask(self, variables: Mapping | None, marks: tuple[str, str] | None) -> dict:
        if self._refused is not None:
            return {"error": self._refused}
        try:
            request = json.dumps({"source": self._source, "variables": variables, "marks": marks})
        except (RecursionError, ValueError, TypeError) as error:
            return {"error": f"The conversation cannot be given to a chat template: {error}"}
        answer = _process().ask(request.encode())
        if answer is None:
            self._refused = (
                f"The chat template needs more than {SECONDS} seconds or "
                f"{MEMORY >> 20} MB of memory"
            )
            return {"error": self._refused}
        return answer


class _Process:
    """The process that renders templates, begun with the first one, and again where it ended."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        atexit.register(self._end)

    def ask(self, request: bytes) -> dict | None:
        """Returns the answer; `None` where the process had to be ended, or ended itself."""
        with self._lock:
            # It may have been ended since it was last asked, by the system or by somebody.
            if self._process is None or self._process.poll() is not None:
                self._process = _begin()
            try:
                self._process.stdin.write(LENGTH.pack(len(request)) + request)
                self._process.stdin.flush()
                return json.loads(self._read(time.monotonic() + SECONDS))
            except (OSError, TimeoutError, EOFError):
                self._end()
                return None
            except BaseException:
                # Ctrl-C: an answer that is still to come would be taken for the next one's.
                self._end()
                raise

    def _read(self, deadline: float) -> bytes:
        size = LENGTH.unpack(self._read_bytes(LENGTH.size, deadline))[0]
        return self._read_bytes(size, deadline)

    def _read_bytes(self, size: int, deadline: float) -> bytes:
        stream, found = self._process.stdout.fileno(), bytearray()
        while len(found) < size:
            if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            if not (block := os.read(stream, size - len(found))):
                raise EOFError
            found += block
        return bytes(found)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin = process.stdout = None


@functools.cache
def _process_of(pid: int) -> _Process:
    return _Process()


def _process() -> _Process:
    # After a fork the parent's belongs to the parent.
    return _process_of(os.getpid())


def _begin() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", str(Path(template_rendering.__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        # Ctrl-C is for the program that waits.
        start_new_session=True,
    )
