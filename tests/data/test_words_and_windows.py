"""Tests of the words of raw texts, and of windows over long sequences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.windows import cut_windows
from kerasllm.data.words import Joins


def words(text, joins=None):
    return [text[start:end] for start, end in (joins or Joins()).words(text)]


def test_words_end_at_spaces_and_at_what_is_no_letter():
    assert words("Don't  stop: now!") == ["Don", "'", "t", "stop", ":", "now", "!"]
    assert words("été e\u0301te\u0301 नमस्ते") == ["été", "e\u0301te\u0301", "नमस्ते"]
    assert words("東京2024") == ["東", "京", "2024"]
    assert words("👍🏽ok") == ["👍🏽", "ok"]
    assert words("a\r\nb\u00a0c") == ["a", "b", "c"]
    assert words("") == words(" \n") == []


def test_which_pieces_are_one_word_is_learned():
    trained = [["@me", "it", "'s", "3.5", "m", "."], ["@you", ".", "U.S."], ["It", "'s", "so", "."]]
    joins = Joins.learn(trained)
    assert words("@them: it's 4.5.", joins) == ["@them", ":", "it", "'s", "4.5", "."]
    assert words("東京 a.b", Joins.learn([["東京", "a.b"]])) == ["東", "京", "a.b"]


def test_a_word_ends_where_it_is_told():
    joins = Joins.learn([["a-b"]])
    text = "New York-based"
    assert words(text, joins) == ["New", "York-based"]
    assert [text[a:b] for a, b in joins.words(text, cuts=[8])] == ["New", "York", "-based"]


@given(st.text(max_size=30))
def test_words_are_in_order_and_leave_out_nothing_but_space(text):
    for joins in (Joins(), Joins.learn([["it", "'s", "a.b", "@x", "1,2"]])):
        place = 0
        for start, end in joins.words(text):
            assert place <= start < end
            left = text[place:start]
            assert not any(character.isalnum() for character in left)
            place = end
        assert not any(character.isalnum() for character in text[place:])


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(1, 12), st.integers(1, 12))
def test_each_token_is_owned_once_and_lies_in_its_window(lengths, room, stride):
    stride = min(stride, room)
    windows = cut_windows(np.array(lengths, int), room, stride)
    owned = [[] for _ in lengths]
    for row, start, end, own_start, own_end in zip(
        windows.rows, windows.starts, windows.ends, windows.own_starts, windows.own_ends
    ):
        assert 0 <= end - start <= room and start <= own_start <= own_end <= end
        owned[row] += range(own_start, own_end)
    assert owned == [list(range(length)) for length in lengths]
    assert windows.firsts.sum() == len(lengths)


def test_a_token_is_owned_where_it_has_the_most_context():
    windows = cut_windows(np.array([20]), 10, 5)
    assert windows.starts.tolist() == [0, 5, 10]
    assert windows.own_starts.tolist() == [0, 8, 13]


@pytest.mark.parametrize(("room", "stride"), [(0, 1), (4, 0), (4, 5)])
def test_windows_that_cannot_move_are_refused(room, stride):
    with pytest.raises(ValueError, match="A window must hold a token"):
        cut_windows(np.array([9]), room, stride)
