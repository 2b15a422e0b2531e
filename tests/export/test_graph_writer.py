"""An encoder-decoder as a graph: sources in, what `generate` writes out."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.export.graph_byte_level_bpe import GraphByteLevelBPE
from kerasllm.export.graph_writer import GraphWriter
from kerasllm.generation.seq2seq_texts import write_texts
from kerasllm.models.encoder_decoder import new_encoder_decoder, train_tokenizer
from kerasllm.models.seq2seq_lm import Seq2SeqLM
from tests.generation.models import randomize

SOURCES = ["a dog runs", "", "two men talk\nabout the sea & ß 🏙", "sea " * 30, "the </s> ends"]
BEAMS = {"num_beams": 3, "early_stopping": True, "max_length_ratio": 1.5, "max_length_extra": 1}


@pytest.fixture(scope="module")
def model():
    texts = ["a dog runs by the sea", "two men talk about the dog", "the end of the two seas"]
    parts = new_encoder_decoder(
        train_tokenizer(texts, 300, min_frequency=1),
        layers=1,
        width=32,
        heads=2,
        feedforward=48,
        max_length=32,
    )
    randomize(parts.backbone, 0)
    return Seq2SeqLM(parts, prefix="write: ", max_length=24)


@pytest.mark.parametrize(
    "generation", [BEAMS, pytest.param({"no_repeat_ngram_size": 2}, marks=pytest.mark.slow)]
)
def test_texts_are_those_of_generate(model, generation):
    model.parts.generation = {"max_new_tokens": 12, **generation}
    functions = GraphWriter(model, GraphByteLevelBPE(model.tokenizer)).functions
    for some in (SOURCES, SOURCES[2:3]):
        check(functions["serving_default"](tf.constant(some)), write_texts(model, some))
    found = functions["limited"](tf.constant(SOURCES), tf.constant(3))
    check(found, write_texts(model, SOURCES, max_new_tokens=3))


def check(found, expected):
    assert [one.decode() for one in found["output"].numpy()] == [one.text for one in expected]
    reasons = [one.decode() for one in found["finish_reason"].numpy()]
    assert reasons == [one.finish_reason for one in expected]


def test_token_ids_in_and_out(model):
    model.parts.generation = {"max_new_tokens": 12, **BEAMS}
    functions = GraphWriter(model, None).functions
    assert set(functions) == {"token_ids", "score_ids"}
    ids = tf.ragged.constant([one.tolist() for one in model.encode_sources(SOURCES)], tf.int32)
    given = ids.to_tensor(), tf.sequence_mask(ids.row_lengths(), dtype=tf.int32)
    found = functions["token_ids"](*given)
    expected = write_texts(model, SOURCES)
    for row, mask, stopped, one in zip(*(each.numpy() for each in found.values()), expected):
        assert mask.sum() == one.tokens and stopped == (one.finish_reason == "stop")
        assert model.tokenizer.decode(row[mask > 0]).strip() == one.text


def test_scores_are_the_logits_of_the_model(model):
    graph = GraphWriter(model, GraphByteLevelBPE(model.tokenizer))
    targets = tf.constant([[7, 8, 9, 10]] * 2)
    found = graph.functions["score"](tf.constant(SOURCES[:2]), targets)["logits"]
    start = model.parts.start_token_id
    for row, source in enumerate(model.encode_sources(SOURCES[:2])):
        logits = model(
            {
                "encoder_token_ids": source[None],
                "encoder_padding_mask": np.ones_like(source)[None],
                "decoder_token_ids": np.array([[start, 7, 8, 9]]),
                "decoder_padding_mask": np.ones((1, 4), np.int32),
            }
        )
        np.testing.assert_allclose(found[row], logits[0], atol=1e-4)


def test_sampled_texts_depend_on_the_source_alone(model):
    model.parts.generation = {"max_new_tokens": 8, "do_sample": True, "temperature": 2.0}
    write = GraphWriter(model, GraphByteLevelBPE(model.tokenizer)).functions["serving_default"]
    together = write(tf.constant(SOURCES[:3]))["output"].numpy()
    assert write(tf.constant(SOURCES[2:3]))["output"].numpy()[0] == together[2]
