"""Language models that KerasHub itself saved load whole: weights, tokenizer, abilities."""

import io
import json

import keras
import keras_hub
import numpy as np
import pytest
import sentencepiece

from kerasllm.data.starters import find_starter
from kerasllm.data.tokenizers import train_byte_level_bpe
from kerasllm.errors import PresetError
from kerasllm.models import decoder, decoders
from kerasllm.models.decoder import can_pack, gpt_causal_lm, load_causal_lm, load_text_side
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.workflows.evaluate import evaluate
from kerasllm.workflows.finetune import finetune

hub = keras_hub.models
TEXT = "Call me Ishmael. Some years ago, never mind how long precisely."
LLAMA_3 = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
)
GROUPED = {
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 32,
    "intermediate_dim": 48,
}


@pytest.fixture(scope="module")
def book():
    text = find_starter("starter:moby_dick", "train")[1].read_text(encoding="utf-8")
    return text[2000:22_000]


def byte_pairs(book, *special):
    model = json.loads(train_byte_level_bpe([book], 400, special_tokens=special).content)["model"]
    return {"vocabulary": model["vocab"], "merges": [" ".join(pair) for pair in model["merges"]]}


def save_gpt2(folder, book, **settings):
    tokenizer = hub.GPT2Tokenizer(**byte_pairs(book, "<|endoftext|>"))
    backbone = hub.GPT2Backbone(
        vocabulary_size=400,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=64,
    )
    preprocessor = hub.GPT2CausalLMPreprocessor(tokenizer, sequence_length=32, **settings)
    return save(hub.GPT2CausalLM(backbone=backbone, preprocessor=preprocessor), folder)


def save_llama_3(folder, book):
    tokenizer = hub.Llama3Tokenizer(**byte_pairs(book, *LLAMA_3))
    backbone = hub.Llama3Backbone(vocabulary_size=400, **GROUPED)
    preprocessor = hub.Llama3CausalLMPreprocessor(tokenizer, sequence_length=32)
    return save(hub.Llama3CausalLM(backbone=backbone, preprocessor=preprocessor), folder)


def save_mistral(folder, book):
    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(book.splitlines()),
        model_writer=proto,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    tokenizer = hub.MistralTokenizer(proto=proto.getvalue())
    backbone = hub.MistralBackbone(vocabulary_size=400, sliding_window=16, **GROUPED)
    preprocessor = hub.MistralCausalLMPreprocessor(tokenizer, sequence_length=32)
    return save(hub.MistralCausalLM(backbone=backbone, preprocessor=preprocessor), folder)


def save(task, folder):
    task.save_to_preset(str(folder))
    return task


@pytest.mark.parametrize(
    ("write", "start", "stops"),
    [
        (save_gpt2, "<|endoftext|>", (0,)),
        (save_llama_3, "<|begin_of_text|>", (1, 2)),
        (save_mistral, "<s>", (2,)),
    ],
)
def test_a_preset_of_keras_hub_loads_whole(tmp_path, book, write, start, stops):
    theirs = write(tmp_path / "preset", book)
    ours = load_causal_lm(tmp_path / "preset")
    assert (ours.tokenizer.start_token, ours.tokenizer.stop_token_ids) == (start, stops)
    inputs, _, _ = theirs.preprocessor([TEXT])
    ids, real = (np.asarray(inputs[name]) for name in ("token_ids", "padding_mask"))
    found, _ = ours.tokenizer.encode([TEXT], int(real.sum()))
    assert found.tolist() == ids[0][real[0]].tolist()
    expected = np.asarray(theirs(inputs))[0][real[0]]
    np.testing.assert_allclose(ours({"token_ids": found[None]})[0], expected, atol=1e-5)
    assert ours.can_pack and can_pack(tmp_path / "preset") and ours.chat_template is None


def test_a_text_begins_as_the_presets_preprocessor_says(tmp_path, book):
    save_gpt2(tmp_path / "preset", book, add_start_token=False)
    tokenizer, _ = load_text_side(tmp_path / "preset")
    assert tokenizer.start_token is None and tokenizer.end_token == "<|endoftext|>"


def test_a_preset_without_a_tokenizer_is_refused(tmp_path):
    backbone = hub.Llama3Backbone(vocabulary_size=400, **GROUPED)
    backbone.save_to_preset(str(tmp_path / "preset"))
    with pytest.raises(PresetError, match="cannot be loaded as a causal language model"):
        load_causal_lm(tmp_path / "preset")


def test_keras_hubs_own_names_tell_whether_texts_can_be_packed():
    assert can_pack("gpt2_base_en") and can_pack("llama3_8b_en") and can_pack("mistral_7b_en")
    assert not can_pack("gemma_2b_en")


def test_a_preset_of_keras_hub_trains_on_and_is_measured(tmp_path, book, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))
    save_gpt2(tmp_path / "preset", book)
    book = book[:6000]
    (tmp_path / "book.txt").write_text(book, encoding="utf-8")
    settings = {
        "model.preset": str(tmp_path / "preset"),
        "data.train": str(tmp_path / "book.txt"),
        "data.max_length": 32,
        "training.learning_rate": 0.01,
        "training.precision": "float32",
        "training.batch_size": 16,
        "training.sample_every": None,
    }
    recipe = load("gpt_continue", [f"{key}={json.dumps(value)}" for key, value in settings.items()])
    read, own = [], decoder._load_text_side
    monkeypatch.setattr(decoder, "_load_text_side", lambda *each: read.append(each) or own(*each))
    run = finetune(recipe, name="gpt_continue", output=tmp_path / "run").path
    # It takes more than a second of a large vocabulary.
    assert len(read) == 1
    before = evaluate(tmp_path / "preset", str(tmp_path / "book.txt"), max_length=32)
    after = evaluate(run, str(tmp_path / "book.txt"))
    assert after["loss"] < before["loss"] - 0.3
    assert after["tokens"] == before["tokens"] and after["bytes"] == len(book.encode())
    assert (after["max_length"], after["stride"]) == (32, 16)
    validation = Run(run).read_metrics()["validation"]
    # Of the end of the same text, without what windows let it see before.
    assert after["loss"] == pytest.approx(validation["loss"], abs=1)


def test_a_new_model_begins_as_gpt2_did():
    """KerasHub's own beginning costs a small model half a nat in the first 200 steps."""
    keras.utils.set_random_seed(0)
    model = gpt_causal_lm(
        tokenizer=train_byte_level_bpe(["a whale"], 300), layers=2, width=64, heads=2
    )
    tensors = decoders.tensors(model.backbone)
    spread = {name: float(tensor.to_huggingface().std()) for name, tensor in tensors.items()}
    expected = {"wte": 0.02, "wpe": 0.01, "c_attn": 0.02, "c_fc": 0.02, "c_proj": 0.01}
    found = {name: value for name, value in spread.items() if name.split(".")[-2] in expected}
    drawn = {name: value for name, value in found.items() if name.endswith("weight")}
    assert len(drawn) == 2 + 2 * 4
    for name, value in drawn.items():
        assert value == pytest.approx(expected[name.split(".")[-2]], rel=0.05), name
