"""Tests of sentences in windows: each word once, in training and in measuring."""

import numpy as np
import pytest

from kerasllm.data.readers.tagged_source import TaggedSource
from kerasllm.data.tag_schemes import TaggedWords, TagSet, convert
from kerasllm.data.tagged_windows import StoredWords, TaggedWindows, open_windows
from kerasllm.data.tagging import learned_joins, numbered, scheme_like
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.data.word_windows import NO_TOKEN, cut_texts, stride_of
from kerasllm.errors import RecipeError

START, END = 1, 2


class Pairs(Tokenizer):
    """A tokenizer whose tokens are two characters of a word; it drops zero-width spaces."""

    def __init__(self):
        super().__init__(
            start_token_id=START,
            end_token_id=END,
            pad_token_id=0,
            description="pairs",
            identity="pairs",
            threads=1,
        )

    def _tokenize(self, texts):
        ids, _, offsets = self._tokenize_spans(texts)
        return ids, offsets

    def _tokenize_spans(self, texts):
        ids, spans, counts = [], [], [0]
        for text in texts:
            place = 0
            for word in text.split(" "):
                if word != "\u200b":
                    for start in range(0, len(word), 2):
                        end = min(start + 2, len(word))
                        ids.append(10 + len(ids) % 50)
                        spans.append((place + start, place + end))
                place += len(word) + 1
            counts.append(len(ids))
        return (
            np.array(ids, np.int32),
            np.array(spans, np.int32).reshape(-1, 2),
            np.array(counts, np.int64),
        )


def words_of(text):
    places, place = [], 0
    for word in text.split(" "):
        places.append((place, place + len(word)))
        place += len(word) + 1
    return places


def test_words_are_in_one_window_each_with_their_tokens():
    text = "abcd ef ghijk l mn op"
    texts = [text, "", "\u200b x"]
    found = cut_texts(Pairs(), texts, list(map(words_of, texts)), 6, 2)
    assert found.windows.rows.tolist() == [0, 0, 0, 0, 1, 2]
    assert np.diff(found.offsets).tolist() == [6, 6, 6, 6, 2, 3]
    rows = np.split(found.ids, found.offsets[1:-1])
    assert all(row[0] == START and row[-1] == END for row in rows)
    assert np.diff(found.word_offsets).sum() == len(found.word_tokens) == 6 + 1 + 2
    # The first token of each word, whatever window it is in.
    window = np.repeat(np.arange(6), np.diff(found.word_offsets))[:6]
    ids = found.ids[found.offsets[window] + found.word_tokens[:6]]
    whole = Pairs().encode([text], 100)[0][1:-1]
    assert ids.tolist() == whole[[0, 2, 3, 6, 7, 8]].tolist()
    assert found.word_sizes[:6].tolist() == [2, 1, 3, 1, 1, 1]
    # A word of which the tokenizer makes nothing.
    assert found.word_tokens[-2:].tolist() == [NO_TOKEN, 1]


def test_a_stride_that_leaves_tokens_out_is_refused():
    assert stride_of(Pairs(), 10, None) == 4 and stride_of(Pairs(), 10, 8) == 8
    with pytest.raises(RecipeError, match="skip tokens"):
        stride_of(Pairs(), 10, 9)


@pytest.fixture
def opened(tmp_path):
    """Returns a function from the content of a CoNLL file to all its windows."""

    def opened(content, *, inside=False, max_length=6, stride=2):
        file = tmp_path / "a.conll"
        file.write_text(content, encoding="utf-8")
        store = open_windows(TaggedSource(file), Pairs(), max_length, stride, tmp_path / "store")
        words = StoredWords.of(store)
        tags = TagSet(convert(words.tags).words.names)
        numbers, strange = numbered(convert(words.tags).words, tags)
        rows = np.arange(len(store))
        return TaggedWindows(
            store, rows, words, numbers, len(tags), tags.inside() if inside else None, strange
        )

    return opened


CONTENT = "abcd\tB-X\nef\tI-X\nghijk\tO\nl\tO\nmn\tB-X\nop\tO\n\nq\tO\n"


def test_every_word_counts_once_in_the_loss(opened):
    rows = opened(CONTENT)
    assert len(rows) == 5 and rows.sentence_offsets.tolist() == [0, 6, 7]
    x, y, weights = rows.batch(np.arange(5), 6, ["token_ids", "padding_mask"], 0)
    assert weights.sum() == 7
    assert sorted(y[weights > 0].tolist()) == [0, 0, 0, 0, 1, 1, 2]
    assert (x["padding_mask"][4] == [1, 1, 1, 0, 0, 0]).all()
    places, targets = rows.token_targets()
    assert len(places) == 7 and sorted(targets.tolist()) == [0, 0, 0, 0, 1, 1, 2]
    spec = rows.signature(5, 6, ["token_ids", "padding_mask"])
    assert spec[1].shape == y.shape and spec[2].dtype == weights.dtype


def test_all_subwords_count_where_it_is_asked_for(opened):
    rows = opened("abcd\tB-X\nef\tO\n", inside=True, max_length=20, stride=5)
    _, y, weights = rows.batch(np.array([0]), 5, ["token_ids"], 0)
    assert weights.tolist() == [[0, 1, 1, 1, 0]] and y.tolist() == [[0, 1, 2, 0, 0]]


def test_words_are_in_the_order_of_the_sentence_with_their_text(opened):
    rows = opened(CONTENT)
    [(text, words)] = rows.sentences([0])
    assert [text[a:b] for a, b in words] == "abcd ef ghijk l mn op".split()
    assert rows.take(np.array([4])).sentences([0]) == [("q", [(0, 1)])]
    assert rows.places(0)[0][1] == 1 and rows.places(4)[0][1] == 8


def test_tags_that_the_model_does_not_know_have_no_loss(opened):
    rows = opened(CONTENT)
    numbers, strange = numbered(convert(rows.words.tags).words, TagSet(["O", "B-Y", "I-Y"]))
    assert strange == ["B-X", "I-X"] and set(numbers.tolist()) == {0, 3, 4}
    other = TaggedWindows(rows.store, rows.rows, rows.words, numbers, 3, None, strange)
    assert other.batch(np.arange(5), 6, ["token_ids"], 0)[2].sum() == 4


def test_a_store_is_reused_and_knows_its_words(opened):
    first, again = opened(CONTENT), opened(CONTENT)
    assert again.store.reused and first.store.fingerprint == again.store.fingerprint
    assert len(learned_joins(first.store).keys) == 0


def test_the_scheme_of_data_to_measure_on():
    def tagged(sentence):
        names = tuple(dict.fromkeys(sentence.split()))
        tags = np.array([names.index(tag) for tag in sentence.split()])
        return TaggedWords(names, tags, np.array([0, len(tags)]))

    assert scheme_like(tagged("B-X O"), "plain") == "plain"
    assert scheme_like(tagged("PER PER O"), "io") == "io"
    assert scheme_like(tagged("S-X O"), "iob2") == "bioes"
