"""The one model that the page has open to try, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

from kerasllm.errors import KerasllmError

_OPEN_SECONDS = 300
_ANSWER_SECONDS = 120
_IDLE_SECONDS = 900
_MOST_BYTES = 16_000_000


class Trials:
    """Opens the model of a run when it is first tried, and closes the one before.

    Its process ends with the page's, when it had no request for a quarter of an hour, and when it
    takes too long. What happens in it reaches neither the page nor a training.
    """

    def __init__(self):
        self._lock = asyncio.Lock()
        self._path: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._fields: list[str] = []

    async def open(self, path: Path) -> list[str]:
        """Returns the names of the texts that the model of a run takes.

        Raises:
            KerasllmError: If it cannot be opened.
        """
        async with self._lock:
            await self._need(path)
            return self._fields

    async def ask(self, path: Path, texts: list[str]) -> dict[str, Any]:
        """Returns what the model of a run makes of texts.

        Raises:
            KerasllmError: If it cannot be opened, or refuses them.
        """
        async with self._lock:
            await self._need(path)
            question = json.dumps({"texts": texts}) + "\n"
            self._process.stdin.write(question.encode())
            return await self._answer(_ANSWER_SECONDS)

    async def close(self) -> None:
        """Ends the process, if there is one."""
        if self._idle:
            self._idle.cancel()
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = self._path = self._idle = None

    async def _need(self, path: Path) -> None:
        if self._path == path and self._process.returncode is None:
            self._wait_for_more()
            return
        await self.close()
        command = [sys.executable, "-m", "kerasllm.watch.trial", str(path)]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_MOST_BYTES,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self._fields = (await self._answer(_OPEN_SECONDS))["fields"]
        self._path = path
        self._wait_for_more()

    async def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
        except (TimeoutError, ValueError):
            await self.close()
            raise KerasllmError("The model took too long, and was closed") from None
        if not line:
            await self.close()
            raise KerasllmError(
                "The process that tries the model ended",
                fix="find out why with `kerasllm predict`; it may have run out of memory",
            )
        answer = json.loads(line)
        if "error" in answer:
            raise KerasllmError(answer["error"])
        return answer

    def _wait_for_more(self) -> None:
        if self._idle:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(_IDLE_SECONDS, lambda: loop.create_task(self.close()))
