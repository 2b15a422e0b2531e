"""Execute notebooks as a reader would, and keep what they show.

Run from the top of the checkout, after a change to a notebook or to what it calls:

    python notebooks/execute.py notebooks/bert_classification.ipynb

The notebook runs from its first cell to its last in an empty folder, so that nothing is found that
a reader would lack, and is written back with its outputs, but without the traces of this machine.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    for path in parser.parse_args().notebooks:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(nbformat.read(path, as_version=4), folder), path)


def execute(
    notebook: nbformat.NotebookNode,
    folder: str | Path,
    parameters: dict[str, Any] | None = None,
    timeout: float | None = None,
) -> nbformat.NotebookNode:
    """Runs all cells of a notebook in a fresh kernel.

    Args:
        notebook: The notebook; it stays as it is.
        folder: The working directory of the kernel.
        parameters: Values for names that the cell tagged `parameters` assigns. Defaults to `None`.
        timeout: The most seconds a cell may take. Defaults to `None`: any time.

    Returns:
        A copy with the outputs.

    Raises:
        ValueError: If the parameters cell does not assign one of the names.
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    notebook = copy.deepcopy(notebook)
    if parameters:
        _set_parameters(notebook, parameters)
    nbclient.NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        # A progress bar draws over itself; only its last state is worth keeping.
        coalesce_streams=True,
        record_timing=False,
    ).execute()
    # The kernel says which Python it runs on; the notebook is for any.
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _set_parameters(notebook: nbformat.NotebookNode, parameters: dict[str, Any]) -> None:
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    defaults = cell.source.splitlines()
    for name, value in parameters.items():
        if not any(line.startswith(f"{name} = ") for line in defaults):
            raise ValueError(f"The parameters cell has no such name. Received: {name}={value!r}")
        cell.source += f"\n{name} = {value!r}"


if __name__ == "__main__":
    main()
