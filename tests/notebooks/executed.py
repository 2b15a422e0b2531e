"""Run a notebook from its first cell to its last, and look at what it shows."""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
from PIL import Image

from notebooks.execute import execute

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


class Executed:
    """A notebook that was run: its code cells, and the values that its names ended with.

    Args:
        name: The name of the notebook's file.
        folder: Where it runs.
        probe: Run as one more cell, which prints JSON: what the reader has at hand at the end.
        parameters: As for `execute`. Defaults to `None`.
    """

    def __init__(self, name, folder, probe, parameters=None):
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(probe))
        self.folder = folder
        *self.cells, last = code_cells(execute(notebook, folder, parameters, timeout=1800))
        self.values = json.loads(last.outputs[0].text)

    def losses(self, log="log"):
        return [row["loss"] for row in self.values[log] if "loss" in row]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(cells, kind):
    """The outputs of a kind of media, decoded, each with the source of its cell."""
    return [
        (cell.source, output.data[kind])
        for cell in cells
        for output in cell.outputs
        if kind in output.get("data", {})
    ]


def assert_is_clean(cells):
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


def assert_pictures(cells, calls):
    """There is a picture for each of these calls, in this order, and none of them is blank."""
    pictures = outputs_of(cells, "image/png")
    assert len(pictures) == len(calls)
    for (source, data), call in zip(pictures, calls, strict=True):
        assert call in source
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 10


def assert_was_executed(name, pictures):
    """The committed notebook holds its outputs, and they tell nothing of their machine."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert_is_clean(cells)
    assert_pictures(cells, pictures)
    assert notebook.metadata["language_info"] == {"name": "python"}
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    assert (NOTEBOOKS / name).stat().st_size < 400_000
    shown = [
        output.get("text", "") + json.dumps({**output.get("data", {}), "image/png": ""})
        for cell in cells
        for output in cell.outputs
    ]
    traces = r"(?i)(?<![\w.])/(root|home|users|tmp|work|var)/|\b[a-z]:\\\\|https?://|warning"
    assert not re.search(traces, "\n".join(shown))
