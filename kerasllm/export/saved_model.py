"""TensorFlow SavedModel: texts in, labels or text out, with nothing but TensorFlow to load it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.data.tokenizers import WordPiece
from kerasllm.errors import CommandError, JobError
from kerasllm.export import run_saved_model
from kerasllm.export.formats import Format, Options
from kerasllm.export.graph_byte_level_bpe import GraphByteLevelBPE
from kerasllm.export.graph_classifier import GraphClassifier
from kerasllm.export.graph_generator import GraphGenerator, chat_parts
from kerasllm.export.graph_tokenizer import GraphTokenizer
from kerasllm.export.graph_word_piece import GraphWordPiece
from kerasllm.export.saved_model_usage import CLASSIFIER, generator_usage, ids_only_usage
from kerasllm.export.source import Source
from kerasllm.export.token_files import write_tokenizer
from kerasllm.export.warm_up import Request, write_warm_up
from kerasllm.generation.weights import can_be_read
from kerasllm.models.text_classifier import TextClassifier

_ROWS_AT_ONCE = 32
# Largest difference of a probability, and least agreement, of a model in bfloat16. It has three
# digits; what is as likely as not may fall on either side.
_LIMITS_BFLOAT16 = (0.05, 0.99)
# Sizes of the batches of texts that a server is warmed up with.
_WARM_UP = (1, 8, 32)
_COMPUTES_IN_BFLOAT16 = """
It computes in bfloat16: faster than float32 where the processor multiplies in it, such as x86 with
AVX512_BF16 or AMX, and TPUs.
"""


class SavedModel(Format):
    """A SavedModel with signatures on texts and on token ids, as TensorFlow Serving wants it."""

    tolerance = 1e-3

    def limits(self, source: Source, precision: str) -> tuple[float, float]:
        return _LIMITS_BFLOAT16 if precision == "bfloat16" else super().limits(source, precision)

    def refuse(self, source: Source, options: Options) -> None:
        if options.precision == "bfloat16" and not source.is_classifier:
            raise CommandError(
                "A language model's SavedModel is written in float32",
                where="--precision bfloat16",
                fix="leave --precision out; bfloat16 is for classifiers",
            )
        if not source.is_classifier and not can_be_read(source.model.backbone):
            raise CommandError(
                f"The cache of a {source.family} cannot be put into a graph",
                where="--format saved_model",
                fix="use --format transformers or keras_hub",
            )

    def remarks(self, source: Source) -> list[str]:
        _, refusal = graph_tokenizer(source)
        return [] if refusal is None else [f"it takes token ids and no texts: {refusal}"]

    def write(self, source: Source, folder: Path, options: Options) -> None:
        tokenizer, _ = graph_tokenizer(source)
        if source.is_classifier:
            graph = GraphClassifier(_in_precision(source.model, options.precision), tokenizer)
        else:
            graph = GraphGenerator(source.model, tokenizer)
        tf.saved_model.save(graph.module, str(folder), signatures=graph.functions)
        if tokenizer is None:
            write_tokenizer(source, folder)
        else:
            write_warm_up(folder, source.name, _requests(source))

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        """In a process that has neither kerasllm nor Keras."""
        output = "probabilities" if source.is_classifier else "logits"
        if graph_tokenizer(source)[0] is None:
            return np.concatenate(_run(folder, "token_ids", _calls_on_ids(source), output))
        signature, name = "serving_default", "text"
        if not source.is_classifier:
            signature, name = "next_token", "prompt"
        calls = [{name: rows} for rows in _in_batches(source.rows)]
        return np.concatenate(_run(folder, signature, calls, output))

    def usage(self, source: Source, options: Options) -> str:
        _, refusal = graph_tokenizer(source)
        if refusal is not None:
            return ids_only_usage(source, refusal)
        if source.is_classifier:
            return CLASSIFIER + (_COMPUTES_IN_BFLOAT16 if options.precision == "bfloat16" else "")
        return generator_usage(chat_parts(source.model) is not None)


FORMAT = SavedModel()


def graph_tokenizer(source: Source) -> tuple[GraphTokenizer | None, str | None]:
    """Returns the model's tokenizer for a graph, or `None` and why it has no exact form there."""
    tokenizer = source.model.tokenizer
    if isinstance(tokenizer, WordPiece):
        return GraphWordPiece(tokenizer), None
    refusal = GraphByteLevelBPE.refusal(tokenizer)
    return (None if refusal else GraphByteLevelBPE(tokenizer)), refusal


def _in_precision(model: TextClassifier, precision: str) -> TextClassifier:
    """Returns a classifier whose weights are held, and computed with, in a precision."""
    if precision == "float32":
        return model
    with tempfile.TemporaryDirectory() as folder:
        model.save_to_preset(folder)
        return TextClassifier.from_preset(folder, precision=precision)


def _requests(source: Source) -> list[Request]:
    if source.is_classifier:
        return [("serving_default", {"text": source.rows[:size]}) for size in _WARM_UP]
    # One that generates: it takes as long as all others.
    generating = ("serving_default", {"prompt": source.rows[:1]})
    return [*(("next_token", {"prompt": source.rows[:size]}) for size in _WARM_UP), generating]


def _in_batches(rows: Sequence) -> Iterator[Sequence]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


def _calls_on_ids(source: Source) -> list[dict]:
    token_ids, mask = source.padded(source.model.pad_to)
    given = {"token_ids": token_ids, "padding_mask": mask, "segment_ids": np.zeros_like(mask)}
    names = source.model.task.input if source.is_classifier else ("token_ids", "padding_mask")
    return [
        {name: given[name][part].tolist() for name in names}
        for part in _in_batches(range(len(mask)))
    ]


def _run(folder: Path, signature: str, calls: list[dict], output: str) -> list[np.ndarray]:
    """Returns one output of a signature for each of some calls."""
    with tempfile.TemporaryDirectory() as made:
        given, found = Path(made) / "calls.json", Path(made) / "outputs.npz"
        given.write_text(json.dumps(calls), encoding="utf-8")
        script = [sys.executable, "-P", run_saved_model.__file__]
        command = [*script, str(folder), signature, str(given), str(found)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise JobError(f"TensorFlow cannot run the exported SavedModel: {last}")
        with np.load(found) as outputs:
            return [outputs[f"{number}/{output}"] for number in range(len(calls))]
