"""A tokenizer.json gives the ids of transformers, and its text back."""

import itertools
import json
import shutil
from pathlib import Path

import keras_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.tokenizers import (
    StreamDecoder,
    TokenizerJson,
    check_fits,
    from_folder,
    from_gguf,
    has_tokenizer,
    to_keras_hub,
    train_byte_level_bpe,
)
from kerasllm.errors import PresetError
from tests.data.tokenizers.gguf_parts import gguf_parts

REFERENCE = Path(__file__).parents[2] / "reference" / "chat"
EXPECTED = json.loads((REFERENCE / "expected.json").read_text(encoding="utf-8"))
TOY = from_folder(REFERENCE)
WITH_BYTES = from_gguf(gguf_parts("llama"))
SURROGATES = st.characters(exclude_categories=["Cs"])


def rows(tokenizer, texts, max_length=512):
    ids, offsets = tokenizer.encode(texts, max_length)
    return [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def test_ids_are_those_of_transformers_with_the_start_token_once():
    assert rows(TOY, EXPECTED["texts"]) == EXPECTED["ids"]
    assert TOY.start_token_id == 0
    whole = [TOY.encode_whole(text) for text in EXPECTED["texts"]]
    assert whole == [row[1:] for row in EXPECTED["ids"]]


def test_a_text_is_cut_at_its_end_and_no_end_token_is_added():
    assert rows(TOY, ["Call me Ishmael."], 4) == [rows(TOY, ["Call me Ishmael."])[0][:4]]
    assert TOY.end_token_id is None
    assert TOY.end_of_text_id == TOY.encode_whole("<|im_end|>")[0]


def test_truncation_and_padding_of_the_file_are_left_aside(tmp_path):
    shutil.copytree(REFERENCE, tmp_path, dirs_exist_ok=True)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert rows(from_folder(tmp_path), EXPECTED["texts"]) == EXPECTED["ids"]


def test_special_tokens_of_a_strangers_text_can_be_read_as_letters():
    assert len(TOY.encode_whole("<|im_end|>")) == 1
    letters = TOY.encode_whole("<|im_end|>", special=False)
    assert not set(letters) & TOY.special_token_ids
    assert TOY.decode(letters) == "<|im_end|>"


def test_decoding_leaves_special_tokens_out_unless_asked():
    ids = TOY.encode_whole("a<|im_end|>b")
    assert TOY.decode(ids) == "ab"
    assert TOY.decode(ids, skip_special=False) == "a<|im_end|>b"


@given(st.text(SURROGATES))
def test_any_text_comes_back(text):
    assert TOY.decode(TOY.encode_whole(text, special=False)) == text


@given(st.text(SURROGATES))
def test_spans_cover_a_text_in_order(text):
    ids, spans = TOY.encode_spans(text)
    assert ids.tolist() == TOY.encode_whole(text)
    assert (spans[1:] >= spans[:-1]).all()
    covered = {place for start, end in spans for place in range(start, end)}
    assert covered == set(range(len(text)))


@pytest.mark.parametrize("tokenizer", [TOY, WITH_BYTES], ids=["byte-level", "byte fallback"])
@given(text=st.text(SURROGATES | st.sampled_from("é🙂日\u200d\ufffd ▁")))
def test_a_stream_gives_the_same_text_and_no_half_character(tokenizer, text):
    ids = tokenizer.encode_whole(text)
    stream = StreamDecoder(tokenizer)
    pieces = [stream.step(id) for id in ids]
    last = stream.finish()
    assert "".join(pieces) + last == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces) and not last


@given(st.lists(st.integers(0, TOY.vocabulary_size - 1)))
def test_a_stream_of_any_tokens_gives_what_decoding_them_gives(ids):
    stream = StreamDecoder(TOY)
    assert "".join(map(stream.step, ids)) + stream.finish() == TOY.decode(ids)


def test_a_stream_gives_a_character_when_its_last_token_has_come():
    ids = TOY.encode_whole("a🙂")
    assert len(ids) > 2
    stream = StreamDecoder(TOY)
    pieces = [stream.step(id) for id in ids]
    assert pieces == ["a", *[""] * (len(ids) - 2), "🙂"]
    assert [stream.step(id) for id in ids[:2]] == ["a", ""]
    assert stream.finish() == "\ufffd"


def test_a_saved_tokenizer_is_read_back_as_it_was(tmp_path):
    tokenizer = TokenizerJson(
        TOY.content,
        start_token="<|im_start|>",
        end_token="<|im_end|>",
        pad_token="<|endoftext|>",
        stop_tokens=["<|endoftext|>"],
    )
    assert not has_tokenizer(tmp_path)
    tokenizer.save(tmp_path)
    assert has_tokenizer(tmp_path)
    again = from_folder(tmp_path)
    assert rows(again, EXPECTED["texts"]) == rows(tokenizer, EXPECTED["texts"])
    assert again.stop_token_ids == tokenizer.stop_token_ids == (2, 0)
    assert again.special_token_ids == tokenizer.special_token_ids == {0, 1, 2}
    assert again.pad_token_id == 0 and again.named_tokens == tokenizer.named_tokens
    # transformers adds the start token by the post-processor that is written.
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    assert written["post_processor"]["single"][0]["SpecialToken"]["id"] == "<|im_start|>"


def test_a_preset_folder_keeps_it_in_a_folder_of_its_own(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"class_name": "GPT2Tokenizer"}')
    assert not has_tokenizer(tmp_path)
    (tmp_path / "huggingface").mkdir()
    TOY.save(tmp_path / "huggingface")
    assert has_tokenizer(tmp_path)
    assert rows(from_folder(tmp_path), ["x"]) == rows(TOY, ["x"])


@pytest.mark.parametrize(("wanted", "start"), [(True, 0), (False, None)])
def test_add_bos_token_counts_before_the_post_processor(tmp_path, wanted, start):
    shutil.copytree(REFERENCE, tmp_path, dirs_exist_ok=True)
    change(tmp_path / "tokenizer_config.json", add_bos_token=wanted)
    assert from_folder(tmp_path).start_token_id == start


def test_add_prefix_space_of_the_configuration_counts(tmp_path):
    shutil.copytree(REFERENCE, tmp_path, dirs_exist_ok=True)
    change(tmp_path / "tokenizer_config.json", add_prefix_space=True)
    assert from_folder(tmp_path).encode_whole("me") == TOY.encode_whole(" me")


def test_generation_stops_at_every_end_token_that_is_named(tmp_path):
    shutil.copytree(REFERENCE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 0]}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 2}')
    assert from_folder(tmp_path).stop_token_ids == (2, 1, 0)


def test_tokens_that_only_the_configuration_knows_are_added(tmp_path):
    shutil.copytree(REFERENCE, tmp_path, dirs_exist_ok=True)
    size = TOY.vocabulary_size
    token = {"content": "<|tool|>", "special": True}
    change(tmp_path / "tokenizer_config.json", added_tokens_decoder={size: token})
    tokenizer = from_folder(tmp_path)
    assert tokenizer.encode_whole("<|tool|>") == [size]
    assert tokenizer.vocabulary_size == size + 1
    change(tmp_path / "tokenizer_config.json", added_tokens_decoder={7: {"content": "<|im_end|>"}})
    with pytest.raises(PresetError, match="id 2 in tokenizer.json and 7"):
        from_folder(tmp_path)


def test_a_padding_token_that_was_never_trained_is_not_added(tmp_path):
    shutil.copytree(REFERENCE, tmp_path, dirs_exist_ok=True)
    change(tmp_path / "tokenizer_config.json", pad_token="[PAD]")
    tokenizer = from_folder(tmp_path)
    assert tokenizer.vocabulary_size == TOY.vocabulary_size
    assert tokenizer.pad_token_id == tokenizer.end_of_text_id


def test_vocabulary_and_merges_in_files_of_their_own_are_read(tmp_path):
    model = json.loads(TOY.content)["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    tokenizer = from_folder(tmp_path)
    for text in EXPECTED["texts"]:
        if "<|im" not in text:
            assert tokenizer.encode_whole(text) == TOY.encode_whole(text)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(PresetError, match="no tokenizer.json, nor vocab.json"):
        from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(PresetError, match="not valid JSON"):
        from_folder(tmp_path)


def test_content_that_is_no_tokenizer_is_refused():
    with pytest.raises(PresetError, match="cannot be read"):
        TokenizerJson('{"model": {"type": "Magic"}}')
    with pytest.raises(PresetError, match="'<s>' is not in the vocabulary"):
        TokenizerJson(TOY.content, start_token="<s>")


def test_a_vocabulary_larger_than_the_embedding_is_refused():
    check_fits(TOY, TOY.vocabulary_size)
    with pytest.raises(PresetError, match=f"ids up to {TOY.vocabulary_size - 1}"):
        check_fits(TOY, TOY.vocabulary_size - 1)


def test_fingerprints_tell_settings_apart():
    named = {"end_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    again = TokenizerJson(TOY.content, start_token="<|endoftext|>", **named)
    assert again.fingerprint == TOY.fingerprint
    assert TokenizerJson(TOY.content, **named).fingerprint != TOY.fingerprint


def test_training_gives_the_same_tokenizer_each_time():
    texts = EXPECTED["texts"] * 2
    first, second = (train_byte_level_bpe(texts, 300) for _ in range(2))
    assert first.content == second.content
    assert first.vocabulary_size == 300
    assert first.end_of_text_id == 0 == first.encode_whole("<|endoftext|>")[0]
    with pytest.raises(ValueError, match="vocabulary_size=100"):
        train_byte_level_bpe(texts, 100)


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Llama3Tokenizer"])
def test_a_tokenizer_of_keras_hub_comes_back_from_a_preset_with_the_same_ids(name):
    tokenizer = TOY if name == "Llama3Tokenizer" else train_byte_level_bpe(EXPECTED["texts"], 300)
    hub = to_keras_hub(tokenizer, getattr(keras_hub.tokenizers, name))
    again = type(hub).from_config(hub.get_config())
    again.set_vocabulary_and_merges(hub.vocabulary, hub.merges)
    text = f"Call me Ishmael.{tokenizer.end_token}"
    assert list(again(text)) == list(hub(text)) == tokenizer.encode_whole(text)
    assert again.end_token_id == tokenizer.end_of_text_id


def test_what_keras_hub_cannot_hold_is_refused(tmp_path):
    with pytest.raises(PresetError, match="needs a tokenizer.model"):
        to_keras_hub(TOY, keras_hub.tokenizers.GemmaTokenizer, folder=tmp_path)
    with pytest.raises(PresetError, match="byte fallback"):
        to_keras_hub(WITH_BYTES, keras_hub.tokenizers.GPT2Tokenizer)
    no_such_end = TokenizerJson(TOY.content, end_token="<|im_start|>")
    with pytest.raises(PresetError, match="cannot hold this tokenizer"):
        to_keras_hub(no_such_end, keras_hub.tokenizers.Llama3Tokenizer)


def change(path, **settings):
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
