"""Measures `kerasllm serve`: many clients at once, and one beside the model call.

    python -m benchmarks.serve --run RUN|PRESET [--clients 100] [--seconds 60]

The server is a process of its own. First one client asks, and after each of its requests the same
call of the model is made in this process: what is between the two is what serving costs. Then many
clients, each with a connection of its own, ask again as soon as they are answered.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.http_load import crowd, get, quantiles, server
from benchmarks.measure import machine
from kerasllm.workflows.trained import Trained, open_trained

HERE = Path(__file__).parent
TOPICS = ("whales", "ships", "the sea", "Nantucket", "harpoons", "storms", "islands", "captains")


def main() -> None:
    options = parse_arguments()
    console = Console(stderr=True)
    trained = open_trained(options.run)
    prepare = prepare_generator if trained.task.generates else prepare_predict
    path, bodies, call = prepare(trained, options)
    load = os.getloadavg()[0]
    with server(options.run) as started:
        host = started.host
        console.print(f"One client, {options.calls} calls ...")
        one = alone(host, path, bodies, call, options.calls)
        console.print(f"{options.clients} clients, {options.seconds:g} s ...")
        before = computed(host)
        seen = asyncio.run(crowd(host, path, bodies, options.clients, options.seconds))
        many = seen.summary()
        calls, rows = (after - first for after, first in zip(computed(host), before, strict=True))
        many["rows_computed_together"] = rows / calls
    result = {
        "benchmark": "serve",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**machine(), "load_before": load},
        "run": Path(options.run).name,
        "one_client": one,
        "many_clients": many,
    }
    output = options.output or HERE / "results" / f"serve-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    output.write_text(json.dumps(result, indent=2) + "\n")
    Console().print(table(result))
    console.print(f"Written to {output}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve")
    parser.add_argument("--run", required=True, help="a run, or a preset that writes text")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--calls", type=int, default=100, help="of the one client")
    parser.add_argument("--max-tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    return parser.parse_args()


def prepare_predict(
    trained: Trained, options: argparse.Namespace
) -> tuple[str, list[bytes], Callable]:
    """Returns the path, requests with one instance of the test data each, and the model call."""
    from kerasllm.serving.limits import Limits

    model, data = trained.open(), trained.recipe.data
    part = "test" if data.test else "train"
    api = trained.task.api(model, Limits())
    api.warm_up()
    inputs, _ = trained.task.samples(trained.recipe, model, part, getattr(data, part), 500)
    rows = [(one,) if isinstance(one, str) else one for one in itertools.islice(inputs, 500)]
    rows = [dict(zip(api.Instance.model_fields, row)) for row in rows]  # the rest may be left out
    instances = [api.Instance.model_validate(row) for row in rows]
    bodies = [json.dumps({"instances": [row]}).encode() for row in rows]
    name = Path(options.run).resolve().name
    return f"/v1/models/{name}:predict", bodies, lambda i: api.predict([instances[i]])


def prepare_generator(
    trained: Trained, options: argparse.Namespace
) -> tuple[str, list[bytes], Callable]:
    """Returns the path, requests with one question each, and the model call: a whole answer."""
    from kerasllm.generation import GenerationSettings, TextGenerator
    from kerasllm.serving.continuous_batching import Asked, decoding_for

    settings = GenerationSettings(max_new_tokens=options.max_tokens)
    generator = TextGenerator(trained.open(), settings)
    stops = generator.settings_of(settings, chat=True).stop_token_ids
    decoding = decoding_for(generator.generator)
    chats = [[{"role": "user", "content": f"Tell me about {topic}."}] for topic in TOPICS]

    def call(number: int) -> None:
        made = decoding.add([Asked(0, generator.encode_chat(chats[number]), settings)])[0]
        while len(made) < settings.max_new_tokens and made[-1] not in stops:
            made += decoding.step()[0]
        decoding.remove([0])

    fields = {"max_tokens": options.max_tokens, "temperature": 0}
    call(0)
    bodies = [json.dumps({"messages": chat, **fields}).encode() for chat in chats]
    return "/v1/chat/completions", bodies, call


def alone(host: str, path: str, bodies: Sequence[bytes], call: Callable, calls: int) -> dict:
    """Returns the seconds of one client's requests and of the same model calls, in turn."""
    connection = http.client.HTTPConnection(host)
    seconds = {"request": [], "model": []}
    for number in range(calls + 5):
        place = number % len(bodies)
        started = time.perf_counter()
        connection.request("POST", path, bodies[place], {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        seconds["request"].append(time.perf_counter() - started)
        if answer.status != 200:
            raise SystemExit(f"A request was answered with {answer.status}")
        started = time.perf_counter()
        call(place)
        seconds["model"].append(time.perf_counter() - started)
    # The first ones warm both sides up.
    times = {name: 1000 * np.array(each[5:]) for name, each in seconds.items()}
    return {
        "request_ms": quantiles(times["request"]),
        "model_call_ms": quantiles(times["model"]),
        "median_above_ms": float(np.median(times["request"]) - np.median(times["model"])),
    }


def computed(host: str) -> tuple[float, float]:
    """Returns how often the model was called so far, and for how many rows in all."""
    lines = get(host, "/metrics").decode().splitlines()
    found = dict(line.split(" ", 1) for line in lines if line.startswith("kerasllm_batch_rows_"))
    return tuple(float(found[f"kerasllm_batch_rows_{each}"]) for each in ("count", "sum"))


def table(result: dict) -> Table:
    """Returns the result as it is printed."""
    one, many = result["one_client"], result["many_clients"]
    shown = Table(title=f"kerasllm serve {result['run']}, milliseconds")
    for name in ("", "p50", "p90", "p95", "p99"):
        shown.add_column(name, justify="right" if name else "left")
    rows = {
        "model call": one["model_call_ms"],
        "request of one client": one["request_ms"],
        f"request of {many['clients']} clients": many["request_ms"],
    }
    for name, values in rows.items():
        shown.add_row(name, *(f"{value:.1f}" for value in values.values()))
    shown.caption = (
        f"one client: {one['median_above_ms']:+.1f} ms over the model call. "
        f"{many['clients']} clients: {many['requests']:,} requests in {many['seconds']:.0f} s, "
        f"{many['requests_per_second']:.1f} a second, failed: {sum(many['failures'].values())}, "
        f"rows together: {many['rows_computed_together']:.1f}"
    )
    return shown


if __name__ == "__main__":
    main()
