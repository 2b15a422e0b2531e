"""A server process, and clients of it that ask over connections of their own."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

COMMAND = (sys.executable, "-m", "kerasllm")


@dataclass(frozen=True)
class Started:
    """A server that answers.

    Attributes:
        host: Its host and port, as `127.0.0.1:8000`.
        pid: Its process.
    """

    host: str
    pid: int


@contextmanager
def server(run: str, *options: str, seconds_to_end: float = 60) -> Iterator[Started]:
    """Runs `kerasllm serve` while the block lasts; it must end well when it is told to."""
    command = [*COMMAND, "serve", run, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        first = process.stdout.readline()
        if "http://" not in first:
            raise SystemExit("The server did not start")
        yield Started(first.rpartition("http://")[2].strip(), process.pid)
        process.send_signal(signal.SIGTERM)
        if process.wait(seconds_to_end):
            raise SystemExit(f"The server ended with status {process.returncode}")
    finally:
        process.kill()


def get(host: str, path: str) -> bytes:
    """Returns what a server answers to GET."""
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def generates(host: str) -> bool:
    """Whether the model of a server writes text."""
    return "/v1/completions" in json.loads(get(host, "/openapi.json"))["paths"]


@dataclass
class Answered:
    """What a request was answered with.

    Attributes:
        status: The HTTP status.
        first: Seconds until the first bytes of the body were there.
        body: The body.
    """

    status: int
    first: float
    body: bytes


async def request(reader, writer, host: str, path: str, body: bytes) -> Answered:
    """Sends a request over an open connection and reads its answer, which may be a stream."""
    began = time.perf_counter()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    status = int(lines[0].split()[1])
    sizes = [int(line[15:]) for line in lines if line.startswith("content-length:")]
    if sizes:
        found = await reader.readexactly(sizes[0])
        return Answered(status, time.perf_counter() - began, found)
    first, found = 0.0, bytearray()
    while size := int(await reader.readline(), 16):
        found += await reader.readexactly(size)
        first = first or time.perf_counter() - began
        await reader.readline()
    await reader.readline()
    return Answered(status, first, bytes(found))


@dataclass
class Crowd:
    """What many clients saw.

    Attributes:
        clients: How many there were.
        seconds: How long they asked.
        latencies: Seconds of each request that was answered.
        failures: How many requests failed, by the status or the error.
    """

    clients: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def summary(self) -> dict:
        """Returns numbers of it."""
        return {
            "clients": self.clients,
            "seconds": self.seconds,
            "requests": len(self.latencies),
            "failures": self.failures,
            "requests_per_second": len(self.latencies) / self.seconds,
            "request_ms": quantiles(1000 * np.array(self.latencies)),
        }


async def crowd(
    host: str, path: str, bodies: Sequence[bytes], clients: int, seconds: float
) -> Crowd:
    """Returns what many clients saw that ask without a pause."""
    seen = Crowd(clients)
    started = time.perf_counter()

    def failed(what: str) -> None:
        seen.failures[what] = seen.failures.get(what, 0) + 1

    async def client(number: int) -> None:
        streams = await asyncio.open_connection(*host.split(":"))
        while time.perf_counter() - started < seconds:
            body = bodies[number % len(bodies)]
            number += clients
            begun = time.perf_counter()
            try:
                answer = await request(*streams, host, path, body)
            except (OSError, EOFError, ValueError) as error:
                failed(type(error).__name__)
                streams = await asyncio.open_connection(*host.split(":"))
                continue
            seen.latencies.append(time.perf_counter() - begun)
            if answer.status != 200:
                failed(str(answer.status))
        streams[1].close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    seen.seconds = time.perf_counter() - started
    return seen


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Returns the median and the upper percentiles."""
    return {f"p{q}": float(np.percentile(values, q)) for q in (50, 90, 95, 99)}


def resident_bytes(pid: int) -> int:
    """Returns the memory that a process has in use now."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
