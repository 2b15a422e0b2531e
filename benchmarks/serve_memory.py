"""Measures whether the memory of `kerasllm serve` grows with the requests.

    python -m benchmarks.serve_memory --run RUN|PRESET [--requests 10000]

The server is a process of its own. Clients send it requests of all kinds, in a random order that
the seed decides: short and long texts, whole answers and streams, requests that are refused, and
requests whose client hangs up while it is answered. After those that warm it up its memory is
printed every 1,000 requests. The exit status is 1 where it grew by more than 2%.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.http_load import Started, generates, get, request, resident_bytes, server
from benchmarks.measure import machine

HERE = Path(__file__).parent
MOST = 1.02
WORDS = "the white whale swam under our ship and we saw it again in cold water".split()


def main() -> int:
    options = parse_arguments()
    with server(options.run) as started:
        readings = asyncio.run(measure(started, options))
    grown = readings[-1]["bytes"] / readings[0]["bytes"]
    print(f"{grown:.3f} times after {readings[-1]['requests']:,} requests", flush=True)
    if options.output:
        result = {
            "benchmark": "serve_memory",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "run": Path(options.run).name,
            "warm_up": options.warm_up,
            "clients": options.clients,
            "grown": grown,
            "readings": readings,
        }
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return grown > MOST


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_memory")
    parser.add_argument("--run", required=True, help="a run, or a preset that writes text")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument(
        "--warm-up", type=int, default=1000, help="requests before the first number"
    )
    parser.add_argument("--every", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--most-words", type=int, default=200, help="of a text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a JSON file with the numbers")
    return parser.parse_args()


async def measure(started: Started, options: argparse.Namespace) -> list[dict]:
    """Returns the server's memory after the warm-up and after every so many requests."""
    draw = random.Random(options.seed)
    kinds = Kinds(started.host, options, draw)
    readings, sent = [], 0
    upto = options.warm_up
    began = time.perf_counter()
    while True:
        todo = iter(range(upto - sent))

        async def client() -> None:
            for _ in todo:
                await kinds.send()

        await asyncio.gather(*(client() for _ in range(options.clients)))
        sent = upto
        reading = {"requests": sent - options.warm_up, "bytes": resident_bytes(started.pid)}
        readings.append(reading)
        print(
            f"{reading['requests']:7,} requests  {reading['bytes'] / 1e6:8.1f} MB"
            f"  {time.perf_counter() - began:6.0f} s  {kinds.statuses}",
            flush=True,
        )
        if reading["requests"] >= options.requests:
            return readings
        upto = min(sent + options.every, options.warm_up + options.requests)


class Kinds:
    """Sends requests of all kinds.

    Args:
        host: The server's.
        options: The command's.
        draw: Random numbers.

    Attributes:
        statuses: How often each status came; 0 counts the requests whose client hung up.
    """

    def __init__(self, host: str, options: argparse.Namespace, draw: random.Random):
        self.statuses: dict[int, int] = {}
        self._host = host
        self._options = options
        self._draw = draw
        paths = json.loads(get(host, "/openapi.json"))["paths"]
        self._chats = "/v1/chat/completions" in paths
        self._predict = None
        if not generates(host):
            self._predict = next(path for path in paths if path.endswith(":predict"))
            example = paths[self._predict]["post"]["requestBody"]["content"]["application/json"]
            self._example = example["example"]["instances"][0]

    async def send(self) -> None:
        """Sends one request and reads its answer, or hangs up before."""
        path, body = self._prediction() if self._predict else self._generation()
        kind = self._draw.random()
        if kind < 0.05:
            body["no_such_field"] = self._text()
        elif kind < 0.1:
            body = [self._text()]
        data = json.dumps(body).encode()
        if kind > 0.97:
            data = data[:-1]
        reader, writer = await asyncio.open_connection(*self._host.split(":"))
        status = 0
        answer = asyncio.ensure_future(request(reader, writer, self._host, path, data))
        try:
            if 0.1 < kind < 0.2:
                await asyncio.wait([answer], timeout=self._draw.uniform(0, 0.1))
            else:
                status = (await answer).status
        finally:
            answer.cancel()
            writer.close()
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def _text(self) -> str:
        # As many short ones as long ones.
        count = round(self._options.most_words ** self._draw.random())
        return " ".join(self._draw.choices(WORDS, k=count)) + f" {self._draw.getrandbits(40)}"

    def _prediction(self) -> tuple[str, dict]:
        instances = [self._instance() for _ in range(round(16 ** self._draw.random()))]
        return self._predict, {"instances": instances}

    def _instance(self) -> dict | str:
        if isinstance(self._example, dict):
            return {name: self._text() for name in self._example}
        return self._text()

    def _generation(self) -> tuple[str, dict]:
        draw = self._draw
        body = {
            "max_tokens": draw.randint(1, self._options.max_tokens),
            "temperature": draw.choice([0, 0.7]),
            "stream": draw.random() < 0.5,
        }
        options = {"top_p": 0.9, "repetition_penalty": 1.1, "stop": [" whale"]}
        body |= {name: value for name, value in options.items() if draw.random() < 0.2}
        if self._chats and draw.random() < 0.5:
            messages = [{"role": "user", "content": self._text()}]
            return "/v1/chat/completions", {"messages": messages, **body}
        prompts = [self._text() for _ in range(draw.choice([1, 1, 1, 3]))]
        return "/v1/completions", {"prompt": prompts, **body}


if __name__ == "__main__":
    sys.exit(main())
