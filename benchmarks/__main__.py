"""Runs the benchmarks of the suite.

Usage:

    python -m benchmarks list
    python -m benchmarks run [NAME ...]
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import runner
from benchmarks.ceilings import measure_ceilings
from benchmarks.suite import PEERS, Case, SuiteOptions
from benchmarks.suite_table import show

RESULTS = Path(__file__).parent / "results"
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line says; returns the exit status."""
    cases = runner.find_cases()
    options = _parse(arguments, cases)
    if options.command == "list":
        _list(cases)
        return 0
    try:
        return run([cases[name] for name in options.names or cases], options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def run(cases: list[Case], options: argparse.Namespace) -> int:
    """Runs cases, one after the other, and shows and writes each as soon as it is done.

    Args:
        cases: The cases.
        options: What the command line says.

    Returns:
        The exit status: 1 if a case failed or was refused.
    """
    console, log = Console(), Console(stderr=True, highlight=False, soft_wrap=True)
    status = 0
    with tempfile.TemporaryDirectory() as made:
        settings = SuiteOptions(
            options.peers.absolute(),
            quick=options.quick,
            inputs=Path(made) / "inputs",
            run=options.run and options.run.absolute(),
            language_model=options.language_model and options.language_model.absolute(),
            cold=0 if options.quick else min(options.cold or options.repeats, options.repeats),
        )
        settings.inputs.mkdir()
        log.print("measuring the ceilings")
        before = measure_ceilings()
        for number, case in enumerate(cases, 1):
            log.print(f"[bold]{case.name}[/bold], {number} of {len(cases)}")
            try:
                found = runner.measure(
                    case,
                    Path(made) / case.name,
                    settings,
                    1 if options.quick else options.repeats,
                    lambda line: log.print(line, markup=False),
                )
            except runner.Refused as refused:
                log.print(f"{case.name} is refused: {refused}", style="red", markup=False)
                status = 1
                continue
            if found.failure:
                log.print(f"{case.name} failed:\n{found.failure}", style="red", markup=False)
                status = 1
            ceilings = {"before": before}
            try:
                if not found.interrupted:
                    before = ceilings["after"] = measure_ceilings()
            finally:
                # Also when the user does not wait for the ceilings.
                if any(way.runs for way in found.results.ways):
                    result = runner.result(case, found, ceilings, settings)
                    show(result, console)
                    if not options.quick:
                        log.print(f"written to {_write(result, options.output)}", markup=False)
            if found.interrupted:
                raise KeyboardInterrupt
    return status


def _write(result: dict, output: Path | None) -> Path:
    name = f"{result['benchmark']}-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path = output or RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not output:
        # The newest of each is kept; others are in the history.
        for older in set(RESULTS.glob(f"{result['benchmark']}-[0-9]*.json")) - {path}:
            older.unlink()
    return path


def _list(cases: dict[str, Case]) -> None:
    shown = Table("name", "what it measures", "against", box=None)
    for case in cases.values():
        peers = dict.fromkeys(getattr(target, "peer", None) for target in case.targets)
        against = ", ".join(peer for peer in peers if peer)
        shown.add_row(case.name, case.description, against)
    Console().print(shown)


def _parse(arguments: list[str] | None, cases: dict[str, Case]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    verbs = parser.add_subparsers(dest="command", required=True, metavar="list|run")
    verbs.add_parser("list", help="show the benchmarks")
    verb = verbs.add_parser("run", help="run some, or all where none is named")
    verb.add_argument("names", nargs="*", metavar="NAME", help="a benchmark that list shows")
    verb.add_argument("--repeats", type=_count, default=3, help="turns of each way (default: 3)")
    verb.add_argument(
        "--peers",
        type=Path,
        default=PEERS / ".venv",
        help="what benchmarks/peers/setup.sh made (default: benchmarks/peers/.venv)",
    )
    verb.add_argument(
        "--cold",
        type=_count,
        nargs="?",
        default=1,
        metavar="TURNS",
        help="turns of kerasllm with an emptied cache, of its own (default: 1; alone: all)",
    )
    verb.add_argument("--output", type=Path, help="the file to write (default: in results/)")
    verb.add_argument(
        "--quick", action="store_true", help="try the machinery on tiny jobs; nothing is written"
    )
    verb.add_argument(
        "--run", type=Path, help="a run of bert_cls for the cases that need one (default: trained)"
    )
    verb.add_argument(
        "--language-model",
        type=Path,
        metavar="FOLDER",
        help="a decoder in Hugging Face's layout (default: SmolLM2-135M-Instruct)",
    )
    options = parser.parse_args(arguments)
    if options.command == "run":
        _check(verb, options, cases)
    return options


def _check(
    parser: argparse.ArgumentParser, options: argparse.Namespace, cases: dict[str, Case]
) -> None:
    """Refuses, before anything runs, what could not end well."""
    for name in options.names:
        if name not in cases:
            near = difflib.get_close_matches(name, cases, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(cases)}"
            parser.error(f"there is no benchmark {name!r}; {hint}")
    if options.output and len(options.names) != 1:
        parser.error("--output is of one NAME")
    for folder in (options.run, options.language_model):
        if folder and not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    chosen = options.names or cases
    missing = not (options.peers / "bin" / "python").exists()
    if missing and any(cases[name].uses_peers for name in chosen):
        setup = "sh benchmarks/peers/setup.sh"
        if options.peers != PEERS / ".venv":
            setup += f" {options.peers}"
        parser.error(f"the environment of the peers, {options.peers}, is missing; make it: {setup}")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
