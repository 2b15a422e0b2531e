"""Shows what a case of the suite was measured to do."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from benchmarks.suite import OURS, number


def show(result: dict, console: Console) -> None:
    """Prints a column for each way, a line for each target, and what they were measured with."""
    console.print(Group(_ways(result), *_targets(result), *_notes(result)), "")


def _ways(result: dict) -> Table:
    """Returns a column for each way: there are few, and many numbers of each."""
    ways = result["ways"]
    peers = list(dict.fromkeys(way["side"] for way in ways if way["side"] != OURS))
    qualities = list(dict.fromkeys(name for way in ways for name in way["quality"]))
    shown = Table(
        title=f"{result['benchmark']}: {result['description']}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    shown.add_column("")
    for way in ways:
        style = "bold" if way["best_of_side"] else None
        shown.add_column(f"{way['side']}\n{way['way']}", justify="right", style=style)

    def add(name: str, of_way: Callable[[dict], float | None], written=number) -> None:
        values = [of_way(way) for way in ways]
        shown.add_row(name, *("" if value is None else written(value) for value in values))

    def named(group: str, name: str) -> Callable[[dict], float | None]:
        return lambda way: way[group].get(name)

    add(f"{result['figure']}, median", lambda way: way["median"])
    add("from", lambda way: way["from_to"][0])
    add("to", lambda way: way["from_to"][1])
    if any(way.get("cold") for way in ways):
        add("cold", lambda way: way["cold"].get(result["figure"]))
        add("cold, whole s", lambda way: way["cold"].get("whole_seconds"))
    for peer in peers:
        add(f"times {peer}", named("ratio_to_best_of", peer), "{:.2f}".format)
    for name in ways[0]["other_figures"]:
        add(name, named("other_figures", name))
    for name in qualities:
        if name in ways[0]["other_figures"]:
            continue
        add(name, named("quality", name), "{:.4f}".format)
    add("cpu s", lambda way: way["cpu_seconds"])
    add("whole s", lambda way: way["whole_seconds"])
    add("GiB", lambda way: way["peak_memory"] / 2**30, "{:.2f}".format)
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
