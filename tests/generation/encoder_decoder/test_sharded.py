"""Targets that are generated without a cache, as in shards: those of one device."""

import keras_hub
import pytest
from keras import ops

from kerasllm.generation import GenerationSettings, Seq2SeqGenerator
from tests.generation.encoder_decoder import models

pytest.importorskip("jax")


@pytest.fixture
def in_shards(monkeypatch):
    """Makes a generator that computes as in shards, with the backend that is there."""
    from kerasllm.generation.encoder_decoder import generator, sharded

    def computed(model, function):
        return lambda *arrays: function(*map(ops.convert_to_tensor, arrays))

    monkeypatch.setattr(sharded, "computed_in_shards", computed)

    def make(model, **options):
        with monkeypatch.context() as changed:
            changed.setattr(generator, "decoder_for", sharded.ShardedDecoder)
            return Seq2SeqGenerator(model, **options)

    return make


@pytest.mark.parametrize("options", [{}, {"beams": 2}, {"temperature": 1.0}], ids=str)
def test_a_model_that_reads_no_rounded_length_generates_to_its_end(in_shards, monkeypatch, options):
    # Rounded up, 20 are 32: more than there are positions.
    short = {**models._ONE, "max_sequence_length": 20}
    monkeypatch.setitem(models._MODELS, "bart", (keras_hub.models.BartBackbone, short))
    model = models.tiny("bart", max_source_length=20, max_target_length=20)
    settings = GenerationSettings(max_new_tokens=20, stop_token_ids=(), **options)
    sources = models.sources((3, 11))
    made = in_shards(model).generate(sources, settings)
    assert made == Seq2SeqGenerator(model).generate(sources, settings)
    assert [len(each.tokens) for each in made] == [20, 20]
