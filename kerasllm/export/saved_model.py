"""TensorFlow SavedModel: texts in, labels out, with nothing but TensorFlow to load it."""

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
from kerasllm.errors import JobError
from kerasllm.export import run_saved_model
from kerasllm.export.formats import Format, Options
from kerasllm.export.graph_classifier import GraphClassifier
from kerasllm.export.graph_tokenizer import GraphTokenizer
from kerasllm.export.graph_word_piece import GraphWordPiece
from kerasllm.export.source import Source
from kerasllm.export.token_example import example
from kerasllm.export.token_files import write_tokenizer
from kerasllm.export.warm_up import write_warm_up

_ROWS_AT_ONCE = 32
# Sizes of the batches of texts that a server is warmed up with.
_WARM_UP = (1, 8, 32)


class SavedModel(Format):
    """A SavedModel with signatures on texts and on token ids, as TensorFlow Serving wants it."""

    tolerance = 1e-3

    def write(self, source: Source, folder: Path, options: Options) -> None:
        tokenizer = graph_tokenizer(source)
        graph = GraphClassifier(source.model, tokenizer)
        tf.saved_model.save(graph.module, str(folder), signatures=graph.functions)
        if tokenizer is None:
            write_tokenizer(source, folder)
        else:
            requests = [("serving_default", {"text": source.rows[:size]}) for size in _WARM_UP]
            write_warm_up(folder, source.name, requests)

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        """In a process that has neither kerasllm nor Keras."""
        if graph_tokenizer(source) is None:
            return np.concatenate(_run(folder, "token_ids", _calls_on_ids(source), "probabilities"))
        calls = [{"text": rows} for rows in _in_batches(source.rows)]
        return np.concatenate(_run(folder, "serving_default", calls, "probabilities"))

    def usage(self, source: Source, options: Options) -> str:
        if graph_tokenizer(source) is None:
            return _ids_only(source)
        return _CLASSIFIER


FORMAT = SavedModel()


def graph_tokenizer(source: Source) -> GraphTokenizer | None:
    """Returns the model's tokenizer for a graph, or `None` if it has no form there that is exact."""
    tokenizer = source.model.tokenizer
    if isinstance(tokenizer, WordPiece):
        return GraphWordPiece(tokenizer)
    return None


def _in_batches(rows: Sequence) -> Iterator[Sequence]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


def _calls_on_ids(source: Source) -> list[dict]:
    token_ids, mask = source.padded(source.model.pad_to)
    given = {"token_ids": token_ids, "padding_mask": mask, "segment_ids": np.zeros_like(mask)}
    return [
        {name: given[name][part].tolist() for name in source.model.task.input}
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


def _ids_only(source: Source) -> str:
    code = example(
        source,
        imports="import tensorflow as tf",
        opening='classify = tf.saved_model.load("FOLDER").signatures["token_ids"]',
        running="outputs = classify(**{name: tf.constant(ids) for name, ids in inputs.items()})\n"
        "outputs = {name: value.numpy() for name, value in outputs.items()}",
    )
    return f"""\
{source.model.tokenizer.description}: it has no form in a graph that gives the same ids. So there
is no signature on texts, and the tokenizer's files stand beside the SavedModel.

{code}
"""


_CLASSIFIER = """\
TensorFlow alone loads it (`pip install tensorflow`):

```python
import tensorflow as tf

classify = tf.saved_model.load("FOLDER").signatures["serving_default"]
answer = classify(text=tf.constant(["A film to remember.", "Dull."]))
answer["label"].numpy()          # the label of each text
answer["probabilities"].numpy()  # of each label; their names, in this order, are in "labels"
```
"""
