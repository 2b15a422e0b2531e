"""TensorFlow SavedModel: texts in, the head's outputs or text out, by TensorFlow alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.data.tokenizers import WordPiece
from kerasllm.errors import CommandError, JobError
from kerasllm.export import run_saved_model
from kerasllm.export.formats import Engine, Format, Options
from kerasllm.export.graph_byte_level_bpe import GraphByteLevelBPE
from kerasllm.export.graph_encoder import GraphEncoder
from kerasllm.export.graph_generator import GraphGenerator, chat_parts
from kerasllm.export.graph_tokenizer import GraphTokenizer
from kerasllm.export.graph_unigram import GraphUnigram
from kerasllm.export.graph_word_piece import GraphWordPiece
from kerasllm.export.graph_writer import GraphWriter
from kerasllm.export.run_transformers import TARGET_TOKENS
from kerasllm.export.saved_model_usage import (
    encoder_usage,
    generator_usage,
    ids_only_usage,
    writer_usage,
)
from kerasllm.export.source import Source
from kerasllm.export.token_files import write_tokenizer
from kerasllm.export.warm_up import Request, write_warm_up
from kerasllm.generation.encoder_decoder.weights import can_be_read as can_read_decoder
from kerasllm.generation.weights import can_be_read
from kerasllm.training.fit import FineTunedModel

_ROWS_AT_ONCE = 32
# Sizes of the batches of texts that a server is warmed up with.
_WARM_UP = (1, 8, 32)
_COMPUTES_IN_BFLOAT16 = """
It computes in bfloat16: faster than float32 where the processor multiplies in it, such as x86 with
AVX512_BF16 or AMX, and TPUs.
"""


class SavedModel(Format):
    """A SavedModel with signatures on texts and on token ids, as TensorFlow Serving wants it."""

    def refuse(self, source: Source, options: Options) -> None:
        writes = source.generates or source.is_encoder_decoder
        if options.precision == "bfloat16" and writes:
            raise CommandError(
                "The SavedModel of a generative model is float32 only",
                where="--precision bfloat16",
                fix="leave --precision out; bfloat16 is for encoders",
            )
        readable = can_read_decoder if source.is_encoder_decoder else can_be_read
        if writes and not readable(source.model.backbone):
            others = source.head.formats or ("transformers", "keras_hub")
            raise CommandError(
                f"The cache of a {source.family} is not supported in a graph",
                where="--format saved_model",
                fix=f"use --format {' or '.join(one for one in others if one != 'saved_model')}",
            )

    def remarks(self, source: Source) -> list[str]:
        _, refusal = graph_tokenizer(source)
        return [] if refusal is None else [f"it takes token ids, not texts: {refusal}"]

    def write(self, source: Source, folder: Path, options: Options) -> None:
        tokenizer, _ = graph_tokenizer(source)
        if source.generates:
            graph = GraphGenerator(source.model, tokenizer)
        elif source.is_encoder_decoder:
            graph = GraphWriter(source.model, tokenizer)
        else:
            model = _in_precision(source, options.precision)
            graph = GraphEncoder(model, source.head, tokenizer, source.truncation)
        tf.saved_model.save(graph.module, str(folder), signatures=graph.functions)
        if tokenizer is None:
            write_tokenizer(source, folder)
        else:
            write_warm_up(folder, source.name, _requests(source))

    def predict(self, source: Source, folder: Path, options: Options) -> np.ndarray:
        """In a process that has neither kerasllm nor Keras."""
        if source.is_encoder_decoder:
            return _target_logits(source, folder)
        if graph_tokenizer(source)[0] is None or source.head.of_texts:
            signature, calls = "token_ids", _calls_on_ids(source)
        else:
            signature = "next_token" if source.generates else "serving_default"
            calls = [_texts(source, part) for part in _batches(source)]
        compared = []
        answers = _run(folder, signature, calls)
        for part, outputs in zip(_batches(source), answers, strict=True):
            found = outputs[source.head.compared]
            if source.head.per_token:
                lengths = source.tokens.lengths[part]
                if "tokens" in outputs:
                    lengths = outputs["tokens"].sum(axis=1)
                found = np.concatenate(source.compared_in(found, lengths))
            compared.append(found)
        return np.concatenate(compared)

    def engine(self) -> Engine:
        return Engine(f"TensorFlow {tf.__version__}, without kerasllm")

    def usage(self, source: Source, options: Options) -> str:
        _, refusal = graph_tokenizer(source)
        if refusal is not None:
            return ids_only_usage(source, refusal)
        if source.generates:
            return generator_usage(chat_parts(source.model) is not None)
        if source.is_encoder_decoder:
            return writer_usage(source, graph_tokenizer(source)[0].needs_text_ops)
        return encoder_usage(source) + _COMPUTES_IN_BFLOAT16 * (options.precision == "bfloat16")


FORMAT = SavedModel()


def graph_tokenizer(source: Source) -> tuple[GraphTokenizer | None, str | None]:
    """Returns the model's tokenizer for a graph, or `None` and why it has no exact form there."""
    tokenizer = source.model.tokenizer
    if isinstance(tokenizer, WordPiece):
        return GraphWordPiece(tokenizer), None
    if source.is_encoder_decoder and GraphUnigram.is_unigram(tokenizer):
        refusal = GraphUnigram.refusal(tokenizer)
        return (None if refusal else GraphUnigram(tokenizer)), refusal
    refusal = GraphByteLevelBPE.refusal(tokenizer)
    if refusal is None and source.head.of_texts:
        refusal = "its character offsets are not available in a graph, unlike WordPiece's"
    return (None if refusal else GraphByteLevelBPE(tokenizer)), refusal


def _in_precision(source: Source, precision: str) -> FineTunedModel:
    """Returns a model whose weights are held, and computed with, in a precision."""
    if precision == "float32":
        return source.model
    with tempfile.TemporaryDirectory() as folder:
        source.model.save_to_preset(folder)
        return source.task.open(folder, precision=precision)


def _requests(source: Source) -> list[Request]:
    signature = "next_token" if source.generates else "serving_default"
    requests = [(signature, _texts(source, slice(size))) for size in _WARM_UP]
    if source.generates:
        # One that generates: it takes as long as all others.
        requests.append(("serving_default", _texts(source, slice(1))))
    return requests


def _texts(source: Source, part: slice) -> dict[str, list[str]]:
    """Returns the inputs of some rows, by the names of the head's texts."""
    return {
        name: column[part] for name, column in zip(source.head.texts, source.columns, strict=True)
    }


def _batches(source: Source) -> Iterator[slice]:
    for start in range(0, len(source.rows), _ROWS_AT_ONCE):
        yield slice(start, start + _ROWS_AT_ONCE)


def _calls_on_ids(source: Source) -> list[dict]:
    names = ("token_ids", "padding_mask") if source.generates else source.input_names
    calls = []
    for part in _batches(source):
        rows = range(len(source.rows))[part]
        inputs = source.tokens.inputs(rows, source.model.pad_to)
        calls.append({name: inputs[name].tolist() for name in names})
    return calls


def _target_logits(source: Source, folder: Path) -> np.ndarray:
    """Returns the logits that the exported graph gives for the first tokens of targets.

    They are those that `kerasllm.export.target_logits` compares.
    """
    tokenizer, _ = graph_tokenizer(source)
    on_text = tokenizer is not None
    pad, calls, lengths = source.model.parts.pad_token_id, [], []
    for part in _batches(source):
        ids = source.model.encode_sources(source.rows[part])
        rows = [ids_of_row.tolist() for ids_of_row in ids]
        targets, _ = _padded([[*row, pad][:TARGET_TOKENS] for row in rows], pad)
        call = {"text": source.rows[part]} if on_text else _source_inputs(rows, pad)
        calls.append({**call, "target_token_ids": targets})
        lengths.append([min(len(row) + 1, TARGET_TOKENS) for row in rows])
    text_ops = on_text and tokenizer.needs_text_ops
    answers = _run(folder, "score" if on_text else "score_ids", calls, text_ops)
    return np.concatenate(
        [
            one
            for answer, counts in zip(answers, lengths, strict=True)
            for one in source.compared_in(answer["logits"], np.array(counts))
        ]
    )


def _source_inputs(rows: list[list[int]], pad: int) -> dict[str, list[list[int]]]:
    token_ids, padding_mask = _padded(rows, pad)
    return {"token_ids": token_ids, "padding_mask": padding_mask}


def _padded(rows: list[list[int]], pad: int) -> tuple[list[list[int]], list[list[int]]]:
    """Returns rows of ids that are padded to one length, and their mask."""
    longest = max(map(len, rows))
    spare = [longest - len(row) for row in rows]
    ids = [row + [pad] * count for row, count in zip(rows, spare)]
    return ids, [[1] * len(row) + [0] * count for row, count in zip(rows, spare)]


def _run(
    folder: Path, signature: str, calls: list[dict], text_ops: bool = False
) -> list[dict[str, np.ndarray]]:
    """Returns the numeric outputs of a signature for each of some calls."""
    with tempfile.TemporaryDirectory() as made:
        given, found = Path(made) / "calls.json", Path(made) / "outputs.npz"
        given.write_text(json.dumps(calls), encoding="utf-8")
        script = [sys.executable, "-P", run_saved_model.__file__]
        command = [*script, str(folder), signature, str(given), str(found)]
        command += ["tensorflow_text"] if text_ops else []
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            last = (done.stderr.strip() or "no error message").splitlines()[-1]
            raise JobError(f"TensorFlow cannot run the exported SavedModel: {last}")
        answers: list[dict[str, np.ndarray]] = [{} for _ in calls]
        with np.load(found) as outputs:
            for key, value in outputs.items():
                number, _, name = key.partition("/")
                answers[int(number)][name] = value
        return answers
