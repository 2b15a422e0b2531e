"""ONNX: a file on token ids, for onnxruntime and other engines."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from kerasllm.export.formats import Engine, Format, Options
from kerasllm.export.source import Source
from kerasllm.export.token_example import example
from kerasllm.export.token_files import read_tokens, write_tokenizer
from kerasllm.export.token_graph import TokenGraph, run_in_batches, token_graph

FILE_NAME = "model.onnx"

# Known to onnxruntime since 1.14, of 2023.
_OPSET = 18
# A file is one protocol buffer, which can hold no more; then the weights are in a file beside it.
_LARGEST_FILE = 2**31 - 1


class Onnx(Format):
    """One `model.onnx`, and the tokenizer."""

    def write(self, source: Source, folder: Path, options: Options) -> None:
        graph = token_graph(source)
        model = _convert(graph)
        _put_weights_in(model, graph)
        size = sum(len(weight.raw_data) for weight in model.graph.initializer)
        onnx.save(
            model,
            str(folder / FILE_NAME),
            save_as_external_data=size > _LARGEST_FILE,
            location=f"{FILE_NAME}.data",
        )
        onnx.checker.check_model(str(folder / FILE_NAME))
        write_tokenizer(source, folder)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        session = onnxruntime.InferenceSession(
            str(folder / FILE_NAME), providers=["CPUExecutionProvider"]
        )
        inputs = [one.name for one in session.get_inputs()]
        outputs = [one.name for one in session.get_outputs()]

        def run(given):
            found = session.run(outputs, {name: given[name] for name in inputs})
            return dict(zip(outputs, found, strict=True))

        return run_in_batches(source, read_tokens(source, folder), run)

    def engine(self) -> Engine:
        return Engine.of("onnxruntime")

    def usage(self, source: Source, options: Options) -> str:
        code = example(
            source,
            imports="import onnxruntime",
            opening=f'session = onnxruntime.InferenceSession("{FILE_NAME}")',
            running="outputs = dict(zip([one.name for one in session.get_outputs()], "
            "session.run(None, inputs)))",
        )
        return f"""\
`{FILE_NAME}`: token ids in, any number of rows, padded to the same length. It is of opset
{_OPSET}; `pip install onnxruntime tokenizers`.

{code}
"""


def _convert(graph: TokenGraph) -> onnx.ModelProto:
    """Converts the graph without its weights, which are inputs for now.

    As constants of the graph the converter would copy them many times over.
    """

    def call(*inputs):
        ids, weights = inputs[: len(graph.specs)], inputs[len(graph.specs) :]
        with keras.StatelessScope(state_mapping=list(zip(graph.weights, weights, strict=True))):
            return graph.call(*ids)

    weights = [
        tf.TensorSpec(weight.shape, weight.dtype, name=_name(number))
        for number, weight in enumerate(graph.weights)
    ]
    signature = [*graph.specs, *weights]
    with _quiet():
        model, _ = tf2onnx.convert.from_function(
            tf.function(call, autograph=False), input_signature=signature, opset=_OPSET
        )
    for value in (*model.graph.input, *model.graph.output):
        # The converter makes up names for open dimensions.
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", "length")):
            if not dimension.HasField("dim_value"):
                dimension.dim_param = name
    return model


def _put_weights_in(model: onnx.ModelProto, graph: TokenGraph) -> None:
    """Makes weights of those inputs that are weights, under the names that they have in Keras."""
    used = {name for node in model.graph.node for name in node.input}
    of_users = {spec.name for spec in graph.specs}
    for value in [value for value in model.graph.input if value.name not in of_users]:
        model.graph.input.remove(value)
    paths = Counter(weight.path for weight in graph.weights)
    names = {}
    for number, weight in enumerate(graph.weights):
        name = weight.path if paths[weight.path] == 1 else f"{weight.path}_{number}"
        if _name(number) in used:
            tensor = onnx.numpy_helper.from_array(np.asarray(weight), name)
            model.graph.initializer.append(tensor)
        names[_name(number)] = name
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _name(number: int) -> str:
    return f"weight_{number}"


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
