"""Generated tokens: those of transformers and of the model without a cache, alone or in batches."""

import json
from pathlib import Path

import keras_hub
import numpy as np
import pytest

from kerasllm.errors import CommandError, DataError
from kerasllm.generation import GenerationSettings, Generator
from kerasllm.models.decoder import load_causal_lm
from kerasllm.models.decoders import load_backbone
from kerasllm.models.decoders.families import family_of
from tests.generation.models import FAMILIES, is_greedy, prompts, randomize, tiny

REFERENCE = Path(__file__).parents[1] / "reference" / "generation"
SHORT = GenerationSettings(max_new_tokens=8)


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


@pytest.fixture(scope="module")
def reference_model():
    return keras_hub.models.Llama3CausalLM(backbone=load_backbone(REFERENCE / "model"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_each_prompt_gives_without_a_cache(family):
    task = tiny(family)
    generator = Generator(task, batch_size=3)
    # KerasHub's own layers compute prompts of one length at a time, which are more functions.
    asked = prompts((7, 3, 7)) if family == "gemma" else prompts()
    made = generator.generate(asked, SHORT)
    for prompt, each in zip(asked, made):
        assert len(each.tokens) == 8 and is_greedy(task, prompt, each.tokens)
    assert {each.finish_reason for each in made} == {"length"}


@pytest.mark.parametrize("xla", [False, True])
def test_a_stream_gives_the_same_tokens(llama, xla):
    generator = Generator(llama, batch_size=1, xla=xla)
    made = generator.generate(prompts((3, 15)), SHORT)
    streams = [list(generator.stream(prompt, SHORT)) for prompt in prompts((3, 15))]
    assert streams == [each.tokens for each in made]
    assert is_greedy(llama, prompts((3, 15))[1], streams[1])


def test_functions_are_compiled_once_for_each_size(llama):
    generator = Generator(llama, batch_size=4)
    generator.generate(prompts((3, 5, 7)), SHORT)
    assert generator.compilations == 2
    generator.generate(prompts((16, 2, 9, 4), seed=1), GenerationSettings(max_new_tokens=11))
    generator.generate(prompts((1, 5, 7), seed=2), SHORT)
    assert generator.compilations == 2
    generator.generate(prompts((17,)), SHORT)
    assert generator.compilations == 4
    # Other numbers are other arguments, not other functions.
    for temperature in (0.5, 0.7):
        generator.generate(prompts((17,)), GenerationSettings(8, temperature=temperature))
    assert generator.compilations == 6


def test_samples_are_the_same_alone_and_in_a_batch_and_follow_the_seed(llama):
    generator = Generator(llama)
    settings = {"max_new_tokens": 8, "temperature": 1.5, "top_k": 30, "repetition_penalty": 1.2}
    first = GenerationSettings(**settings, seed=1)
    together = generator.generate([*prompts(), prompts()[0]], first)
    assert together[:-1] == [generator.generate([prompt], first)[0] for prompt in prompts()]
    assert list(generator.stream(prompts()[1], first)) == together[1].tokens
    assert together[-1] != together[0]
    assert generator.generate(prompts(), GenerationSettings(**settings, seed=2)) != together[:-1]


def test_a_row_ends_at_a_stop_token_and_the_others_continue(llama):
    generator = Generator(llama)
    free = [each.tokens for each in generator.generate(prompts(), SHORT)]
    stop = free[1][3]
    settings = GenerationSettings(max_new_tokens=8, stop_token_ids=(stop, 999))
    for made, tokens in zip(generator.generate(prompts(), settings), free):
        whole = tokens[: tokens.index(stop)] if stop in tokens else tokens
        assert made.tokens == whole
        assert made.finish_reason == ("stop" if stop in tokens else "length")
    assert list(generator.stream(prompts()[1], settings)) == free[1][: free[1].index(stop) + 1]


def test_the_caller_can_end_a_text(llama):
    generator = Generator(llama)
    settings = GenerationSettings(max_new_tokens=30)
    (made,) = generator.generate([[1, 2]], settings, ends=lambda tokens: len(tokens) >= 5)
    assert made.finish_reason == "stop" and 5 <= len(made.tokens) < 30


def test_tokens_are_those_of_transformers(reference_model):
    texts = json.loads((REFERENCE / "texts.json").read_text())
    generator = Generator(reference_model)
    for text in texts:
        stops = tuple(text["stop_token_ids"])
        settings = GenerationSettings(16, stop_token_ids=stops, **text["settings"])
        made = list(generator.stream(text["prompt"], settings))
        assert made == text["tokens"], text["name"]
        (whole,) = generator.generate([text["prompt"]], settings)
        assert whole.finish_reason == ("stop" if text["tokens"][-1] in stops else "length")


def test_settings_of_encoder_decoders_are_refused(llama):
    generator = Generator(llama)
    for options in ({"min_new_tokens": 2}, {"no_repeat_ngram_size": 2}, {"max_length_ratio": 1.5}):
        settings = GenerationSettings(max_new_tokens=4, **options)
        with pytest.raises(CommandError, match=f"{next(iter(options))} is a setting of encoder-"):
            generator.generate(prompts((3,)), settings)
        with pytest.raises(CommandError, match="encoder-decoders"):
            next(generator.stream(prompts((3,))[0], settings))


def test_a_model_that_trains_is_read_again_and_not_compiled_again():
    task = tiny("qwen2")
    generator = Generator(task)
    before = generator.generate(prompts(), SHORT)
    compilations = generator.compilations
    randomize(task.backbone, seed=5)
    generator.refresh()
    after = generator.generate(prompts(), SHORT)
    assert after != before and is_greedy(task, prompts()[0], after[0].tokens)
    assert generator.compilations == compilations


def test_bfloat16_computes_what_the_model_computes():
    task = tiny("llama", dtype="bfloat16")
    assert family_of(task.backbone).model_type == "llama"
    (made,) = Generator(task).generate([[1, 2, 3]], SHORT)
    assert is_greedy(task, [1, 2, 3], made.tokens[:3])


def test_prompts_and_answers_fit_the_positions_of_the_model():
    generator = Generator(tiny("gpt2"))
    made = generator.generate(prompts((39, 4)), GenerationSettings(max_new_tokens=60))
    assert [len(each.tokens) for each in made] == [1, 36]
    assert is_greedy(tiny("gpt2"), prompts((39, 4))[1], made[1].tokens)
    with pytest.raises(DataError, match="40 tokens, and the model reads 40"):
        generator.generate([[1], list(range(40))], SHORT)
    with pytest.raises(DataError, match="empty"):
        generator.generate([[]], SHORT)


@pytest.mark.parametrize("quantized", [None, "int8"])
def test_adapters_and_quantized_kernels_are_merged(quantized):
    from kerasllm.models.adapters import low_rank

    task = tiny("llama")
    layer = task.backbone.transformer_layers[0]._self_attention_layer._query_dense
    low_rank.freeze(layer, quantized)
    update = low_rank.add_update(layer, "mine", low_rank.LowRank(rank=2))
    (before,) = Generator(task).generate([[1, 2, 3]], SHORT)
    update.b.assign(2 * np.random.default_rng(0).normal(size=update.b.shape))
    (after,) = Generator(task).generate([[1, 2, 3]], SHORT)
    assert after != before and is_greedy(task, [1, 2, 3], after.tokens)


@pytest.mark.slow
def test_smollm2_writes_what_transformers_writes():
    task = load_causal_lm("smollm2_135m_instruct").task
    expected = json.loads((REFERENCE / "smollm2.json").read_text())
    for case in expected:
        settings = GenerationSettings(**case["settings"], stop_token_ids=(2,))
        made = list(Generator(task).stream(case["prompt"], settings))
        assert made == case["tokens"], case["settings"]
