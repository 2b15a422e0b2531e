"""Measures `kerasllm serve` against `transformers serve`: a language model and many clients.

    sh benchmarks/peers/setup.sh
    python -m benchmarks.serve_peer [--clients 1 8 32] [--seconds 15] [--turns 2]

Both serve SmolLM2-135M-Instruct in bfloat16 on the same processor, in turns, each in a process of
its own: kerasllm, transformers, and transformers with its continuous batching. Clients stream
answers of 32 tokens, the most likely ones, and ask again as soon as they are answered. The exit
status is 1 where kerasllm answers fewer than 1.5 times the requests a second of the better peer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.http_load import quantiles, server
from benchmarks.inputs import KERASLLM, LANGUAGE_MODEL
from benchmarks.measure import machine, run_measured

HERE = Path(__file__).parent
OURS, PEER, BATCHING = "kerasllm", "transformers", "transformers, continuous batching"
LEAST = 1.5
TOPICS = ("whales", "ships", "the sea", "Nantucket", "harpoons", "storms", "islands", "captains")


def main() -> int:
    options = parse_arguments()
    seen: dict[tuple[str, int], list[dict]] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as made:
        folder = options.model or Path(made) / "model"
        if not folder.exists():
            export = ("export", LANGUAGE_MODEL, "--format", "transformers", "--rows", "2")
            run_measured([*KERASLLM, *export, "--output", str(folder)])
        for _ in range(options.turns):
            for side in options.sides:
                with started(side, folder, options) as (host, name):
                    for clients in options.clients:
                        found = asyncio.run(crowd(host, name, clients, options))
                        seen.setdefault((side, clients), []).append(found)
                        print(f"{side}, {clients} clients: {told(found)}", flush=True)
    results = {
        side: {clients: medians(seen[side, clients]) for clients in options.clients}
        for side in options.sides
    }
    Console().print(table(results, options.clients))
    most = max(options.clients)
    peers = [results[side][most]["requests_per_second"] for side in options.sides if side != OURS]
    ratio = None
    if peers and OURS in results:
        ratio = results[OURS][most]["requests_per_second"] / max(peers)
        print(f"{most} clients: {ratio:.2f} times the requests a second of the better peer")
    if options.output:
        result = {
            "benchmark": "serve_peer",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {**machine(), "load_before": load},
            "tokens": options.max_tokens,
            "ratio": ratio,
            "medians": results,
            "turns": [
                {"side": side, "clients": clients, "turns": turns}
                for (side, clients), turns in seen.items()
            ],
        }
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return ratio is not None and ratio < LEAST


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_peer")
    parser.add_argument("--peers", type=Path, default=HERE / "peers" / ".venv")
    parser.add_argument("--model", type=Path, help="the model as transformers loads it")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=32, help="of an answer")
    parser.add_argument("--sides", nargs="+", default=[OURS, PEER, BATCHING])
    parser.add_argument("--output", type=Path, help="a JSON file with the numbers")
    return parser.parse_args()


@contextmanager
def started(side: str, folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Gives the host and port of a server, and what it calls the model."""
    if side == OURS:
        with server(LANGUAGE_MODEL) as ours:
            yield ours.host, LANGUAGE_MODEL
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    command = [options.peers / "bin" / "transformers", "serve", str(folder), "--device", "cpu"]
    command += ["--dtype", "bfloat16", "--host", "127.0.0.1", "--port", host.partition(":")[2]]
    command += ["--continuous-batching"] if side == BATCHING else []
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(host, process, log)
            yield host, str(folder)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(host: str, process: subprocess.Popen, log) -> None:
    """Returns when a server answers."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://{host}/health", timeout=5).read()
            return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    log.seek(0)
    raise SystemExit(f"The peer did not start:\n{log.read()[-2000:]}")


async def crowd(host: str, model: str, clients: int, options: argparse.Namespace) -> dict:
    """Returns what clients saw that ask without a pause."""
    whole: list[float] = []
    first: list[float] = []
    tokens = failures = number = 0

    async def ask() -> None:
        nonlocal tokens, failures, number
        topic = TOPICS[number % len(TOPICS)]
        number += 1
        body = {
            "model": model,
            # Each is another: what a server keeps of earlier requests is the system's prompt.
            "messages": [{"role": "user", "content": f"{number}. Tell me about {topic}."}],
            "max_tokens": options.max_tokens,
            "temperature": 0,
            "stream": True,
        }
        began = time.perf_counter()
        pieces = 0
        async for text in streamed(host, json.dumps(body).encode()):
            if text and not pieces:
                first.append(time.perf_counter() - began)
            pieces += bool(text)
        failures += not pieces
        # One token gives one piece, but for characters of several tokens.
        tokens += pieces
        whole.append(time.perf_counter() - began)

    async def client(until: float) -> None:
        while time.perf_counter() < until:
            await ask()

    # The first answers warm the server up.
    await asyncio.gather(*(ask() for _ in range(clients)))
    whole, first = [], []
    tokens = failures = 0
    began = time.perf_counter()
    await asyncio.gather(*(client(began + options.seconds) for _ in range(clients)))
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "requests": len(whole),
        "failures": failures,
        "requests_per_second": len(whole) / seconds,
        "tokens_per_second": tokens / seconds,
        "request_ms": quantiles(1000 * np.array(whole)),
        "first_token_ms": quantiles(1000 * np.array(first or [0.0])),
    }


async def streamed(host: str, body: bytes) -> Iterator[str]:
    """Gives the pieces of an answer as they come; none where it is refused."""
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        async for line in reader:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:]).get("choices", ()):
                    yield choice["delta"].get("content") or ""
    finally:
        writer.close()


def medians(turns: Sequence[dict]) -> dict:
    """Returns the median of each number of some turns."""
    return {
        "requests_per_second": statistics.median(t["requests_per_second"] for t in turns),
        "tokens_per_second": statistics.median(t["tokens_per_second"] for t in turns),
        "first_token_ms": statistics.median(t["first_token_ms"]["p50"] for t in turns),
        "request_ms": statistics.median(t["request_ms"]["p50"] for t in turns),
        "failures": sum(t["failures"] for t in turns),
    }


def told(found: dict) -> str:
    """Returns a line of what clients saw."""
    return (
        f"{found['requests_per_second']:.2f} requests/s, "
        f"{found['tokens_per_second']:.1f} tokens/s, first token after "
        f"{found['first_token_ms']['p50']:.0f} ms, failed: {found['failures']}"
    )


def table(results: dict, clients: Sequence[int]) -> Table:
    """Returns the results as they are printed."""
    shown = Table(title="medians of the turns")
    for name in ("", "clients", "requests/s", "tokens/s", "first token, ms", "request, ms"):
        shown.add_column(name, justify="right" if name else "left")
    for side, found in results.items():
        for number in clients:
            each = found[number]
            shown.add_row(
                side,
                str(number),
                f"{each['requests_per_second']:.2f}",
                f"{each['tokens_per_second']:.1f}",
                f"{each['first_token_ms']:.0f}",
                f"{each['request_ms']:.0f}",
            )
    return shown


if __name__ == "__main__":
    sys.exit(main())
