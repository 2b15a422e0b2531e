"""Generated targets: those of the model without a cache, alone and in batches."""

import numpy as np
import pytest

from kerasllm.errors import DataError
from kerasllm.generation import GenerationSettings, Seq2SeqGenerator
from tests.generation.encoder_decoder.models import END, FAMILIES, is_greedy, sources, tiny

SHORT = GenerationSettings(max_new_tokens=8, stop_token_ids=())


@pytest.fixture(scope="module")
def bart():
    return tiny("bart")


@pytest.fixture(scope="module")
def generator(bart):
    return Seq2SeqGenerator(bart, batch_size=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_each_source_gives_without_a_cache(family):
    model = tiny(family)
    made = Seq2SeqGenerator(model, batch_size=3).generate(sources(), SHORT)
    for source, each in zip(sources(), made):
        assert len(each.tokens) == 8 and is_greedy(model, source, each.tokens)
    assert {each.finish_reason for each in made} == {"length"}


def test_t5_sees_how_far_back_a_token_is():
    model = tiny("t5")
    # Further than the 128 tokens up to which T5 tells distances apart.
    far = GenerationSettings(max_new_tokens=140, stop_token_ids=())
    (made,) = Seq2SeqGenerator(model).generate(sources((5,)), far)
    assert is_greedy(model, sources((5,))[0], made.tokens)


def test_the_limit_may_grow_with_the_source(generator):
    settings = GenerationSettings(
        max_new_tokens=14, stop_token_ids=(), max_length_ratio=0.5, max_length_extra=2
    )
    for beams in ({}, {"beams": 2}):
        made = generator.generate(sources(), GenerationSettings(**{**vars(settings), **beams}))
        assert [len(each.tokens) for each in made] == [3, 7, 5, 12, 5]
        assert {each.finish_reason for each in made} == {"length"}


def test_xla_gives_the_same_in_rounded_sizes(bart, generator):
    compiled = Seq2SeqGenerator(bart, batch_size=3, xla=True)
    settings = GenerationSettings(max_new_tokens=8, beams=3)
    for asked in (sources((3, 11, 7)), sources((2, 2, 2), seed=1)):
        assert compiled.generate(asked, settings) == generator.generate(asked, settings)
    assert compiled.compilations == 1
    drawn = GenerationSettings(max_new_tokens=9, temperature=1.0)
    assert compiled.generate(sources((3, 5)), drawn) == generator.generate(sources((3, 5)), drawn)


def test_one_function_serves_batches_of_any_size(bart):
    generator = Seq2SeqGenerator(bart, batch_size=4)
    for count, most in ((3, 8), (5, 4), (1, 9)):
        generator.generate(sources()[:count], GenerationSettings(max_new_tokens=most))
    assert generator.compilations == 1


def test_samples_are_the_same_alone_and_in_a_batch_and_follow_the_seed(generator):
    settings = {"max_new_tokens": 8, "temperature": 1.5, "top_k": 30, "repetition_penalty": 1.2}
    first = GenerationSettings(**settings, seed=1)
    together = generator.generate(sources(), first)
    assert together == [generator.generate([source], first)[0] for source in sources()]
    assert generator.generate(sources(), GenerationSettings(**settings, seed=2)) != together


@pytest.mark.parametrize("options", [{}, {"beams": 3, "early_stopping": True}])
def test_a_target_is_the_same_alone_and_in_a_batch(bart, generator, options):
    settings = GenerationSettings(max_new_tokens=12, max_length_ratio=0.7, **options)
    together = generator.generate(sources(range(2, 14)), settings)
    alone = Seq2SeqGenerator(bart, batch_size=1)
    assert together == alone.generate(sources(range(2, 14)), settings)


def test_an_end_token_ends_a_target(bart, generator):
    (free,) = generator.generate(sources((5,)), SHORT)
    end = free.tokens[3]
    stopped = GenerationSettings(max_new_tokens=8, stop_token_ids=(end,))
    (made,) = generator.generate(sources((5,)), stopped)
    assert made.tokens == free.tokens[: free.tokens.index(end)] and made.finish_reason == "stop"


def test_trained_weights_are_taken_with_refresh():
    model = tiny("new")
    generator = Seq2SeqGenerator(model)
    before = generator.generate(sources(), SHORT)
    for weight in model.backbone.trainable_variables:
        weight.assign(np.flip(weight.numpy(), 0))
    generator.refresh()
    after = generator.generate(sources(), SHORT)
    assert before != after and generator.compilations == 1
    assert is_greedy(model, sources()[0], after[0].tokens)


def test_the_models_own_rules_hold():
    model = tiny("bart", forced_first_token_id=7, generation={"bad_words_ids": [[5], [8, 9]]})
    generator = Seq2SeqGenerator(model)
    for beams in (1, 3):
        made = generator.generate(
            sources(),
            GenerationSettings(max_new_tokens=30, min_new_tokens=20, beams=beams),
        )
        assert {each.tokens[0] for each in made} == {7}
        assert not any(5 in each.tokens for each in made)
        assert all(len(each.tokens) >= 20 for each in made)


def test_n_grams_do_not_repeat(generator):
    settings = {"max_new_tokens": 40, "stop_token_ids": ()}
    for beams, size in ((1, 2), (3, 3)):
        made = generator.generate(
            sources((4, 6)),
            GenerationSettings(**settings, beams=beams, no_repeat_ngram_size=size),
        )
        for tokens in (each.tokens for each in made):
            grams = list(zip(*(tokens[place:] for place in range(size))))
            assert len(tokens) == 40 and len(set(grams)) == len(grams)


def test_a_source_that_cannot_be_read_is_refused(generator):
    with pytest.raises(DataError, match="empty"):
        generator.generate([[3, END], []], SHORT)
    with pytest.raises(DataError, match="65 tokens.*reads 64"):
        generator.generate(sources((65,)), SHORT)
    assert generator.generate([], SHORT) == []
