"""Measure a language model: on text, on conversations, on questions with choices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerasllm.data.chat.conversations import Counts, open_conversations
from kerasllm.data.chat.shapes import shape_of
from kerasllm.data.documents import Documents, open_documents
from kerasllm.data.multiple_choice import KEYS, read_questions
from kerasllm.data.readers.records import first_keys
from kerasllm.data.sequences import Sequences, whole_rows, windows
from kerasllm.data.token_store import TokenStore
from kerasllm.environment import store_dir
from kerasllm.errors import CommandError, DataError
from kerasllm.models import multiple_choice
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.likelihood import evaluate
from kerasllm.recipe import load
from kerasllm.run import Run, write_text
from kerasllm.tasks.causal_lm import choose_template
from kerasllm.workflows.open_causal_lm import is_run, open_causal_lm
from kerasllm.workflows.report import Busy, Report

if TYPE_CHECKING:
    from kerasllm.recipe.causal_lm import CausalData
    from kerasllm.recipe.preference import PreferenceData

# A preset may read far more, at a cost that grows with the square of it.
_LONGEST_WINDOW = 1024


@dataclass(frozen=True)
class Options:
    """How a language model is measured.

    Args:
        text: Column of the texts. Defaults to `None`: found by common names.
        stride: How many tokens a window over a text moves on. Defaults to `None`: half a window.
        max_length: The most tokens of a window or a conversation. Defaults to `None`: those of the
            run's rows, or of a preset as many as it reads, 1024 at most. Of questions: as many as
            the model reads.
        chat_template: A built-in chat template or a file. Defaults to `None`: the model's own.
        template: What a question becomes. Defaults to `None`: `multiple_choice.TEMPLATE`.
    """

    text: str | None = None
    stride: int | None = None
    max_length: int | None = None
    chat_template: str | None = None
    template: str | None = None


# What each option is for, where it is not for all data.
_FOR = {
    "stride": "texts",
    "chat_template": "conversations",
    "template": "questions with choices",
}


def evaluate_causal_lm(
    source: str | Path,
    data: str | Sequence[str],
    options: Options,
    *,
    adapter: str | Path | None = None,
    output: str | Path | None = None,
    report: Report,
) -> dict:
    """Measures a language model; see `kerasllm.workflows.evaluate`.

    Args:
        source: A run directory or a preset.
        data: A file, a folder of texts, a glob or `starter:NAME`, or a list of these.
        options: How.
        adapter: A folder with a PEFT adapter to put on it. Defaults to `None`.
        output: A `.jsonl` file for what was measured of each row. Defaults to `None`.
        report: Where progress is shown.

    Raises:
        KerasllmError: If the model, the data or an option is refused.
    """
    kind = _kind_of(data, options)
    _check_output(output)
    recipe = load(str(Run.open(source).recipe)) if is_run(source) else None
    with report.busy("loading the model") as busy:
        model = open_causal_lm(source, adapter=adapter, progress=busy.update)
        if kind == "questions with choices":
            _check_length(model, options.max_length)
            metrics, rows = multiple_choice.evaluate(
                model,
                read_questions(data),
                folder=store_dir(),
                template=options.template or multiple_choice.TEMPLATE,
                max_length=options.max_length,
                notify=busy.update,
            )
        else:
            read = _texts if kind == "texts" else _conversations
            sequences, facts = read(model, data, options, recipe and recipe.data, report, busy)
            metrics, scores = evaluate(model, sequences, notify=busy.update)
            metrics |= facts
            rows = _rows(sequences, scores)
    if output:
        write_text(Path(output), "".join(json.dumps(row) + "\n" for row in rows))
    return metrics


def _texts(
    model: CausalLM,
    data: str | Sequence[str],
    options: Options,
    trained: CausalData | PreferenceData | None,
    report: Report,
    busy: Busy,
) -> tuple[Sequences, dict]:
    """Returns windows over texts, and what tells how they were made."""
    length = _length(model, options, trained)
    stride = (length + 1) // 2 if options.stride is None else options.stride
    if not 1 <= stride <= length:
        raise CommandError(
            f"A window of {length:,} tokens moves on by 1 to {length:,}. Received: {stride}",
            where="--stride",
        )
    documents = Documents(
        data,
        split="test",
        text=options.text or getattr(trained, "text", None),
        on_bad_row=trained.on_bad_row if trained else "error",
    )
    whole, _ = documents.cut(0.0)
    store = open_documents(whole, model.tokenizer, folder=store_dir(), notify=busy.update)
    _show_skipped(store, report)
    size = store.remarks[0]
    sequences = replace(windows(store, length, stride), text_bytes=size)
    return sequences, {"bytes": size, "max_length": length, "stride": stride}


def _conversations(
    model: CausalLM,
    data: str | Sequence[str],
    options: Options,
    trained: CausalData | PreferenceData | None,
    report: Report,
    busy: Busy,
) -> tuple[Sequences, dict]:
    """Returns conversations, and what tells how they were read."""
    length = _length(model, options, trained)
    template = choose_template(
        options.chat_template or "auto",
        model.chat_template,
        model.tokenizer,
        "The model",
        where="--chat-template",
    )
    store = open_conversations(
        data,
        model.tokenizer,
        template,
        split="test",
        max_length=length,
        system=trained.system if trained else None,
        on_bad_row=trained.on_bad_row if trained else "error",
        folder=store_dir(),
        notify=busy.update,
    )
    _show_skipped(store, report)
    counts = Counts.of(store)
    if counts.cut or counts.dropped:
        report.line(f"of more than {length:,} tokens: {counts}")
    return whole_rows(store), {"conversations": len(store), "max_length": length}


def _length(
    model: CausalLM, options: Options, trained: CausalData | PreferenceData | None
) -> int:
    """Returns the most tokens of a window or a conversation."""
    _check_length(model, options.max_length)
    if options.max_length is not None:
        return options.max_length
    if trained is not None:
        return trained.max_length
    return min(model.max_length or _LONGEST_WINDOW, _LONGEST_WINDOW)


def _check_length(model: CausalLM, length: int | None) -> None:
    most = model.max_length
    if length is not None and not 1 <= length <= (most or length):
        raise CommandError(
            f"The model reads from 1 to {most or 'any number of'} tokens. Received: {length}",
            where="--max-length",
        )


def _show_skipped(store: TokenStore, report: Report) -> None:
    if store.skipped:
        file, line, why = store.skipped_rows[0]
        report.line(f"{store.skipped:,} bad rows were skipped, the first at {file}:{line}: {why}")


def _rows(sequences: Sequences, scores: np.ndarray) -> list[dict]:
    """Returns what was measured of each text or conversation, its windows together."""
    numbers, which = np.unique(sequences.pieces["row"], return_inverse=True)
    sums = np.zeros((len(numbers), 3))
    np.add.at(sums, which, scores)
    rows = []
    for number, (loss, tokens, correct) in zip(numbers, sums.tolist(), strict=True):
        file, line = sequences.store.where(int(number))
        shares = {"loss": loss / tokens, "accuracy": correct / tokens} if tokens else {}
        rows.append({"file": file, "line": line, "tokens": int(tokens), **shares})
    return rows


def _kind_of(data: str | Sequence[str], options: Options) -> str:
    """Returns what the rows of some files are, by the keys of the first ones."""
    keys = [] if options.text else first_keys(data, "test")
    kind = "texts"
    if {*KEYS[:2]} <= {*keys}:
        kind = "questions with choices"
    elif (shape := shape_of(keys)) == "preference":
        raise DataError(
            "The rows are preferences: an answer that was chosen, and one that was rejected",
            where=str(data if isinstance(data, str) else data[0]),
            fix="give texts, conversations, or questions with choices",
        )
    elif shape:
        kind = "conversations"
    for option, used in _FOR.items():
        if getattr(options, option) is not None and used != kind:
            raise CommandError(
                f"This is for {used}, and the data are {kind}",
                where=f"--{option.replace('_', '-')}",
                fix="leave it out",
            )
    return kind


def _check_output(output: str | Path | None) -> None:
    if output is None:
        return
    path = Path(output)
    if path.suffix != ".jsonl" or path.is_dir():
        raise CommandError(
            "What was measured of each row is written to a .jsonl file",
            where=str(output),
            fix="end --output with .jsonl",
        )
    if not path.parent.is_dir():
        raise CommandError("The directory is not there", where=str(path.parent), fix="make it")
