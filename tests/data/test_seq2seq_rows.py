"""Sources and targets as rows of token ids: cut, kept, and batched for teacher forcing."""

import csv
from dataclasses import dataclass

import numpy as np
import pytest

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.readers.seq2seq_source import open_source
from kerasllm.data.seq2seq_rows import (
    COUNTED,
    DECODER_IDS,
    DECODER_MASK,
    ENCODER_IDS,
    ENCODER_MASK,
    INPUTS,
    TARGETS,
    Seq2SeqRows,
    cut_to,
    open_rows,
    scoring_inputs,
)

START, END, PAD = 1, 2, 0


@dataclass(frozen=True)
class Letters:
    """A letter is a token."""

    fingerprint: str = "letters"
    start_token_id: int = START
    end_token_id: int = END
    pad_token_id: int = PAD

    def encode_source(self, texts):
        return [[*map(ord, text), END] for text in texts]

    encode_target = encode_source


def opened(tmp_path, pairs, **options):
    file = tmp_path / "pairs.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("source", "target"), *pairs])
    settings = {"max_length": 16, "max_target_length": 16, **options}
    return open_rows(
        open_source(str(file), "train"), Letters(), folder=tmp_path / "store", **settings
    )


PAIRS = [("abc", "xy"), ("a", "wxyz"), ("abcdef", "x")]


@pytest.fixture
def rows(tmp_path):
    return Seq2SeqRows.of(opened(tmp_path, PAIRS), Letters())


def test_the_decoder_reads_the_target_one_token_later(rows):
    x, y, weights = rows.batch(np.array([0, 1]), (5, 6), INPUTS, PAD)
    a, w, x_, y_, z = map(ord, "awxyz")
    assert x[ENCODER_IDS].tolist() == [[a, a + 1, a + 2, END, PAD], [a, END, PAD, PAD, PAD]]
    assert x[ENCODER_MASK].tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]
    assert y.tolist() == [[x_, y_, END, PAD, PAD, PAD], [w, x_, y_, z, END, PAD]]
    assert x[DECODER_IDS].tolist() == [
        [START, x_, y_, PAD, PAD, PAD],
        [START, w, x_, y_, z, PAD],
    ]
    assert (
        x[DECODER_MASK].tolist()
        == weights.tolist()
        == [
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 1, 1, 0],
        ]
    )
    signature = rows.signature(2, (5, 6), INPUTS)
    assert {name: spec.shape for name, spec in signature[0].items()} == {
        name: value.shape for name, value in x.items()
    }
    assert [spec.shape for spec in signature[1:]] == [y.shape, weights.shape]


def test_scoring_inputs_have_the_targets_beside(rows):
    x = scoring_inputs(rows, np.array([2]), (7, 2), (), PAD)
    assert x[TARGETS].tolist() == [[ord("x"), END]] and x[COUNTED].tolist() == [[1, 1]]


def test_rows_are_planned_by_both_lengths(rows):
    assert rows.lengths.tolist() == [[4, 3], [2, 5], [7, 2]]
    plan = EpochPlans(rows.lengths, 1, buckets=3, seed=0)(0)
    assert len(plan) == 3 and all(len(shape) == 2 for shape in plan.shapes)


def test_texts_are_kept_and_found_by_place(rows, tmp_path):
    assert rows.texts() == ([source for source, _ in PAIRS], [target for _, target in PAIRS])
    assert rows.take(np.array([2, 0])).texts() == (["abcdef", "abc"], ["x", "xy"])
    assert rows.take(np.array([2])).places(0) == [(str(tmp_path / "pairs.csv"), 4)]
    assert [ids.tolist() for ids in rows.take(np.array([1])).source_ids()] == [[ord("a"), END]]


def test_long_texts_keep_their_end_token_and_are_counted(tmp_path):
    rows = Seq2SeqRows.of(opened(tmp_path, PAIRS, max_length=4, max_target_length=3), Letters())
    assert rows.lengths.tolist() == [[4, 3], [2, 3], [4, 2]]
    assert rows.cut == (1, 1) and rows.take(np.array([0])).cut == (0, 0)
    ids, offsets, cut = cut_to([[5, 6, 7, 2], [2]], 3)
    assert ids.tolist() == [5, 6, 2, 2] and offsets.tolist() == [0, 3, 4] and cut.tolist() == [1, 0]


def test_a_prefix_is_read_and_not_shown(tmp_path):
    rows = Seq2SeqRows.of(opened(tmp_path, PAIRS, prefix="T: "), Letters())
    assert bytes(rows.source_ids()[1][:-1].tolist()) == b"T: a"
    assert rows.texts()[0] == [source for source, _ in PAIRS]


def test_tokens_are_found_again_unless_something_differs(tmp_path):
    first = opened(tmp_path, PAIRS)
    assert opened(tmp_path, PAIRS).reused
    assert not opened(tmp_path, PAIRS, prefix="T: ").reused
    assert opened(tmp_path, PAIRS, max_length=4).fingerprint != first.fingerprint
