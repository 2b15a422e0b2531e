"""Measures `kerasllm serve` beside connections that send their headers ever so slowly.

    python -m benchmarks.serve_slow_headers --run RUN|PRESET [--clients 200] [--slow 200]

The server is a process of its own, and so are the clients, which ask as soon as they are answered:
without slow connections, beside them, and without them again, `--seconds` each. A slow connection
sends a byte of its headers every second, and is opened again when the server closes it. The exit
status is 1 where a request failed, or where the median beside them is above 1.5 times that without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.http_load import crowd, generates, get, server
from benchmarks.measure import machine

HERE = Path(__file__).parent
MOST = 1.5
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 1000


def main() -> int:
    options = parse_arguments()
    with server(options.run, "--max-queue", str(max(256, 2 * options.clients))) as started:
        path, bodies = requests_to(started.host, options.max_tokens)
        in_processes(_ask, started.host, path, bodies, options.clients, 5)  # warms it up
        turns = []
        for slow in (0, options.slow, 0):
            seen = in_processes(
                _ask, started.host, path, bodies, options.clients, options.seconds, slow=slow
            )
            turns.append({"slow_connections": slow, **seen})
            told = f"{seen['requests']:7,} requests, p50 {seen['request_ms']['p50']:7.1f} ms"
            print(f"{slow:4} slow connections: {told}, failed: {seen['failures']}", flush=True)
    medians = [turn["request_ms"]["p50"] for turn in turns]
    ratio = medians[1] / statistics.mean([medians[0], medians[2]])
    failures = sum(sum(turn["failures"].values()) for turn in turns)
    print(f"{ratio:.2f} times the median without them, {failures} failures", flush=True)
    if options.output:
        result = {
            "benchmark": "serve_slow_headers",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "run": Path(options.run).name,
            "ratio": ratio,
            "turns": turns,
        }
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return failures > 0 or ratio > MOST


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_slow_headers")
    parser.add_argument("--run", required=True, help="a run, or a preset that writes text")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--max-tokens", type=int, default=4, help="of an answer")
    parser.add_argument("--output", type=Path, help="a JSON file with the numbers")
    return parser.parse_args()


def requests_to(host: str, max_tokens: int) -> tuple[str, list[bytes]]:
    """Returns where requests go, and some bodies."""
    if generates(host):
        fields = {"prompt": "Call me", "max_tokens": max_tokens, "temperature": 0}
        return "/v1/completions", [json.dumps(fields).encode()]
    paths = json.loads(get(host, "/openapi.json"))["paths"]
    path = next(path for path in paths if path.endswith(":predict"))
    example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
    return path, [json.dumps(example).encode()]


def in_processes(ask, *given, slow: int = 0) -> dict:
    """Returns what clients in a process of their own saw, beside slow ones in another."""
    context = multiprocessing.get_context("spawn")
    if slow:
        beside = context.Process(target=_crawl, args=(given[0], slow), daemon=True)
        beside.start()
    with context.Pool(1) as pool:
        seen = pool.apply(ask, given)
    if slow:
        beside.terminate()
        beside.join()
    return seen


def _ask(*given) -> dict:
    return asyncio.run(crowd(*given)).summary()


def _crawl(host: str, count: int) -> None:
    asyncio.run(crawl(host, count))


async def crawl(host: str, count: int, pause: float = 1.0) -> None:
    """Keeps connections open that send a byte of their headers now and then, until cancelled."""

    async def one() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection(*host.split(":"))
                for byte in HEAD:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(pause)
            except OSError:
                await asyncio.sleep(pause)

    await asyncio.gather(*(one() for _ in range(count)))


if __name__ == "__main__":
    sys.exit(main())
