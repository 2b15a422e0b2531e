"""Shows what a case of the suite was measured to do."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from benchmarks.suite import OURS, number


def show(result: dict, console: Console) -> None:
    """Prints a row for each way, a line for each target, and what they were measured with."""
    console.print(Group(_ways(result), *_targets(result), *_notes(result)), "")


def _ways(result: dict) -> Table:
    ways = result["ways"]
    peers = list(dict.fromkeys(way["side"] for way in ways if way["side"] != OURS))
    qualities = list(dict.fromkeys(name for way in ways for name in way["quality"]))
    shown = Table(title=f"{result['benchmark']}: {result['description']}", title_justify="left")
    shown.add_column("side")
    shown.add_column("way")
    columns = [f"{result['figure']}, median", "from - to", *(f"times {peer}" for peer in peers)]
    columns += [*ways[0]["other_figures"], *qualities, "cpu s", "whole s", "GiB"]
    for column in columns:
        shown.add_column(column, justify="right")
    for way in ways:
        ratios = (way["ratio_to_best_of"].get(peer) for peer in peers)
        qualities_of = (way["quality"].get(name) for name in qualities)
        shown.add_row(
            way["side"],
            way["way"],
            f"{number(way['median'])} {result['unit']}",
            " - ".join(map(number, way["from_to"])),
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
            *("" if value is None else number(value) for value in way["other_figures"].values()),
            *("" if value is None else f"{value:.4f}" for value in qualities_of),
            number(way["cpu_seconds"]),
            number(way["whole_seconds"]),
            f"{way['peak_memory'] / 2**30:.2f}",
            style="bold" if way["best_of_side"] else None,
        )
    return shown


def _targets(result: dict) -> list[Text]:
    words = {True: ("reached", "green"), False: ("not reached", "red"), None: ("", "yellow")}
    lines = []
    for target in result["targets"]:
        word, colour = words[target["reached"]]
        found = f"{word}, {target['found']}" if word else target["found"]
        lines.append(Text.assemble(f"  {target['target']}: ", (found, colour)))
    return lines


def _notes(result: dict) -> list[Text]:
    floor, machine = result["floor"], result["machine"]
    lines = []
    if floor:
        lines.append(
            f"  floor: {number(floor['seconds'])} s, {floor['share']:.0%} of the ceiling reached; "
            f"{floor['how']}"
        )
    for when, found in result["ceilings"].items():
        rates = (f"{name} {found[name] / 1e9:.0f} GFLOP/s" for name in ("float32", "bfloat16"))
        bandwidth = f"memory {found['bandwidth'] / 1e9:.1f} GB/s"
        lines.append(f"  ceilings {when}: {', '.join(rates)}, {bandwidth}")
    ways = result["ways"]
    lines += [f"  {way['side']} {way['way']}: {way['note']}" for way in ways if way["note"]]
    versions = {"kerasllm": result["kerasllm"]}
    for way in ways:
        versions |= way["versions"]
    lines.append(f"  {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB")
    lines.append("  " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    if result["quiet"] is False:
        busiest = max(way["cores_of_others"] or 0 for way in ways)
        lines.append(
            f"  Other work kept up to {busiest:.2f} cores busy: measure again before you believe "
            "this."
        )
    if not result["complete"]:
        lines.append("  Not complete: this is what was measured before it ended.")
    if result["quick"]:
        lines.append("  Quick: tries the machinery; the numbers say nothing.")
    return [Text(line) for line in lines]
