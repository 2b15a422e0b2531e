"""The outcome of each tagged sentence of the test data, and metrics computed from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kerasllm.data.tag_schemes import Spans, TagSet
from kerasllm.evaluation.entities import NO_ENTITY, right_entities, wrong_spans
from kerasllm.evaluation.outcomes import Outcomes, names_column, sets_column
from kerasllm.evaluation.resampling import Measure, weighted_sum
from kerasllm.evaluation.scored_rows import place_columns
from kerasllm.evaluation.tag_decoding import span_probabilities
from kerasllm.evaluation.tagged_words import with_strange

if TYPE_CHECKING:
    from kerasllm.data.tagged_windows import TaggedWindows
    from kerasllm.tasks.task import Evaluation

_AT_ONCE = 512
_ALL_RIGHT = "as labelled"


def tagged_rows(rows: TaggedWindows, tags: TagSet, evaluation: Evaluation) -> Outcomes:
    """Returns what became of each sentence.

    Args:
        rows: Windows of the sentences.
        tags: The tags of the model.
        evaluation: What `kerasllm.evaluation.tagged_words.evaluate_words` gave of them.
    """
    decoded, offsets = evaluation.outputs, rows.sentence_offsets
    gold, every = rows.tags[rows.word_numbers], with_strange(tags, rows)
    count, words = len(offsets) - 1, np.diff(offsets)
    sentence = np.repeat(np.arange(count), words)
    wrong = np.bincount(sentence, gold != decoded.tags, count)
    places = place_columns(rows.store.where(int(row)) for row in rows.sentence_rows)
    columns = {
        **places,
        "tokens": words,
        "error": (wrong > 0).astype(np.uint8),
        "words": words.astype(np.int32),
        "right_words": (words - wrong).astype(np.int32),
    }
    error = "share of sentences with a mistake"
    if tags.plain:
        names = tuple(every.names)
        columns |= _differing_tags(rows, gold, decoded, names, wrong > 0)
        return Outcomes(columns, _texts(rows), noun="sentence", error=error)
    names = tuple(every.types)
    true, predicted = (every.spans(each, offsets) for each in (gold, decoded.tags))
    columns |= _differing_spans(rows, decoded, true, predicted, names)
    right = predicted.sentences[right_entities(true, predicted)]
    for name, sentences in (
        ("true_entities", true.sentences),
        ("predicted_entities", predicted.sentences),
        ("right_entities", right),
    ):
        columns[name] = np.bincount(sentences, minlength=count).astype(np.int32)
    holds = np.zeros((count, len(names)), bool)
    holds[true.sentences, true.types] = True
    columns["expected_labels"] = sets_column(holds)
    return Outcomes(columns, _texts(rows), noun="sentence", error=error, names=names)


def counts_of(rows: TaggedWindows, tags: TagSet) -> dict[str, int]:
    """Returns how many entities of each type there are, or of plain tags how many words."""
    gold, every = rows.tags[rows.word_numbers], with_strange(tags, rows)
    names = every.names if tags.plain else every.types
    found = gold if tags.plain else every.spans(gold, rows.sentence_offsets).types
    counts = np.bincount(found, minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def measure_tagged(outcomes: Outcomes) -> Measure:
    """Returns what measures rows of `tagged_rows`, each as often as it is told."""
    counted = ["words", "right_words"]
    if "true_entities" in outcomes:
        counted += ["true_entities", "predicted_entities", "right_entities"]
    columns = [outcomes[name].astype(np.float64) for name in counted]

    def measure(drawn: np.ndarray) -> Mapping[str, float]:
        words, right_words, *entities = (weighted_sum(drawn, each) for each in columns)
        found = {"token_accuracy": right_words / words if words else 0.0}
        if entities:
            true, given, right = entities
            found["precision"] = right / given if given else 0.0
            found["recall"] = right / true if true else 0.0
            found["f1"] = 2 * right / (true + given) if true + given else 0.0
        return found

    return measure


def _differing_spans(rows, decoded, true: Spans, predicted: Spans, names) -> dict:
    """Returns what was expected and predicted of the most confident mistake of each sentence."""
    found = wrong_spans(true, predicted, names)
    chances = span_probabilities(decoded, predicted.starts, predicted.ends)
    missed = span_probabilities(decoded, true.starts, true.ends)
    worst: dict[int, tuple] = {}
    for at, _, _, of_true in found:
        spans, which = (predicted, at) if at >= 0 else (true, of_true)
        sure = float(chances[at] if at >= 0 else missed[of_true])
        sentence = int(spans.sentences[which])
        if sentence not in worst or sure > worst[sentence][0]:
            worst[sentence] = (sure, at, of_true)
    offsets, count = rows.sentence_offsets, len(rows.sentence_offsets) - 1
    expected, said = [_ALL_RIGHT] * count, [_ALL_RIGHT] * count
    confidence = np.full(count, np.nan, np.float32)
    numbers = sorted(worst)
    for number, (text, words) in zip(numbers, rows.sentences(numbers), strict=True):
        sure, at, of_true = worst[number]

        def quoted(spans: Spans, which: int, text=text, words=words, number=number) -> str:
            if which < 0:
                return NO_ENTITY
            first, last = spans.starts[which] - offsets[number], spans.ends[which] - offsets[number]
            return f"{names[spans.types[which]]} {text[words[first][0] : words[last - 1][1]]!r}"

        expected[number], said[number] = quoted(true, of_true), quoted(predicted, at)
        confidence[number] = sure
    return {
        "expected": pa.array(expected).dictionary_encode(),
        "predicted": pa.array(said).dictionary_encode(),
        "confidence": confidence,
    }


def _differing_tags(rows, gold: np.ndarray, decoded, names, wrong: np.ndarray) -> dict:
    """Returns the tag of the most confident mistake of each sentence, expected and predicted."""
    offsets = rows.sentence_offsets
    places = np.zeros(len(wrong), np.int64)
    sure = np.where(gold != decoded.tags, decoded.probabilities, -1.0)
    for number in np.flatnonzero(wrong):
        mine = slice(offsets[number], offsets[number + 1])
        places[number] = offsets[number] + int(sure[mine].argmax())
    shown = [*names, _ALL_RIGHT]
    right = len(names)
    safe = np.minimum(places, max(len(gold) - 1, 0))
    taken = {"expected": gold[safe], "predicted": decoded.tags[safe]} if len(gold) else {}
    columns = {
        name: names_column(np.where(wrong, codes, right), shown) for name, codes in taken.items()
    }
    confidence = np.where(wrong, sure[safe], np.nan) if len(gold) else np.full(len(wrong), np.nan)
    return {**columns, "confidence": confidence.astype(np.float32)}


def _texts(rows: TaggedWindows) -> Iterator[str]:
    count = len(rows.sentence_offsets) - 1
    for start in range(0, count, _AT_ONCE):
        for text, _ in rows.sentences(range(start, min(start + _AT_ONCE, count))):
            yield text
