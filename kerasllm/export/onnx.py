"""ONNX: a file on token ids, for onnxruntime and other engines."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tf2onnx

from kerasllm.errors import CommandError
from kerasllm.export.formats import Format, Options
from kerasllm.export.source import Source
from kerasllm.export.token_example import example
from kerasllm.export.token_files import token_ids, write_tokenizer
from kerasllm.export.token_graph import run_in_batches, token_graph

FILE_NAME = "model.onnx"

# Known to onnxruntime since 1.14, of 2023.
_OPSET = 18
# A file is one protocol buffer, which can hold no more.
_LARGEST_FILE = 2**31 - 1


class Onnx(Format):
    """One `model.onnx`, and the tokenizer."""

    tolerance = 1e-3

    def refuse(self, source: Source, options: Options) -> None:
        size = 4 * source.model.task.count_params()
        if size > _LARGEST_FILE:
            raise CommandError(
                f"The weights fill {size / 1e9:.1f} GB, and an ONNX file holds "
                f"{_LARGEST_FILE / 1e9:.1f} GB at most",
                where="--format onnx",
                fix="use --format transformers, from whose folder `optimum` makes ONNX of more "
                "than one file",
            )

    def write(self, source: Source, folder: Path, options: Options) -> None:
        graph = token_graph(source)
        with _quiet():
            model, _ = tf2onnx.convert.from_function(
                graph.function, input_signature=graph.specs, opset=_OPSET
            )
        _name_dimensions(model)
        _fold_shapes_of_weights(model)
        onnx.checker.check_model(model)
        onnx.save(model, str(folder / FILE_NAME))
        write_tokenizer(source, folder)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        session = onnxruntime.InferenceSession(
            str(folder / FILE_NAME), providers=["CPUExecutionProvider"]
        )
        inputs = [one.name for one in session.get_inputs()]
        outputs = [one.name for one in session.get_outputs()]

        def run(given):
            return dict(zip(outputs, session.run(outputs, dict(given)), strict=True))

        return run_in_batches(source, token_ids(source, folder), run, inputs)

    def usage(self, source: Source, options: Options) -> str:
        code = example(
            source,
            imports="import onnxruntime",
            opening=f'session = onnxruntime.InferenceSession("{FILE_NAME}")',
            running="outputs = dict(zip([one.name for one in session.get_outputs()], "
            "session.run(None, inputs)))",
        )
        return f"""\
`{FILE_NAME}`: token ids in, any number of rows, filled up to the same length. It is of opset
{_OPSET}; `pip install onnxruntime tokenizers`.

{code}
"""


def _name_dimensions(model: onnx.ModelProto) -> None:
    """Calls the open dimensions `batch` and `length`, where the converter made up names."""
    for value in (*model.graph.input, *model.graph.output):
        for place, name in enumerate(("batch", "length")):
            dimensions = value.type.tensor_type.shape.dim
            if place < len(dimensions) and not dimensions[place].HasField("dim_value"):
                dimensions[place].dim_param = name


def _fold_shapes_of_weights(model: onnx.ModelProto) -> None:
    """Drops the second copy of a weight, of which the converter only asks the shape."""
    graph = model.graph
    shapes = {weight.name: list(weight.dims) for weight in graph.initializer}
    asking = [node for node in graph.node if node.op_type == "Shape" and node.input[0] in shapes]
    for node in asking:
        shape = np.array(shapes[node.input[0]], np.int64)
        graph.initializer.append(onnx.numpy_helper.from_array(shape, node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for weight in [weight for weight in graph.initializer if weight.name not in used]:
        graph.initializer.remove(weight)


@contextlib.contextmanager
def _quiet():
    """Keeps the converter's remarks to themselves: how many nodes it left out, and the like."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


FORMAT = Onnx()
