"""Multiple-choice questions, answered by the likelihood of each choice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from kerasllm.data.multiple_choice import Question
from kerasllm.data.sequences import whole_rows
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.token_store import open_or_write, row_batch
from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.errors import CommandError, DataError
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.likelihood import score

TEMPLATE = "Question: {question}\nAnswer:"
"""The prompt of a question; a choice follows after a space."""

# Raise it when the same questions would become other tokens than before.
_VERSION = 1
_UNCUT = 2**31 - 1
# So many questions are tokenized together.
_QUESTIONS_AT_ONCE = 1024


def evaluate(
    model: CausalLM,
    questions: Sequence[Question],
    *,
    folder: Path,
    template: str = TEMPLATE,
    max_length: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> tuple[dict, list[dict]]:
    """Measures how many questions a model answers rightly.

    The likelihood of a choice is that of all its tokens after the question. `accuracy` counts the
    questions whose most likely choice is the right one, and `accuracy_normalized` those where it is
    after dividing the log-likelihood of each choice by its length in bytes of UTF-8, so that long
    choices are not at a disadvantage: `acc` and `acc_norm` of lm-evaluation-harness.

    Args:
        model: The model.
        questions: The questions.
        folder: Where token stores are kept.
        template: What a question becomes. Defaults to `"Question: {question}\\nAnswer:"`.
        max_length: The maximum number of tokens of a question with a choice. Defaults to `None`: as
            many as the model reads.
        notify: Called with what is being done. Defaults to `None`.

    Returns:
        The metrics `accuracy`, `accuracy_normalized`, `chance` (what guessing would reach) and
        `questions`; and for each question its place, the number of the `answer`, of what was
        `predicted` and `predicted_normalized`, and the `log_likelihoods` of its choices, in nats.

    Raises:
        KerasllmError: If a question is too long, or the template does not hold it.

    References:
        [Language Models are Few-Shot Learners](https://arxiv.org/abs/2005.14165), section 2.4;
        [Lessons from the Trenches](https://arxiv.org/abs/2405.14782), on lm-evaluation-harness.

    Example:

    ```python
    metrics, answers = evaluate(model, read_questions("quiz.jsonl"), folder=Path("tokens"))
    ```
    """
    store = open_questions(questions, model.tokenizer, folder=folder, template=template)
    _check_lengths(store, questions, max_length or model.max_length)
    scores = score(model, whole_rows(store), notify=notify)
    counts = [len(question.choices) for question in questions]
    ends = np.cumsum(counts)
    answers = []
    for question, likelihoods in zip(questions, np.split(-scores[:, 0], ends[:-1]), strict=True):
        sizes = np.array([len(choice.encode()) for choice in question.choices])
        answers.append(
            {
                "file": question.file,
                "line": question.line,
                "answer": question.answer,
                "predicted": int(likelihoods.argmax()),
                "predicted_normalized": int((likelihoods / sizes).argmax()),
                "log_likelihoods": likelihoods.tolist(),
            }
        )

    def share(key: str) -> float:
        return float(np.mean([each[key] == each["answer"] for each in answers]))

    metrics = {
        "accuracy": share("predicted"),
        "accuracy_normalized": share("predicted_normalized"),
        "chance": float(np.mean(1 / np.array(counts))),
        "questions": len(questions),
    }
    return metrics, answers


def open_questions(
    questions: Sequence[Question], tokenizer: TokenizerJson, *, folder: Path, template: str
) -> TokenStore:
    """Returns the tokens of questions, from the store if they were read before.

    A row is a question with one of its choices, tokenized as one text, as tokens may reach over
    the border between them. What counts are its tokens from the first one that differs from
    those of the question alone, or of another choice.

    Args:
        questions: The questions, those of a file one after the other.
        tokenizer: Turns them into token ids.
        folder: Where stores are kept.
        template: What a question becomes; holds `{question}`.

    Raises:
        CommandError: If the template does not hold the question.
    """
    if "{question}" not in template:
        raise CommandError(
            f"The template {template!r} does not say where the question goes",
            fix="write {question} there",
        )
    rows = [dataclasses.astuple(question) for question in questions]
    content = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    files = list(dict.fromkeys(question.file for question in questions))

    def batches() -> Iterator[pa.RecordBatch]:
        for name, of_file in groupby(questions, key=lambda question: question.file):
            together = list(of_file)
            for first in range(0, len(together), _QUESTIONS_AT_ONCE):
                some = together[first : first + _QUESTIONS_AT_ONCE]
                yield _rows(some, tokenizer, template, files.index(name))

    return open_or_write(
        ["multiple choice", _VERSION, content, tokenizer.fingerprint, template],
        batches,
        files,
        folder=folder,
    )


def _rows(
    questions: list[Question], tokenizer: TokenizerJson, template: str, file: int
) -> pa.RecordBatch:
    contexts = [template.replace("{question}", question.question) for question in questions]
    texts = [
        text
        for context, question in zip(contexts, questions, strict=True)
        for text in (context, *(f"{context} {choice}" for choice in question.choices))
    ]
    ids, offsets = tokenizer.encode(texts, _UNCUT)
    encoded = iter([ids[start:end] for start, end in pairwise(offsets)])
    rows, trained, lines = [], [], []
    for question in questions:
        context = next(encoded)
        choices = [next(encoded) for _ in question.choices]
        # The first token has nothing that it could be predicted from.
        shared = max(min(_shared(context, row) for row in choices), 1)
        rows += choices
        trained += [np.arange(len(row)) >= shared for row in choices]
        lines += [question.line] * len(choices)
    sizes = np.cumsum([0, *map(len, rows)])
    marks = np.concatenate(trained).astype(np.uint8)
    return row_batch(np.concatenate(rows), sizes, file, np.array(lines), trained=marks)


def _shared(one: np.ndarray, other: np.ndarray) -> int:
    """Returns how many tokens two rows begin with alike."""
    length = min(len(one), len(other))
    return int(np.argmin(np.append(one[:length] == other[:length], False)))


def _check_lengths(
    store: TokenStore, questions: Sequence[Question], max_length: int | None
) -> None:
    # The last token of a row is predicted, and not read.
    longest = int(store.lengths.argmax())
    if max_length is None or store.lengths[longest] - 1 <= max_length:
        return
    file, line = store.where(longest)
    raise DataError(
        f"A question takes {store.lengths[longest] - 1:,} tokens with its choice, and the model "
        f"reads {max_length:,}",
        where=f"{file}:{line}",
        fix="shorten or remove it",
    )
