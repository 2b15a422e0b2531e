"""What is generated is what transformers generates: greedy and by beam search, on 50 sources."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import pytest

from kerasllm.generation import GenerationSettings, Seq2SeqGenerator
from kerasllm.models.encoder_decoder import EncoderDecoder
from kerasllm.models.encoder_decoders.frame import Frame
from kerasllm.models.encoder_decoders.load import load_backbone

REFERENCE = Path(__file__).parents[2] / "reference" / "encoder_decoder_generation"
# Which settings are tried each time; the others take minutes together.
QUICK = {
    "bart": ("greedy_rules", "beams_rules", "beams_forced"),
    "flan_t5": ("beams_short",),
    "bart_trained": ("beams_early",),
    "t5_trained": ("greedy", "beams_never"),
}
# The model's own in transformers, which are no settings here.
OWN = ("forced_bos_token_id", "forced_eos_token_id", "bad_words_ids")


@cache
def opened(name: str) -> EncoderDecoder:
    loaded = load_backbone(REFERENCE / name)
    frame = Frame(after=(2,))
    return EncoderDecoder(
        backbone=loaded.backbone,
        tokenizer=None,
        start_token_id=loaded.config["decoder_start_token_id"],
        end_token_id=2,
        pad_token_id=0,
        source_frame=frame,
        target_frame=frame,
        **loaded.facts,
    )


def cases():
    for name, quick in QUICK.items():
        texts = json.loads((REFERENCE / name / "texts.json").read_text())
        for target in texts["targets"]:
            yield pytest.param(
                name,
                texts["sources"],
                target,
                id=f"{name}-{target['name']}",
                marks=[] if target["name"] in quick else pytest.mark.slow,
            )


@pytest.mark.parametrize(("name", "sources", "target"), list(cases()))
def test_targets_are_those_of_transformers(name, sources, target):
    asked = dict(target["settings"])
    own = {key: asked.pop(key) for key in OWN if key in asked}
    model = dataclasses.replace(
        opened(name),
        forced_first_token_id=own.pop("forced_bos_token_id", None),
        generation=own,
    )
    settings = GenerationSettings(max_new_tokens=16, beams=asked.pop("num_beams", 1), **asked)
    made = Seq2SeqGenerator(model).generate(sources, settings)
    for each, tokens in zip(made, target["tokens"], strict=True):
        ended = tokens[-1] == 2
        assert each.tokens == tokens[: len(tokens) - ended]
        if "forced_eos_token_id" not in own:
            assert each.finish_reason == ("stop" if ended else "length")
