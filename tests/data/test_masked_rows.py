"""Documents as rows of a masked language model: no token is lost, and masks are reproducible."""

import numpy as np
import pytest

from kerasllm.data.documents import Documents
from kerasllm.data.masked_rows import POSITIONS, SENTENCE, TOKENS, cut_rows, open_tokens
from kerasllm.data.masked_texts import new_tokenizer
from kerasllm.data.masking import Masking
from kerasllm.data.tokenizers.vocabulary import Vocabulary

_INPUTS = ("token_ids", "padding_mask", "segment_ids", POSITIONS)
_TEXTS = [
    " ".join(f"sentence {number} has words and more of them." for number in range(count))
    for count in (9, 1, 4, 30, 2)
]


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer(_TEXTS, 90, True)


@pytest.fixture
def store(tokenizer, tmp_path):
    for number, text in enumerate(_TEXTS):
        (tmp_path / f"{number}.txt").write_text(text)
    [whole, _] = Documents(str(tmp_path / "*.txt")).cut(0.0)
    return open_tokens(whole, tokenizer, tmp_path / "store")


def _rows(store, tokenizer, **options):
    vocabulary = Vocabulary.of(tokenizer.of_keras_hub)
    return cut_rows(store, tokenizer, vocabulary, 32, **options)


@pytest.mark.parametrize("joined", [False, True])
def test_no_token_is_lost(store, tokenizer, joined):
    rows = _rows(
        store, tokenizer, joined=joined, masking=Masking(rate=0.01, mask_share=0, random_share=0)
    )
    assert rows.lengths.max() <= 32
    x, *_ = rows.batch(np.arange(len(rows)), 32, _INPUTS, 0)
    read = []
    for ids, length in zip(x["token_ids"], rows.lengths, strict=True):
        assert ids[0] == tokenizer.start_token_id and ids[length - 1] == tokenizer.end_token_id
        read += [each for each in ids[1 : length - 1] if each != tokenizer.end_token_id]
    whole, _ = tokenizer.encode(_TEXTS, 10_000)
    special = (tokenizer.start_token_id, tokenizer.end_token_id)
    assert read == [each for each in whole if each not in special]
    if joined:
        # All rows but the last one are full.
        assert (rows.lengths[:-1] == 32).all()
    else:
        # Rows of a document are about equally long.
        assert np.ptp(rows.lengths[rows.pieces["row"] == 3]) <= 1
    assert rows.places(0) == [(store.where(0)[0], 1)]


def test_a_measurement_always_has_the_same_masks(store, tokenizer):
    rows = _rows(store, tokenizer)
    every = np.arange(len(rows))
    one = rows.fixed_batch(every, 32, _INPUTS, 0)[0]["token_ids"]
    # Whatever hides tokens in training, and whichever rows they are among.
    other = _rows(store, tokenizer, masking=Masking("spans", rate=0.5))
    np.testing.assert_array_equal(other.fixed_batch(every, 32, _INPUTS, 0)[0]["token_ids"], one)
    some = rows.take(np.array([5, 2]))
    found = some.fixed_batch(np.array([0, 1]), 32, _INPUTS, 0)[0]["token_ids"]
    np.testing.assert_array_equal(found, one[[5, 2]])


def test_batches_differ_between_steps_and_are_as_their_signature(store, tokenizer):
    rows = _rows(store, tokenizer)
    batches = [rows.batch(np.array([0, 3]), 32, _INPUTS, 0, step=step) for step in (1, 1, 2)]
    ids = [x["token_ids"].tolist() for x, *_ in batches]
    assert ids[0] == ids[1] != ids[2]
    (x, y, weights), signature = batches[0], rows.signature(2, 32, _INPUTS)
    for name, spec in signature[0].items():
        assert x[name].shape == spec.shape and x[name].dtype == spec.dtype
    assert y.shape == signature[1].shape and weights.shape == signature[2].shape
    assert (weights.sum(axis=1) == (0.15 * (rows.lengths[[0, 3]] - 2) + 0.5).astype(int)).all()


@pytest.mark.parametrize("task", ["next", "order"])
def test_pairs_of_texts_meet_between_sentences(store, tokenizer, task):
    rows = _rows(
        store,
        tokenizer,
        sentence_task=task,
        masking=Masking(rate=0.01, mask_share=0, random_share=0),
    )
    fields = (rows.pieces[name].astype(np.int64) for name in ("row", "first", "count"))
    plain = store.slices(*fields)
    starts = np.concatenate([[0], np.cumsum(rows.pieces["count"].astype(np.int64))])
    labels = []
    for step in range(20):
        x, y, weights = rows.batch(np.arange(len(rows)), 32, _INPUTS, 0, step=step)
        for row in range(len(rows)):
            length = int(x["padding_mask"][row].sum())
            ids, segments = x["token_ids"][row, :length], x["segment_ids"][row, :length]
            one, two = (ids[segments == number] for number in (0, 1))
            assert one[0] == 2 and one[-1] == two[-1] == 3
            one, two = one[1:-1].tolist(), two[:-1].tolist()
            own = plain[starts[row] : starts[row + 1]].tolist()
            label = int(y[SENTENCE][row])
            labels.append(label)
            assert weights[SENTENCE][row] == 1
            if label == 0:
                assert one + two == own
            elif task == "order":
                assert two + one == own
            else:
                assert own[: len(one)] == one and len(two) <= len(own) - len(one)
            first = two if label and task == "order" else one
            if "." in {tokenizer.of_keras_hub.id_to_token(each) for each in own[:-1]}:
                assert tokenizer.of_keras_hub.id_to_token(first[-1]) == "."
            assert y[TOKENS].shape[1] == Masking(rate=0.01).most(32)
    assert 0.4 < np.mean(labels) < 0.6
