"""Tests of tag schemes: detection, conversion to IOB2, repair, and which tags may follow which."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.tag_schemes import TaggedWords, TagSet, convert
from kerasllm.errors import DataError


def tagged(*sentences):
    names = tuple(dict.fromkeys(tag for sentence in sentences for tag in sentence.split()))
    tags = [names.index(tag) for sentence in sentences for tag in sentence.split()]
    offsets = np.cumsum([0, *(len(sentence.split()) for sentence in sentences)])
    return TaggedWords(names, np.array(tags, int), offsets)


def shown(found):
    words = found.words
    names = [words.names[tag] for tag in words.tags]
    return [" ".join(names[a:b]) for a, b in zip(words.offsets, words.offsets[1:])]


IOB2 = ["O B-PER I-PER O B-LOC B-LOC", "B-LOC O"]


@pytest.mark.parametrize(
    ("scheme", "sentences"),
    [
        ("iob2", IOB2),
        ("iob1", ["O I-PER I-PER O I-LOC B-LOC", "I-LOC O"]),
        ("bioes", ["O B-PER E-PER O S-LOC S-LOC", "S-LOC O"]),
        ("bioes", ["O B-PER E-PER O W-LOC W-LOC", "W-LOC O"]),
        ("bilou", ["O B-PER L-PER O U-LOC U-LOC", "U-LOC O"]),
    ],
)
def test_each_scheme_is_detected_and_converted_to_iob2(scheme, sentences):
    found = convert(tagged(*sentences))
    assert found.scheme == scheme, found.why
    assert shown(found) == IOB2 and found.repaired == 0
    assert shown(convert(found.words)) == IOB2


def test_the_letter_m_of_chinese_data_is_i():
    assert shown(convert(tagged("B-P M-P M-P E-P S-P"))) == ["B-P I-P I-P I-P B-P"]


def test_types_without_letters_are_entities_where_most_words_are_outside():
    found = convert(tagged("O PER PER O O O O O LOC", "LOC O"))
    assert found.scheme == "io"
    assert shown(found) == ["O B-PER I-PER O O O O O B-LOC", "B-LOC O"]


def test_untyped_tags_become_entities():
    assert shown(convert(tagged("O B I O B"))) == ["O B-entity I-entity O B-entity"]


@pytest.mark.parametrize(
    ("given", "repaired", "count"),
    [
        ("O I-PER O B-PER B-PER", "O B-PER O B-PER B-PER", 1),
        ("B-PER I-LOC O B-X B-X", "B-PER B-LOC O B-X B-X", 1),
        ("S-A O B-A O I-A E-A", "B-A O B-A O B-A I-A", 2),
    ],
)
def test_an_invalid_sequence_is_repaired_as_conlleval_reads_it_and_counted(given, repaired, count):
    found = convert(tagged(given))
    assert shown(found) == [repaired]
    assert found.repaired == count


def test_parts_of_speech_stay_as_they_are():
    found = convert(tagged("DT NN VBZ .", "NN"))
    assert found.scheme == "plain" and shown(found) == ["DT NN VBZ .", "NN"]
    # One of them may be called O, as a pronoun of tweets.
    assert convert(tagged("N V O N V A", "N V N A")).scheme == "plain"


def test_a_tag_without_a_letter_among_others_is_refused():
    with pytest.raises(DataError, match="'PER' has no prefix"):
        convert(tagged("O B-PER I-PER O B-LOC PER"))


NAMES = ["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in ("A", "B"))]


@given(st.lists(st.lists(st.sampled_from(NAMES), max_size=8), min_size=1, max_size=4))
def test_any_sequence_becomes_a_valid_one(sentences):
    names = tuple(NAMES)
    tags = np.array([names.index(tag) for one in sentences for tag in one], int)
    offsets = np.cumsum([0, *map(len, sentences)])
    found = convert(TaggedWords(names, tags, offsets), "bioes").words
    allowed = TagSet(found.names or ["O"])
    for a, b in itertools.pairwise(offsets):
        one = found.tags[a:b]
        assert not len(one) or allowed.first[one[0]]
        assert all(allowed.follows[x, y] for x, y in itertools.pairwise(one))
    spans = allowed.spans(found.tags, offsets)
    begins = sum(found.names[tag].startswith("B-") for tag in found.tags)
    assert len(spans.starts) == begins


@given(st.lists(st.lists(st.sampled_from(NAMES), max_size=8), min_size=1, max_size=4))
def test_entities_are_those_of_conlleval(sentences):
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    names = tuple(NAMES)
    tags = np.array([names.index(tag) for one in sentences for tag in one], int)
    offsets = np.cumsum([0, *map(len, sentences)])
    words = convert(TaggedWords(names, tags, offsets), "bioes").words
    found = TagSet(words.names).spans(words.tags, offsets)
    for number, sentence in enumerate(sentences):
        mine = found.sentences == number
        spans = zip(found.types[mine], found.starts[mine], found.ends[mine])
        types = TagSet(words.names).types
        ours = [(types[kind], a - offsets[number], b - offsets[number] - 1) for kind, a, b in spans]
        assert ours == get_entities(sentence)


def test_what_may_follow_what():
    iob = TagSet(["O", "B-A", "I-A", "B-C", "I-C"])
    assert iob.first.tolist() == [True, True, False, True, False] and iob.last.all()
    assert not iob.follows[1, 4] and iob.follows[2, 2] and not iob.follows[0, 2]
    assert iob.inside().tolist() == [0, 2, 2, 4, 4]
    bioes = TagSet(["O", "B-A", "I-A", "E-A", "S-A"])
    assert not bioes.last[1] and not bioes.follows[1, 0] and bioes.follows[3, 4]
    plain = TagSet(["NN", "DT"])
    assert plain.plain and plain.follows.all()
    assert plain.spans(np.array([1, 0]), np.array([0, 2])).ends.tolist() == [1, 2]
