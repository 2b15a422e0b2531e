"""Tests of questions as a model reads them: windows, targets, the store, the split."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.question_tokens import cut_questions
from kerasllm.data.question_windows import QuestionWindows, open_windows
from kerasllm.data.questions import check_stride, split_contexts
from kerasllm.data.readers.question_source import QuestionSource
from kerasllm.data.tokenizers import WordPiece
from kerasllm.data.tokenizers.pairs import PairTemplate
from kerasllm.errors import RecipeError

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
TOKENIZER = WordPiece(
    [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "?",
        *LETTERS,
        *(f"##{each}" for each in LETTERS),
    ],
    lowercase=True,
)
ALPHABET = " ".join(LETTERS)


def cut(questions, contexts, max_length=16, stride=None, max_question_length=4, **more):
    return cut_questions(
        more.get("tokenizer", TOKENIZER),
        questions,
        contexts,
        max_length,
        stride,
        max_question_length,
    )


def rows_of(found):
    starts = found.answers.offsets
    return [found.ids[start:end].tolist() for start, end in itertools.pairwise(starts)]


def test_a_window_is_what_the_pair_is_where_the_context_fits():
    found = cut(["a b?"], ["C  d"])
    expected = TOKENIZER.encode_pairs(["a b?"], ["C  d"], 16, spans=True)
    assert rows_of(found) == [expected.ids.tolist()]
    assert found.answers.firsts.tolist() == [5]
    assert found.answers.spans.tolist() == [[0, 1], [3, 4]]
    assert found.tokens.segment_starts(np.array([0])).tolist() == [5]


def test_roberta_has_two_separators_and_one_segment(monkeypatch):
    monkeypatch.setattr(TOKENIZER, "pair_template", PairTemplate.roberta(2, 3))
    found = cut(["a"], ["b"])
    assert rows_of(found) == [[2, 6, 3, 3, 7, 3]]
    assert found.answers.firsts.tolist() == [4]
    assert found.second_segment == 0


def test_long_contexts_have_windows_each_with_the_question():
    found = cut(["a b?", "z"], [ALPHABET, ALPHABET], max_question_length=2)
    assert found.cut.tolist() == [True, False]
    rows = rows_of(found)
    assert max(map(len, rows)) == 16
    for row, question in zip(rows, found.answers.questions):
        assert row[:4] == [2, 6, 7, 3] if question == 0 else row[:3] == [2, 31, 3]
    # 11 tokens of the context at a time, which move on by 5.
    assert found.windows.starts[:4].tolist() == [0, 5, 10, 15]
    for window in range(len(found.windows)):
        start, end = found.answers.span_offsets[window : window + 2]
        shown = "".join(ALPHABET[a:b] for a, b in found.answers.spans[start:end])
        assert shown == "".join(LETTERS)[found.windows.starts[window] : found.windows.ends[window]]


def targets(answer, first, **options):
    found = cut(["a"], [ALPHABET], **options)
    starts, ends = found.targets([[(answer, first)]])
    of_answer = []
    for row, start, end in zip(rows_of(found), starts, ends):
        of_answer.append("".join(LETTERS[id - 6] for id in row[start : end + 1]) if start else "")
    return of_answer


def test_the_answer_is_learned_in_each_window_that_holds_all_of_it():
    assert targets("h i j", 14, stride=6) == ["hij", "hij", "", ""]
    # The first and the third window hold a part of it.
    assert targets("l m n", 22, stride=6) == ["", "lmn", "", ""]
    assert targets("a", 0) == ["a", "", "", ""]
    assert targets("z", 50, stride=12)[-1] == "z"


def test_an_answer_within_a_token_is_the_whole_token():
    special = dict(
        zip(("unknown_token", "start_token", "end_token", "pad_token", "mask_token"), "01234")
    )
    tokenizer = WordPiece([*"012345", "xq", "wide"], **special)
    found = cut(["a"], ["xq wide"], tokenizer=tokenizer)
    starts, ends = found.targets([[("id", 4)]])
    assert (starts.tolist(), ends.tolist()) == ([4], [4])


@given(
    st.lists(
        st.sampled_from(["a", "bc", "\u00e9", " ", "\x00", "\U0001f3d9", "\r\n"]), max_size=40
    ),
    st.integers(8, 24),
    st.integers(1, 12),
)
def test_windows_hold_every_token_and_spans_are_of_the_context(pieces, max_length, stride):
    context = "".join(pieces)
    found = cut(["a b c d e"], [context], max_length, stride, 2)
    whole = TOKENIZER.encode_offsets([context], 1 << 20)
    spans = {tuple(span) for span in whole.spans[1:-1].tolist()}
    assert {tuple(span) for span in found.answers.spans.tolist()} == spans
    assert np.diff(found.answers.offsets).max() <= max_length
    assert (found.answers.questions == 0).all()


SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": ALPHABET,
                    "qas": [
                        {"id": "one", "question": "a?", "answers": [
                            {"text": "c d", "answer_start": 4}, {"text": "d", "answer_start": 6}]},
                        {"id": "two", "question": "b?", "answers": []},
                    ],
                },
                {
                    "context": "x y",
                    "qas": [{"id": "three", "question": "long long question", "answers": [
                        {"text": "y", "answer_start": 2}]}],
                },
            ]
        }
    ]
}  # fmt: skip


@pytest.fixture
def windows(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(SQUAD))
    source = QuestionSource(tmp_path / "a.json")
    store = open_windows(source, TOKENIZER, 16, 6, 4, tmp_path / "stores")
    return QuestionWindows.of(store, TOKENIZER)


def test_the_store_keeps_questions_contexts_and_answers(windows, tmp_path):
    assert windows.ids() == ["one", "two", "three"]
    assert windows.questions() == ["a?", "b?", "long long question"]
    contexts = windows.contexts()
    assert contexts == [ALPHABET, ALPHABET, "x y"]
    assert contexts[0] is contexts[1]
    assert windows.contexts([2]) == ["x y"]
    assert windows.references == [["c d", "d"], [], ["y"]]
    assert windows.cut_questions == 1
    again = open_windows(
        QuestionSource(tmp_path / "a.json"), TOKENIZER, 16, 6, 4, tmp_path / "stores"
    )
    assert again.reused and len(again) == len(windows)


def test_batches_have_inputs_and_where_the_answer_is(windows):
    row = int(np.flatnonzero(windows.first)[-1])
    x, y, weights = windows.batch(
        np.array([0, row]), 16, ["token_ids", "padding_mask", "segment_ids"], 0
    )
    assert x["token_ids"][0, :6].tolist() == [2, 6, 5, 3, 6, 7]
    assert x["segment_ids"][0].tolist() == [0] * 4 + [1] * 12
    assert y.tolist() == [[6, 7, 4, 15], [7, 7, 6, 8]]
    assert weights.tolist() == [1, 1]
    specs = windows.signature(2, 16, ["token_ids"])
    assert specs[1].shape == y.shape and specs[1].dtype == y.dtype


def test_some_questions_are_taken_with_their_windows(windows):
    first = np.cumsum(windows.first) - 1
    some = windows.take(np.flatnonzero(first != 0))
    assert some.ids() == ["two", "three"]
    assert some.contexts() == [ALPHABET, "x y"]
    answers = some.answer_windows
    assert answers.questions.max() == 1
    assert len(answers.spans) == answers.span_offsets[-1]
    assert answers.offsets[-1] == some.lengths.sum()


def test_contexts_are_held_out_with_all_of_their_questions(tmp_path):
    rows = [
        {"question": f"{letter}?", "context": f"{letter} {ALPHABET[:50]}", "answer": letter}
        for letter in LETTERS
        for _ in range(2)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = open_windows(QuestionSource(tmp_path / "a.jsonl"), TOKENIZER, 16, 6, 4, tmp_path / "s")
    whole = QuestionWindows.of(store, TOKENIZER)
    kept, held_out = split_contexts(whole, 0.2, seed=1)
    assert len(kept) + len(held_out) == len(whole)
    assert not set(kept.contexts()) & set(held_out.contexts())
    assert len(held_out.questions()) in (10, 12)
    again = split_contexts(whole, 0.2, seed=1)[1]
    assert again.rows.tolist() == held_out.rows.tolist()


def test_windows_that_leave_tokens_out_are_refused():
    check_stride(TOKENIZER, 16, 12, 12)
    with pytest.raises(RecipeError, match="no room for a context"):
        check_stride(TOKENIZER, 16, None, 13)
    with pytest.raises(RecipeError, match="skip tokens"):
        check_stride(TOKENIZER, 16, 13, 4)
