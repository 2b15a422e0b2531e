"""The output to explain for question answering: the logits of the answer's start and end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from kerasllm.data.token_offsets import contents_of, place_pair
from kerasllm.errors import CommandError
from kerasllm.models.answer_model import AnswerModel
from kerasllm.models.answer_texts import Prepared, answer_texts
from kerasllm.models.explained.output import ExplainedOutput, all_outputs

_NAMES = ("question", "context")


def explained_answers(
    model: AnswerModel, pairs: Iterable[tuple[str, str]], target: str | None = None
) -> Iterator[ExplainedOutput]:
    """Yields what is explained of questions: the logit of the answer's start plus that of its end.

    They are those of the window over the context in which they are highest. Of a question that has
    no answer they are those of the first token, which stands for none.

    Args:
        model: The model.
        pairs: Questions, each with its context.
        target: Refused: the answer is what the model finds. Defaults to `None`.

    Raises:
        CommandError: If there is a target.
    """
    if target is not None:
        raise CommandError(
            "Only the predicted answer of a question can be explained",
            where="--target",
            fix="leave it out",
        )
    for pair in pairs:
        windows = model.cut([pair])
        logits = all_outputs(model.task, windows.tokens)
        found = answer_texts(
            model,
            [pair],
            n_best=1,
            prepared=Prepared([pair], windows),
            logits=lambda _, logits=logits: logits,
        )[0]
        yield _of_answer(model, pair, windows, logits, found)


def _of_answer(model, pair, windows, logits, found) -> ExplainedOutput:
    answers = windows.answers
    candidates = [
        (window, start, end, logits[row + start, 0] + logits[row + end, 1])
        for window, row in enumerate(answers.offsets[:-1])
        for start, end in _tokens(answers, window, found["start"], found["end"])
    ]
    none = (0, 0, 0, 0.0)
    window, start, end, _ = max(candidates, key=lambda one: one[-1], default=none)
    question, context = contents_of(model.tokenizer, pair)
    read = windows.windows
    contents = (
        question.part(0, model.answering.max_question_length),
        context.part(int(read.starts[window]), int(read.ends[window])),
    )
    answer = " ".join(found["answer"].split()) or "no answer"
    return ExplainedOutput(
        place_pair(model.tokenizer, pair, model.max_length, "only_second", contents),
        model.task,
        lambda outputs: outputs[:, start, 0] + outputs[:, end, 1],
        target=answer,
        described="the logit of its start plus that of its end",
        predicted=f"{answer} ({found['score']:.2f})",
        names=_NAMES,
    )


def _tokens(answers, window: int, first: int | None, last: int | None) -> list[tuple[int, int]]:
    """Returns the tokens at which an answer begins and ends, where a window holds both."""
    if first is None:
        return []
    spans = answers.spans[answers.span_offsets[window] : answers.span_offsets[window + 1]]
    starts, ends = np.flatnonzero(spans[:, 0] == first), np.flatnonzero(spans[:, 1] == last)
    before = int(answers.firsts[window])
    return [(before + int(s), before + int(e)) for s in starts[:1] for e in ends[-1:] if s <= e]
