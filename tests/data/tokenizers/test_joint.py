"""Tokenizers that are trained on sources and targets."""

import itertools

import pytest

from kerasllm.data.tokenizers.from_folder import from_folder
from kerasllm.data.tokenizers.joint import train_tokenizer

TEXTS = [
    "A man plays the guitar in the park.",
    "Ein Mann spielt im Park Gitarre.",
    "Zwei Männer spielen im Park.",
    "Two men play in the park.",
] * 5


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_texts_come_back(kind, tmp_path):
    tokenizer = train_tokenizer(TEXTS, 300 if kind == "bpe" else 60, kind)
    assert [tokenizer.id_to_token(id) for id in range(4)] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.end_of_text_id == 2 and tokenizer.pad_token_id == 1
    texts = ["Zwei Männer", "a park", ""]
    ids, offsets = tokenizer.encode(texts, 100)
    rows = [ids[start:end].tolist() for start, end in itertools.pairwise(offsets)]
    assert [tokenizer.decode(row) for row in rows] == texts
    assert not {0, 1, 2, 3} & set(ids.tolist())
    tokenizer.save(tmp_path)
    again = from_folder(tmp_path)
    assert again.encode(texts, 100)[0].tolist() == ids.tolist()
    assert again.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_same_texts_give_the_same_tokenizer(kind):
    one, other = (train_tokenizer(TEXTS, 280 if kind == "bpe" else 50, kind) for _ in range(2))
    assert one.fingerprint == other.fingerprint


def test_bytes_write_what_was_never_seen_and_pieces_do_not():
    bpe, unigram = train_tokenizer(TEXTS, 280), train_tokenizer(TEXTS, 50, "unigram")
    assert bpe.decode(bpe.encode_whole("猫  sleeps")) == "猫  sleeps"
    assert 3 in unigram.encode_whole("猫")
    assert unigram.decode(unigram.encode_whole("a  park")) == "a park"


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="kind='words'"):
        train_tokenizer(TEXTS, 300, "words")
    with pytest.raises(ValueError, match="at least 260 tokens"):
        train_tokenizer(TEXTS, 200)
