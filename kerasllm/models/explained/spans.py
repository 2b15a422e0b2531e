"""The output to explain for a token classifier: the logits of the tags of each span."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import numpy as np

from kerasllm.data.token_offsets import contents_of, place_text
from kerasllm.data.word_windows import NO_TOKEN
from kerasllm.errors import CommandError
from kerasllm.models.explained.output import ExplainedOutput, all_outputs, unknown_target
from kerasllm.models.tag_texts import prepare_texts, tag_texts
from kerasllm.models.token_classifier import TokenClassifier

_MOST = 20
"""Spans that are explained of a text; where each word has a tag there may be hundreds."""


def explained_spans(
    model: TokenClassifier, texts: Iterable[str], target: str | None = None
) -> Iterator[ExplainedOutput]:
    """Yields what is explained of texts: each span, by the mean logit of its tags.

    A span is explained in the window over the text in which its first word was tagged.

    Args:
        model: The model.
        texts: The texts.
        target: A type of spans, to explain these alone. Defaults to `None`: all spans.

    Raises:
        CommandError: If there is no such type, or nothing is found in a text.
    """
    types = list(model.tags.types)
    if target is not None and target not in types:
        raise unknown_target(target, types, "type")
    for text in texts:
        prepared = prepare_texts(model, [text])
        logits = all_outputs(model.task, prepared.windows.tokens)
        [found] = tag_texts(
            model, [text], prepared=prepared, logits=lambda _, logits=logits: logits
        )
        spans = [one for one in found["spans"] if target in (None, one["label"])]
        if not spans:
            raise CommandError(
                f"The model finds no {target or 'span'} in the text: there is nothing to explain",
                where=" ".join(text.split())[:60],
                fix="give another text" + (f", or leave --target {target} out" if target else ""),
            )
        remarks = ()
        if len(spans) > _MOST:
            remarks = (f"the first {_MOST} of {len(spans)} spans are explained",)
        for span in spans[:_MOST]:
            yield _of_span(model, text, prepared, found["tags"], span, remarks)


def _of_span(model, text, prepared, tags, span, remarks) -> ExplainedOutput:
    words, windows = prepared.words[0], prepared.windows
    inside = [
        number
        for number, (start, end) in enumerate(words)
        if span["start"] <= start and end <= span["end"]
    ]
    window = int(np.searchsorted(windows.word_offsets, inside[0], side="right")) - 1
    owned = range(windows.word_offsets[window], windows.word_offsets[window + 1])
    names = list(model.labels.names)
    places = [
        (int(windows.word_tokens[word]), names.index(tags[word]))
        for word in inside
        if word in owned and windows.word_tokens[word] != NO_TOKEN
    ]
    # A word that the tokenizer makes nothing of has the tag of no logit.
    places = places or [(0, names.index(tags[inside[0]]))]
    start, end = int(windows.windows.starts[window]), int(windows.windows.ends[window])
    content = contents_of(model.tokenizer, [text])[0].part(start, end)

    def value(outputs):
        logits = [outputs[:, token, tag] for token, tag in places]
        return keras.ops.mean(keras.ops.stack(logits, axis=-1), axis=-1)

    shown = " ".join(span["text"].split())
    return ExplainedOutput(
        place_text(model.tokenizer, text, model.max_length, content),
        model.task,
        value,
        target=f"{shown} [{span['label']}]",
        described=f"the mean logit of the tags of {shown}",
        predicted=f"{shown} [{span['label']} {span['probability']:.2f}]",
        group=span["label"],
        remarks=remarks,
    )
