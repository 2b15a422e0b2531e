"""Evaluates a token classifier on sentences: each word once, regardless of its windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.data.loading import place_of
from kerasllm.data.tag_schemes import Spans, TagSet
from kerasllm.evaluation.entities import NO_ENTITY, entity_report, tag_report, wrong_spans
from kerasllm.evaluation.tag_decoding import Decoded, decode_tags, span_probabilities
from kerasllm.tasks.task import Evaluation

if TYPE_CHECKING:
    from kerasllm.data.tagged_windows import TaggedWindows
    from kerasllm.models.token_classifier import TokenClassifier


def evaluate_words(model: TokenClassifier, rows: TaggedWindows) -> Evaluation:
    """Measures a model on tagged sentences.

    Args:
        model: The model.
        rows: Windows of the sentences.

    Returns:
        The metrics of `entity_report`, or of plain tags `tag_report`; and `loss`,
        `token_accuracy`, `words`, `sentences` and `truncated_words`. `outputs` are the decoded
        tags, and `decisions` too; `rows` the words and the tags of each sentence.
    """
    from kerasllm.models.token_classifier import word_logits
    from kerasllm.models.token_outputs import token_logits

    tags, offsets = model.tags, rows.sentence_offsets
    logits = token_logits(model, rows)
    decoded = decode_tags(word_logits(logits, rows.word_places, tags), offsets, tags)
    gold = rows.tags[rows.word_numbers]
    every = with_strange(tags, rows)
    if tags.plain:
        report = tag_report(gold, decoded.tags, every.names)
    else:
        spans = every.spans(gold, offsets), every.spans(decoded.tags, offsets)
        report = entity_report(*spans, every.types)
    scored = len(np.unique(rows.word_numbers))
    report = {
        "loss": _loss(logits, *rows.token_targets()),
        **report,
        "token_accuracy": float(np.mean(gold == decoded.tags)) if len(gold) else 0.0,
        "words": len(gold),
        "sentences": len(offsets) - 1,
        "truncated_words": int(np.diff(rows.words.offsets)[rows.rows].sum()) - scored,
    }
    return Evaluation(report, decoded, decoded.tags, _Rows(rows, tags, gold, decoded))


def mistakes_in(
    rows: TaggedWindows, evaluation: Evaluation, tags: TagSet, count: int
) -> list[dict[str, Any]]:
    """Returns the most confident mistakes, each with its sentence.

    Args:
        rows: What was measured.
        evaluation: What `evaluate_words` gave of it.
        tags: The tags of the model.
        count: How many to return.

    Returns:
        For each `text`, `expected`, `predicted` and `where` (`file:line`).
    """
    decoded: Decoded = evaluation.outputs
    offsets, gold = rows.sentence_offsets, rows.tags[rows.word_numbers]
    every = with_strange(tags, rows)
    true, predicted = (every.spans(each, offsets) for each in (gold, decoded.tags))
    found = wrong_spans(true, predicted, every.types)
    chances = span_probabilities(decoded, predicted.starts, predicted.ends)
    missed = span_probabilities(decoded, true.starts, true.ends)
    sure = [chances[one[0]] if one[0] >= 0 else missed[one[3]] for one in found]
    place, shown = place_of(rows.store), []
    for number in np.argsort(-np.array(sure), kind="stable")[:count]:
        at, expected, said, of_true = found[number]
        spans, which = (predicted, at) if at >= 0 else (true, of_true)
        sentence = int(spans.sentences[which])
        [(text, words)] = rows.sentences([sentence])

        def quoted(spans: Spans, which: int, text=text, words=words, sentence=sentence) -> str:
            first = int(spans.starts[which] - offsets[sentence])
            last = int(spans.ends[which] - offsets[sentence]) - 1
            return repr(text[words[first][0] : words[last][1]])

        right = expected if of_true < 0 else f"{expected} {quoted(true, of_true)}"
        told = NO_ENTITY if at < 0 else f"{said} {quoted(predicted, at)}"
        shown.append(
            {
                "text": text,
                "expected": right,
                "predicted": f"{told} ({sure[number]:.0%})",
                "where": place(int(rows.sentence_rows[sentence])),
            }
        )
    return shown


def with_strange(tags: TagSet, rows: TaggedWindows) -> TagSet:
    """Returns the tags of a model and those of some rows that it does not know."""
    return TagSet([*tags.names, *rows.strange], "plain" if tags.plain else "auto")


class _Rows:
    """The sentences of an evaluation as rows of a file, made when they are written."""

    def __init__(self, rows: TaggedWindows, tags: TagSet, gold: np.ndarray, decoded: Decoded):
        self._rows, self._tags, self._gold, self._decoded = rows, tags, gold, decoded

    def __len__(self) -> int:
        return len(self._rows.sentence_offsets) - 1

    def __iter__(self):
        offsets, place = self._rows.sentence_offsets, place_of(self._rows.store)
        names = with_strange(self._tags, self._rows).names
        for number in range(len(self)):
            [(text, words)] = self._rows.sentences([number])
            mine = slice(offsets[number], offsets[number + 1])
            yield {
                "tokens": [text[start:end] for start, end in words],
                "tags": [names[tag] for tag in self._gold[mine]],
                "predicted": [names[tag] for tag in self._decoded.tags[mine]],
                "where": place(int(self._rows.sentence_rows[number])),
            }


def _loss(logits: np.ndarray, places: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean cross-entropy of what counts in the loss."""
    if not len(places):
        return 0.0
    chosen = logits[places].astype(np.float64)
    top = chosen.max(-1, keepdims=True)
    total = top[:, 0] + np.log(np.exp(chosen - top).sum(-1))
    return float(np.mean(total - chosen[np.arange(len(places)), targets]))
