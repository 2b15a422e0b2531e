"""Writes targets by beam search beside transformers, with the same trained weights, in turn.

    python -m benchmarks.write_targets RUN --sources FILE [--count 1000] [--beams 4] [--turns 2]

RUN is a run of the recipe translate or summarize whose model can be exported to transformers; FILE
has a source a line, plain or in .gz. Both write for all sources twice, and the second time counts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.inputs import KERASLLM
from benchmarks.measure import has_bfloat16, machine, run_measured

HERE = Path(__file__).parent


def main() -> None:
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    path = HERE / "results" / f"write_targets-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    (options.output or path).write_text(json.dumps(result, indent=2) + "\n")
    for name, found in result["ways"].items():
        print(f"{name:<22} {found['texts_per_second']:>7.1f} texts/s  same {found['same']:.3f}")


def measure(options: argparse.Namespace, folder: Path) -> dict:
    """Writes by each way in turn; returns the medians, and how many texts are the first way's."""
    opener = gzip.open if options.sources.suffix == ".gz" else open
    with opener(options.sources, "rt", encoding="utf-8") as lines:
        sources = [line.strip() for line in lines][: options.count]
    (folder / "sources.json").write_text(json.dumps(sources), encoding="utf-8")
    exported = folder / "exported"
    export = ["export", options.run, "--format", "transformers", "--output", str(exported)]
    run_measured([*KERASLLM, *export])
    shared = ["--sources", str(folder / "sources.json"), "--beams", str(options.beams)]
    ours = [sys.executable, "-m", "benchmarks.workers.write", "--run", options.run, *shared]
    peer = [str(options.peers / "bin" / "python"), str(HERE / "peers" / "huggingface_write.py")]
    peer += ["--model", str(exported), *shared]
    ways = {"kerasllm float32": [*ours, "--precision", "float32"]}
    ways["transformers float32"] = [*peer, "--precision", "float32"]
    if has_bfloat16():
        ways["kerasllm bfloat16"] = [*ours, "--precision", "mixed_bfloat16"]
        ways["transformers bfloat16"] = [*peer, "--precision", "bfloat16"]
    turns: dict[str, list[dict]] = {name: [] for name in ways}
    written = {}
    for _ in range(options.turns):
        for name, command in ways.items():
            done = run_measured([*command, "--written", str(folder / "written.json")])
            numbers = json.loads(done.stdout.splitlines()[-1])
            turns[name].append({**numbers, "cores_of_others": done.cores_of_others})
            written[name] = json.loads((folder / "written.json").read_text(encoding="utf-8"))
    first = next(iter(written.values()))
    return {
        "benchmark": "write_targets",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "sources": len(sources),
        "beams": options.beams,
        "ways": {
            name: {
                "texts_per_second": statistics.median(x["texts_per_second"] for x in found),
                "same": sum(map(str.__eq__, written[name], first)) / len(first),
                "turns": found,
            }
            for name, found in turns.items()
        },
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--sources", type=Path, required=True, metavar="FILE")
    parser.add_argument("--count", type=int, default=1000, help="so many sources at most")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--peers", type=Path, default=HERE / "peers" / ".venv")
    parser.add_argument("--output", type=Path, help="JSON file  [default: in benchmarks/results]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
