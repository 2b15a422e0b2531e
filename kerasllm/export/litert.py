"""LiteRT (TensorFlow Lite): a file on token ids for phones and small devices, in three precisions.

int8 is dynamic-range quantization: the kernels are held in 8 bits, one scale a channel, and what
flows through is quantized as it comes, so that no data are needed to calibrate.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.errors import CommandError
from kerasllm.export.formats import Engine, Format, Options
from kerasllm.export.source import Source
from kerasllm.export.token_example import example
from kerasllm.export.token_files import read_tokens, write_tokenizer
from kerasllm.export.token_graph import run_in_batches, token_graph
from kerasllm.runtime.startup import nothing_on_stderr

# A file is a flat buffer, whose offsets have 31 bits.
_LARGEST_FILE = 2**31 - 1


class LiteRT(Format):
    """One `.tflite` file a precision, and the tokenizer."""

    def refuse(self, source: Source, options: Options) -> None:
        size = 4 * source.model.task.count_params()
        if size > _LARGEST_FILE:
            raise CommandError(
                f"The weights take {size / 1e9:.1f} GB in float32, but the LiteRT converter takes "
                f"{_LARGEST_FILE / 1e9:.1f} GB at most",
                where="--format litert",
                fix="use --format onnx, transformers or saved_model, or a smaller model",
            )

    def write(self, source: Source, folder: Path, options: Options) -> None:
        graph = token_graph(source)
        module = tf.Module()
        module.weights = [weight.value for weight in graph.weights]
        function = tf.function(graph.call, autograph=False).get_concrete_function(*graph.specs)
        for precision in options.precisions:
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            with _quiet(), nothing_on_stderr():
                content = converter.convert()
            (folder / file_of(precision)).write_bytes(content)
        write_tokenizer(source, folder)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        with _quiet(), nothing_on_stderr():
            interpreter = tf.lite.Interpreter(
                str(folder / file_of(options.precision)), num_threads=os.cpu_count()
            )
            run = interpreter.get_signature_runner()
            names = list(run.get_input_details())
            # It logs its delegates at the first call.
            one = np.ones([1, source.model.pad_to or 1], np.int32)
            run(**dict.fromkeys(names, one))
        tokens = read_tokens(source, folder)
        return run_in_batches(
            source, tokens, lambda inputs: run(**{name: inputs[name] for name in names})
        )

    def engine(self) -> Engine:
        return Engine(f"the LiteRT interpreter of TensorFlow {tf.__version__}")

    def usage(self, source: Source, options: Options) -> str:
        files = ", ".join(f"`{file_of(precision)}`" for precision in options.precisions)
        code = example(
            source,
            imports="from ai_edge_litert.interpreter import Interpreter",
            opening=f'run = Interpreter("{file_of(options.precision)}").get_signature_runner()',
            running="outputs = run(**inputs)",
        )
        return f"""\
{files}: token ids in, any number of rows, padded to the same length. On a phone the LiteRT
library of the platform runs them; with Python it is `pip install ai-edge-litert`.

{code}
"""


def file_of(precision: str) -> str:
    """Returns the name of the file of a precision."""
    return f"model_{precision}.tflite"


@contextlib.contextmanager
def _quiet():
    """Silences the converter's and the interpreter's warnings: what else one might use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


FORMAT = LiteRT()
