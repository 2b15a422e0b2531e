"""`kerasllm export`: export a trained model to another format."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from kerasllm.cli import completion
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.sign import password_of
from kerasllm.cli.startup import import_tensorflow
from kerasllm.errors import CommandError

if TYPE_CHECKING:
    from rich.table import Table

    from kerasllm.workflows.export import Exported


@click.command()
@click.argument("run", metavar="RUN|PRESET", type=RUN)
@click.option(
    "--format",
    default="saved_model",
    show_default=True,
    metavar="NAME",
    shell_complete=completion.formats,
    help="saved_model, transformers, litert, onnx, keras, keras_hub.",
)
@click.option("--output", metavar="DIR", help="The folder to write.  [default: RUN/export/FORMAT]")
@click.option("--overwrite", is_flag=True, help="Replace an existing export.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="NAME",
    help="For saved_model: float32 or bfloat16.  [default: float32]  For litert: float32, float16 "
    "or int8. Repeatable.  [default: all, one file each]",
)
@click.option(
    "--rows",
    metavar="N|all",
    help="Number of test examples to compare on.  [default: 256; 64 for a language model]",
)
@click.option(
    "--sign",
    "key",
    metavar="KEY",
    help="Sign the folder with this private key; see kerasllm sign --help.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as one JSON object.")
def export(
    run: str,
    format: str,
    output: str | None,
    overwrite: bool,
    precisions: tuple[str, ...],
    rows: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Export a trained model for TensorFlow Serving, ONNX and others.

    \b
    kerasllm export my_run
    kerasllm export my_run --precision bfloat16 --output fast
    kerasllm export my_run --format litert --precision int8 --output phone
    kerasllm export smollm2_135m_instruct --format transformers --output smollm2
    kerasllm export my_run --format onnx --sign my.key

    The exported model is run on examples of the run's test data and compared with the original. It
    is kept only if the outputs match; parity.json and README.md in the folder hold the numbers.
    """
    options: dict[str, Any] = {
        "output": output,
        "overwrite": overwrite,
        "precisions": precisions,
        "rows": _count(rows),
        "sign": key,
        "password": None if key is None else password_of(key),
    }
    from kerasllm.workflows.export import check
    from kerasllm.workflows.export import export as run_export

    check(run, format, **options)
    import_tensorflow()

    command = shlex.join(["kerasllm", *sys.argv[1:]])
    exported = run_export(run, format, **options, command=command)
    if as_json:
        click.echo(json.dumps(_as_json(format, exported), ensure_ascii=False))
        return
    from rich.console import Console

    console = Console()
    with console.capture() as shown:
        for table in (_files(exported), _parity(exported)):
            console.print(table)
            console.print()
        console.print(f"Compared by running it with {exported.engine.name}.\n", highlight=False)
    click.echo(shown.get() + f"{exported.folder}")


def _count(rows: str | None) -> int | str | None:
    if rows is None or rows == "all":
        return rows
    try:
        return int(rows)
    except ValueError:
        raise CommandError(
            f"--rows must be a whole number, or all. Received: {rows}", where="--rows"
        ) from None


def _as_json(format: str, exported: Exported) -> dict[str, Any]:
    return {
        "folder": str(exported.folder),
        "format": format,
        "files": exported.files,
        "parity": [dataclasses.asdict(one) for one in exported.parity],
        "compared_by": exported.engine.name,
    }


def _files(exported: Exported) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("file", box=box.SIMPLE_HEAD)
    table.add_column("size", justify="right", no_wrap=True)
    for name, size in exported.files.items():
        table.add_row(name, _size(size))
    return table


def _parity(exported: Exported) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("parity", box=box.SIMPLE_HEAD)
    for name in ("largest difference", "mean difference", "agreement", "rows"):
        table.add_column(name, justify="right")
    for one in exported.parity:
        table.add_row(
            one.precision,
            f"{one.largest_difference:.2e}",
            f"{one.mean_difference:.2e}",
            f"{one.agreement:.2%}",
            f"{one.rows:,}",
        )
    return table


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
