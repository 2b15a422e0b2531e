"""The ids that are looked up word by word are the reference's, whatever a text is made of."""

import itertools
import random

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from kerasllm.data.tokenizers import word_cache
from kerasllm.data.tokenizers.word_cache import BulkEngine, WordCache

_END = "<|end|>"
_BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
_DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _BYTE_LEVEL])
_TEXTS = ["The whale's 123 teeth, they'll say;  \n\n and more... ", " it's the 1851 caf\u00e9"] * 20


def _engine(steps):
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = steps
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine.train_from_iterator(
        _TEXTS,
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return engine


def _texts(count=4000):
    chance = random.Random(0)
    common = " \n\t'sdtrvlm09ab\u00e9\u2014\u2019" * 8
    characters = "".join(map(chr, range(128))) + common + "\u00a0\u0085\u00d7\u00bd\u65e5\u0301"
    return ["".join(chance.choices(characters, k=chance.randint(0, 30))) for _ in range(count)]


@pytest.fixture(params=[_BYTE_LEVEL, _DIGITS], ids=["gpt2", "single_digits"])
def engine(request):
    return _engine(request.param)


def _rows(found):
    ids, starts = found
    return [ids[start:end].tolist() for start, end in itertools.pairwise(starts)]


@pytest.mark.parametrize("most_words", [1 << 18, 100])
def test_ids_are_the_references(engine, monkeypatch, most_words):
    monkeypatch.setattr(word_cache, "_MOST_WORDS", most_words)
    texts = [*_texts(), *_TEXTS, f"a{_END}b", ""]
    expected = [row.ids for row in engine.encode_batch(texts, add_special_tokens=False)]
    bulk = BulkEngine(engine)
    for start in range(0, len(texts), 500):
        assert _rows(bulk.ids(texts[start : start + 500])) == expected[start : start + 500]


def test_what_is_cut_otherwise_is_left_to_the_reference(engine):
    cache = WordCache.of(engine)
    texts = ["plain", "caf\u00e9 \u2014 \u201cyes\u201d", f"a {_END}", "\u65e5\u672c", "a\u00a0b"]
    assert cache.holds(texts).tolist() == [True, True, False, False, False]


def test_other_tokenizers_have_no_such_words():
    spaced = _engine(pre_tokenizers.ByteLevel(add_prefix_space=True))
    assert WordCache.of(spaced) is None
    lowered = _engine(_BYTE_LEVEL)
    lowered.normalizer = tokenizers.normalizers.Lowercase()
    assert WordCache.of(lowered) is None
