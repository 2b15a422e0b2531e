"""Tests of the metrics of entities, against seqeval and by hand; and of the decoder of tags."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.tag_schemes import TaggedWords, TagSet, convert
from kerasllm.evaluation.entities import entity_report, tag_report, wrong_spans
from kerasllm.evaluation.tag_decoding import decode_tags, span_probabilities

NAMES = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TAGS = TagSet(NAMES)


def spans(sentences):
    tags = np.array([NAMES.index(tag) for one in sentences for tag in one], int)
    offsets = np.cumsum([0, *map(len, sentences)])
    return TAGS.spans(tags, offsets)


def report(true, predicted):
    true, predicted = ([one.split() for one in each] for each in (true, predicted))
    return entity_report(spans(true), spans(predicted), TAGS.types)


def test_strict_and_partial_differ_by_boundaries():
    found = report(["B-PER I-PER O B-LOC", "O B-LOC"], ["B-PER O O B-LOC", "O B-PER"])
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(1 / 3)
    assert found["partial_f1"] == pytest.approx(2 / 3)
    assert found["entities"] == 3
    assert found["per_class"]["LOC"] == pytest.approx(
        {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
    )
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    # A LOC that was taken for a PER; a PER whose end is wrong is a PER.
    assert found["confusion_matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found["confused"] == ["LOC", "PER", "no entity"]


def test_nothing_predicted_and_nothing_there():
    found = report(["B-PER O"], ["O O"])
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)
    assert found["confusion_matrix"] == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert report(["O"], ["O"])["f1"] == 0.0
    assert report(["O"], ["B-LOC"])["confusion_matrix"] == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_what_is_wrong_is_listed():
    true, predicted = ([one.split()] for one in ("B-PER O B-LOC O", "B-LOC O O B-PER"))
    found = wrong_spans(spans(true), spans(predicted), TAGS.types)
    assert found == [
        (0, "PER", "LOC", 0), (1, "no entity", "PER", -1), (-1, "LOC", "no entity", 1),
    ]  # fmt: skip


VALID = st.lists(st.lists(st.sampled_from(NAMES), max_size=7), min_size=1, max_size=5)


def valid(sentences):
    tags = np.array([NAMES.index(tag) for one in sentences for tag in one], int)
    offsets = np.cumsum([0, *map(len, sentences)])
    words = convert(TaggedWords(NAMES, tags, offsets), "iob2").words
    names = [words.names[tag] for tag in words.tags]
    return [names[a:b] for a, b in itertools.pairwise(offsets)]


@given(st.data())
def test_it_is_what_seqeval_measures_in_its_strict_mode(data):
    metrics = pytest.importorskip("seqeval.metrics")
    from seqeval.scheme import IOB2

    true = valid(data.draw(VALID))
    predicted = valid(
        [
            data.draw(st.lists(st.sampled_from(NAMES), min_size=len(one), max_size=len(one)))
            for one in true
        ]
    )
    found = entity_report(spans(true), spans(predicted), TAGS.types)
    options = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    if not any(tag != "O" for one in (*true, *predicted) for tag in one):
        return
    for name in ("precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")
        assert found[name] == pytest.approx(score(true, predicted, **options)), name
        macro = score(true, predicted, average="macro", **options)
        assert found[f"macro_{name}"] == pytest.approx(macro), name


def test_tags_of_words():
    found = tag_report(np.array([0, 1, 1, 3]), np.array([0, 1, 0, 3]), ["DT", "NN", "UH", "VB"])
    assert found["confused"] == ["DT", "NN", "VB"]
    assert found["per_class"]["NN"]["recall"] == 0.5
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


# The decoder


def test_only_valid_tags_are_decoded_and_they_are_the_most_likely_ones():
    random = np.random.default_rng(0)
    for names in (NAMES, ("O", "B-A", "I-A", "E-A", "S-A")):
        tags = TagSet(names)
        lengths = [4, 0, 1, 3]
        offsets = np.cumsum([0, *lengths])
        logits = random.normal(0, 2, (offsets[-1], len(names)))
        found = decode_tags(logits, offsets, tags)
        chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for a, b in itertools.pairwise(offsets):
            best = max(
                (
                    way
                    for way in itertools.product(range(len(names)), repeat=b - a)
                    if not way
                    or (
                        tags.first[way[0]]
                        and tags.last[way[-1]]
                        and all(tags.follows[pair] for pair in itertools.pairwise(way))
                    )
                ),
                key=lambda way: sum(chances[a + i, tag] for i, tag in enumerate(way)),
            )
            assert tuple(found.tags[a:b]) == best
        np.testing.assert_allclose(
            found.probabilities, np.exp(chances[np.arange(len(logits)), found.tags])
        )


def test_plain_tags_and_no_words():
    tags = TagSet(["NN", "DT"])
    found = decode_tags(np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([0, 2]), tags)
    assert found.tags.tolist() == [1, 0]
    assert len(decode_tags(np.zeros((0, 2)), np.array([0, 0]), tags).tags) == 0
    assert len(decode_tags(np.zeros((0, 5)), np.array([0, 0]), TAGS).tags) == 0


def test_a_span_is_as_probable_as_its_words_on_average():
    found = decode_tags(np.log([[0.1, 0.9], [0.5, 0.5]]), np.array([0, 2]), TagSet(["A", "B"]))
    assert span_probabilities(found, np.array([0]), np.array([2]))[0] == pytest.approx(0.7)
