"""Measures greedy generation by kerasllm and by transformers, in turn.

    python -m benchmarks.generate --model FOLDER [--repeats 3]

Both generate the same number of tokens behind the same prompt, alone and in a batch, in float32 and
in bfloat16, each in a process of its own, A B A B, so that a slow minute of the machine falls on
both. What counts is the best precision of each side. `benchmarks/peers/setup.sh` makes the peer's
environment.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine, run_measured

HERE = Path(__file__).parent
PRECISIONS = ("bfloat16", "float32")
PROMPT = "The whale is the largest animal of the sea, and"


def main() -> None:
    options = parse_arguments()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    console = Console(stderr=True)
    shared = ["--model", str(options.model), "--prompt", PROMPT]
    shared += ["--new-tokens", str(options.new_tokens), "--batch-sizes", *map(str, options.rows)]
    sides = {
        "kerasllm": [
            sys.executable,
            "-m",
            "benchmarks.generate",
            "--measure",
            "--xla",
            options.xla,
        ],
        "transformers": [
            str(options.peers / "bin" / "python"),
            str(HERE / "peers" / "huggingface_generate.py"),
        ],
    }
    runs = []
    for number in range(options.repeats):
        for precision in options.precisions:
            for side, command in sides.items():
                console.print(f"{number + 1}/{options.repeats} {side} {precision} ...", end=" ")
                done = run_measured([*command, *shared, "--precision", precision])
                found = json.loads(done.stdout.splitlines()[-1])
                runs.append(
                    {
                        "side": side,
                        "precision": precision,
                        "cores_of_others": done.cores_of_others,
                        **found,
                    }
                )
                speeds = [f"{speed(found, rows, options):.0f}" for rows in options.rows]
                console.print(" and ".join(speeds) + " tokens/s")
    result = {
        "benchmark": "generate",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "new_tokens": options.new_tokens,
        "summary": {rows: summary(runs, rows, options) for rows in options.rows},
        "runs": runs,
    }
    path = options.output or HERE / "results" / f"generate-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    Console().print(table(result))
    console.print(f"Written to {path}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate")
    parser.add_argument("--model", type=Path, required=True, help="folder, Hugging Face's layout")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs (default: 3)")
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--rows", "--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--xla", choices=["auto", "on", "off"], default="auto")
    parser.add_argument(
        "--peers", type=Path, default=HERE / "peers" / ".venv", help="what setup.sh made"
    )
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    parser.add_argument("--prompt", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(options: argparse.Namespace, rounds: int = 3) -> dict:
    """Generates with kerasllm in this process; the first round, which compiles, is left out."""
    import keras_hub

    from kerasllm.data.tokenizers.from_folder import from_folder
    from kerasllm.generation import GenerationSettings, Generator
    from kerasllm.models.decoders import load_backbone

    backbone = load_backbone(options.model, dtype=options.precision)
    task = keras_hub.models.Llama3CausalLM(backbone=backbone)
    prompt = from_folder(options.model).encode_whole(options.prompt)
    settings = GenerationSettings(max_new_tokens=options.new_tokens)
    generator = Generator(task, xla={"auto": None, "on": True, "off": False}[options.xla])
    results = {}
    for rows in options.rows:
        seconds = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            made = generator.generate([prompt] * rows, settings)
            seconds.append(time.perf_counter() - started)
        first, *others = seconds
        results[rows] = {"seconds": others, "first_seconds": first, "tokens": made[0].tokens}
    return {"results": results}


def speed(run: dict, rows: int, options: argparse.Namespace) -> float:
    """Returns new tokens a second over all rows."""
    return rows * options.new_tokens / median(run["results"][str(rows)]["seconds"])


def summary(runs: list[dict], rows: int, options: argparse.Namespace) -> dict:
    """Returns the median speeds of each side and precision, and the ratio of the best of each."""
    speeds = {
        side: {
            precision: median(
                speed(run, rows, options)
                for run in runs
                if (run["side"], run["precision"]) == (side, precision)
            )
            for precision in options.precisions
        }
        for side in ("kerasllm", "transformers")
    }
    best = {side: max(each.values()) for side, each in speeds.items()}
    whole = [r["results"][str(rows)]["tokens"] for r in runs if r["precision"] == "float32"]
    return {
        "tokens_per_second": speeds,
        "ratio": best["kerasllm"] / best["transformers"],
        "same_tokens_in_float32": all(tokens == whole[0] for tokens in whole) if whole else None,
    }


def table(result: dict) -> Table:
    """Returns the summary as it is printed."""
    shown = Table(title=f"Greedy generation, {result['new_tokens']} tokens, tokens per second")
    for name in ("rows", "side", *PRECISIONS, "best against best"):
        shown.add_column(name, justify="left" if name == "side" else "right")
    for rows, found in result["summary"].items():
        for side, speeds in found["tokens_per_second"].items():
            values = [f"{speeds[name]:.0f}" if name in speeds else "" for name in PRECISIONS]
            ratio = f"{found['ratio']:.2f}" if side == "kerasllm" else "1"
            shown.add_row(str(rows), side, *values, ratio)
    return shown


if __name__ == "__main__":
    main()
