"""Answers that share a batch are those that each would get alone, whenever they come and go."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.generation.generator import Generator
from kerasllm.generation.settings import GenerationSettings
from kerasllm.serving.continuous_batching import (
    Asked,
    InTurnDecoding,
    TogetherDecoding,
    _choice,
    _chosen,
    _opened,
    decoding_for,
)
from kerasllm.serving.prefix_cache import PrefixCache
from tests.generation.models import VOCABULARY, prompts, tiny

SETTINGS = [
    GenerationSettings(max_new_tokens=12),
    GenerationSettings(max_new_tokens=5, temperature=0.8, seed=3),
    GenerationSettings(max_new_tokens=9, temperature=1.0, top_p=0.7, seed=4),
    GenerationSettings(max_new_tokens=1),
    GenerationSettings(max_new_tokens=16, top_p=0.5, seed=5),
    GenerationSettings(max_new_tokens=7, repetition_penalty=1.8),
    GenerationSettings(max_new_tokens=8, temperature=1.5, top_k=3, seed=6),
    GenerationSettings(max_new_tokens=8, temperature=1.2, min_p=0.3, seed=7),
    GenerationSettings(
        max_new_tokens=10,
        temperature=1.3,
        top_k=1000,
        top_p=0.9,
        min_p=0.05,
        repetition_penalty=0.7,
        seed=8,
    ),
]


def test_rows_come_and_go_and_compute_what_they_would_alone(monkeypatch):
    # So few that the cache is copied to more of them on the way.
    monkeypatch.setattr("kerasllm.serving.continuous_batching._FREE_SLOTS", 3)
    generator = Generator(tiny("mistral"))
    decoding = decoding_for(generator)
    assert isinstance(decoding, TogetherDecoding)
    asked = list(zip(prompts((3, 11, 7, 15, 7, 9, 4, 6, 12)), SETTINGS))
    expected = [generator.generate([prompt], how)[0].tokens for prompt, how in asked]
    made: dict[int, list[int]] = {}
    waiting = list(range(len(asked)))
    while waiting or made.keys() - _whole(made):
        # The second comes when the first has two tokens or is whole, and so on.
        before = made.get(waiting[0] - 1, []) if waiting else []
        if waiting and (len(before) >= 2 or not made.keys() - _whole(made)):
            key = waiting.pop(0)
            made |= decoding.add([Asked(key, *asked[key])])
        decoding.remove(_whole(made))
        if open_ones := made.keys() - _whole(made):
            found = decoding.step()
            assert found.keys() == open_ones
            for key, tokens in found.items():
                made[key] += tokens
    assert [made[key] for key in range(len(asked))] == expected
    first = decoding.add([Asked(key, *each) for key, each in enumerate(asked)])
    assert first == {key: tokens[:1] for key, tokens in enumerate(expected)}
    decoding.remove([key for key, tokens in enumerate(expected) if len(tokens) == 1])
    found = decoding.step()
    assert all(found[key] == tokens[1:2] for key, tokens in enumerate(expected) if tokens[1:])


_ANY = st.builds(
    GenerationSettings,
    temperature=st.sampled_from([0, 0.5, 1, 1.7]),
    top_k=st.sampled_from([None, 1, 2, 7, VOCABULARY, 500]),
    top_p=st.sampled_from([None, 0.3, 0.9]),
    min_p=st.sampled_from([None, 0.02, 0.4]),
    repetition_penalty=st.sampled_from([1.0, 0.6, 1.3]),
    seed=st.integers(0, 9),
)


@given(st.lists(_ANY, min_size=1, max_size=5), st.integers(0, 99))
def test_each_row_is_chosen_by_its_own_settings(settings, seed):
    """By the formulas of transformers, in NumPy, a row at a time."""
    random = np.random.default_rng(seed)
    asked = [
        Asked(number, random.integers(0, VOCABULARY, 5).tolist(), how)
        for number, how in enumerate(settings)
    ]
    logits = random.normal(0, 2, (len(asked), VOCABULARY)).astype(np.float32)
    rows = [_opened(one, VOCABULARY) for one in asked]
    found = _chosen(tf.constant(logits), *_choice(rows)).numpy()
    for row, one, token in zip(rows, asked, found, strict=True):
        assert token == _by_formula(logits[one.key].astype(float), one, row.uniform[0])


def _by_formula(logits, asked, uniform) -> int:
    how = asked.settings
    seen = list(set(asked.prompt))
    penalty = how.repetition_penalty
    logits[seen] = np.where(logits[seen] < 0, logits[seen] * penalty, logits[seen] / penalty)
    if not how.temperature:
        return int(np.argmax(logits))
    logits = logits / how.temperature
    order = np.argsort(-logits)
    kept = order[: how.top_k]
    chances = _softmax(logits[kept])
    if how.top_p is not None:
        # As many as it takes to reach the sum.
        kept = kept[: 1 + int((np.cumsum(chances) < how.top_p).sum())]
        chances = _softmax(logits[kept])
    kept = kept[chances >= (how.min_p or 0) * chances.max()]
    chances = np.zeros(len(logits))
    chances[kept] = _softmax(logits[kept])
    return int(np.searchsorted(np.cumsum(chances), uniform * (1 - 1e-6), side="right"))


def _softmax(logits):
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


def _whole(made: dict[int, list[int]]) -> set[int]:
    return {key for key, tokens in made.items() if len(tokens) == SETTINGS[key].max_new_tokens}


def test_other_models_give_each_answer_a_token_in_turn():
    generator, how = Generator(tiny("gemma")), GenerationSettings(max_new_tokens=3)
    decoding = decoding_for(generator)
    assert isinstance(decoding, InTurnDecoding) and decoding.at_once(prompts()) == 1
    both = prompts((5, 7))
    made = {}
    for key, prompt in enumerate(both):
        made |= decoding.add([Asked(key, prompt, how)])
    for found in (decoding.step(), decoding.step()):
        made = {key: made[key] + found[key] for key in made}
    assert made == {key: generator.generate([each], how)[0].tokens for key, each in enumerate(both)}
    decoding.remove([0, 1])
    assert decoding.step() == {}


def test_whatever_is_asked_few_shapes_are_computed(monkeypatch):
    """Kernels are made for each shape, and kept: memory would grow with the requests."""
    decoding = decoding_for(Generator(tiny("gpt2")))
    shapes = {"prompts": set(), "tokens": set()}
    extend = decoding._extend

    def seeing(cache, token_ids, *given):
        kind = "tokens" if token_ids.shape[1] == 1 else "prompts"
        shapes[kind].add((tuple(cache.shape), tuple(token_ids.shape)))
        return extend(cache, token_ids, *given)

    monkeypatch.setattr(decoding, "_extend", seeing)
    random = np.random.default_rng(0)
    open_ones: dict[int, int] = {}
    for key in range(60):
        how = GenerationSettings(max_new_tokens=int(random.integers(1, 12)))
        asked = [
            Asked((key, number), random.integers(6, VOCABULARY, random.integers(1, 30)), how)
            for number in range(random.integers(1, 4))
        ]
        decoding.add(asked)
        open_ones |= dict.fromkeys([one.key for one in asked], how.max_new_tokens)
        decoding.step()
        open_ones = {each: left - 1 for each, left in open_ones.items()}
        decoding.remove([each for each, left in open_ones.items() if left <= 0])
        open_ones = {each: left for each, left in open_ones.items() if left > 0}
    # 1 to 3 prompts of up to 8, 16, 24 or 32 tokens; some sizes of a batch, in a cache or two.
    assert len(shapes["prompts"]) <= 12
    assert len(shapes["tokens"]) <= 16


@pytest.mark.parametrize("family", ["gpt2", "mistral"])
def test_a_prompt_that_begins_as_another_text_is_read_from_where_it_differs(family, monkeypatch):
    generator = Generator(tiny(family))
    decoding = decoding_for(generator, prefix_bytes=1_000_000)
    read = []
    extend = decoding._extend

    def seeing(cache, token_ids, starts, lengths, choice):
        read.append((starts.numpy().tolist(), lengths.numpy().tolist()))
        return extend(cache, token_ids, starts, lengths, choice)

    monkeypatch.setattr(decoding, "_extend", seeing)
    how = GenerationSettings(max_new_tokens=6)
    system, other = prompts((17, 15))
    first, second = [*system, 9, 8], [*system, 30, 31, 32]

    def written(*texts):
        made = decoding.add([Asked(key, text, how) for key, text in enumerate(texts)])
        for _ in range(how.max_new_tokens - 1):
            made = {key: made[key] + new for key, new in decoding.step().items()}
        decoding.remove(range(len(texts)))
        assert list(made.values()) == [one.tokens for one in generator.generate(texts, how)]
        return made[0]

    answer = written(first)
    assert read.pop(0) == ([0], [19])
    # The next turn of that chat, the same system prompt, another text, and the very same prompt.
    chat = [*first, *answer, 40, 41]
    read.clear()
    written(chat, second, other, first)
    # Of an answer the last token was never read.
    assert read[0] == ([24, 17, 0, 18], [3, 3, 15, 1])


def test_prompts_that_fail_leave_open_answers_as_they_were(monkeypatch):
    generator = Generator(tiny("gpt2"))
    decoding = decoding_for(generator, prefix_bytes=1_000_000)
    how = GenerationSettings(max_new_tokens=5)
    first, second = prompts((12, 9))
    made = decoding.add([Asked("first", first, how)])["first"]

    def out_of_memory(*caches):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    with monkeypatch.context() as patched:
        patched.setattr(decoding, "_join", out_of_memory)
        with pytest.raises(tf.errors.ResourceExhaustedError):
            decoding.add([Asked("second", second, how)])
    for _ in range(4):
        made += decoding.step()["first"]
    assert made == generator.generate([first], how)[0].tokens
    # A text that there is no memory to keep is read again.
    with monkeypatch.context() as patched:
        patched.setattr(decoding, "_fit", out_of_memory)
        decoding.remove(["first"])
    made = decoding.add([Asked("again", first, how)])["again"]
    assert made == generator.generate([first], how)[0].tokens[:1]


def test_the_memory_of_texts_that_are_kept_is_bounded():
    texts = [[number] * 20 for number in range(6)]
    one_row = tf.zeros([4, 1, 2, 24, 8])
    kept = PrefixCache(3 * 4 * 1 * 2 * 24 * 8 * 4)
    for text in texts:
        kept.keep(text, lambda: one_row)
        # Used each time, and so never forgotten.
        assert kept.longest([0] * 12).tokens == 11
    assert [kept.longest([*text, 7]) is not None for text in texts] == [
        True,
        False,
        False,
        False,
        True,
        True,
    ]
    # A part of what is there takes no place, and a whole takes that of its part.
    kept.keep([5] * 12, lambda: pytest.fail("was kept already"))
    kept.keep([5] * 24, lambda: one_row)
    assert [kept.longest([*text, 7]) is not None for text in (texts[0], texts[4])] == [True, True]
    assert kept.longest([5] * 30).tokens == 24
    # Too short, too large, or nothing at all.
    kept.keep([9] * 7, lambda: pytest.fail("is too short"))
    assert kept.longest([9] * 9) is None
    nothing = PrefixCache(0)
    nothing.keep(texts[1], lambda: pytest.fail("keeps nothing"))
    assert nothing.longest(texts[1]) is None


def test_few_prompts_are_read_in_one_go_where_they_are_long():
    decoding = decoding_for(Generator(tiny("gpt2")))
    counts = [decoding.at_once([[0] * length] * 20) for length in (5, 100, 300, 2000)]
    assert counts == [20, 4, 1, 1] and decoding.at_once([]) == 0
