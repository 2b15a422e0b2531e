"""The tokenizer inside a GGUF file gives the ids of the tokenizer that the file was made from."""

import json

import pytest

from kerasllm.data.chat.templates import own
from kerasllm.data.chat.tokens import encode_conversation
from kerasllm.data.tokenizers import from_gguf
from kerasllm.errors import PresetError
from tests.data.tokenizers.gguf_parts import REFERENCE, gguf_parts


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_ids_are_those_of_the_reference(model):
    parts = gguf_parts(model)
    tokenizer = from_gguf(parts)
    for text, ids in zip(parts.texts, parts.ids):
        assert tokenizer.encode_whole(text) == ids, text


def test_special_tokens_are_those_of_the_file():
    tokenizer = from_gguf(gguf_parts("llama"))
    assert (tokenizer.start_token, tokenizer.end_token) == ("<s>", "</s>")
    assert (tokenizer.start_token_id, tokenizer.stop_token_ids) == (1, (2,))
    assert from_gguf(gguf_parts("llama", add_bos=False)).start_token_id is None
    merges = from_gguf(gguf_parts("gpt2"))
    assert merges.start_token_id is None and merges.named_tokens["bos_token"] == "<|endoftext|>"
    assert merges.pad_token_id == 0 and merges.special_token_ids == {0, 1, 2}


def test_a_space_is_put_before_a_text_only_if_the_file_says_so():
    said = from_gguf(gguf_parts("llama"))
    unsaid = from_gguf(gguf_parts("llama", add_space_prefix=False))
    assert unsaid.encode_whole(" Call") == said.encode_whole("Call")
    assert unsaid.decode(unsaid.encode_whole(" Call")) == " Call"


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        ("gpt-2", "a 1234 b", ["a", "Ġ1234", "Ġb"]),
        ("smollm", "a  1234 b", ["a", "ĠĠ", "1", "2", "3", "4", "Ġb"]),
        ("llama-bpe", "a 1234 b", ["a", "Ġ", "123", "4", "Ġb"]),
        ("qwen2", "a 1234 b", ["a", "Ġ", "1", "2", "3", "4", "Ġb"]),
        ("qwen2", "DON'T\n\n x", ["DON", "'T", "ĊĊ", "Ġx"]),
    ],
)
def test_words_are_split_by_the_rule_that_the_file_names(pre, text, words):
    tokenizer = from_gguf(gguf_parts("gpt2", pre=pre))
    steps = tokenizer._engine.pre_tokenizer.pre_tokenize_str(text)
    assert [word for word, _ in steps] == words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "rwkv"}, "of the kind 'rwkv'"),
        ({"pre": "tekken"}, "by the rule 'tekken'"),
        ({"merges": None}, "no merges"),
    ],
)
def test_what_is_not_known_is_refused_by_name(changes, message):
    with pytest.raises(PresetError, match=message) as error:
        from_gguf(gguf_parts("gpt2", **changes), where="model.gguf")
    assert error.value.where == "model.gguf"


@pytest.mark.slow
def test_smollm2_has_the_ids_of_the_reference():
    from kerasllm.models.decoders.gguf_tokenizer import read_tokenizer
    from kerasllm.models.presets import fetch

    parts = read_tokenizer(fetch("smollm2_135m_instruct"))
    tokenizer = from_gguf(parts)
    expected = json.loads((REFERENCE / "smollm2.json").read_text(encoding="utf-8"))
    for text, ids in zip(expected["texts"], expected["ids"]):
        assert tokenizer.encode_whole(text) == ids, text
    assert tokenizer.end_token == "<|im_end|>" and tokenizer.start_token_id is None
    template = own(parts.chat_template, tokenizer)
    for messages, ids in zip(expected["chats"], expected["chat_ids"]):
        found, mask = encode_conversation(template, tokenizer, messages)
        assert found.tolist() == ids
        answers = [message["content"] for message in messages[1:] if message["role"] == "assistant"]
        said = tokenizer.decode(found[mask == 1], skip_special=False)
        assert said.count("<|im_end|>") == len(answers)
        assert all(f"{answer}<|im_end|>" in said for answer in answers)
