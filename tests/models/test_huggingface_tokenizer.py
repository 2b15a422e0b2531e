"""Tokenizers of Hugging Face folders: settings honoured or refused, ids as in `tokenizers`."""

import json
import shutil
from pathlib import Path

import families
import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import example, given, settings
from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, normalizers, pre_tokenizers

from kerasllm.errors import PresetError
from kerasllm.models.huggingface.tokenizer import build_tokenizer

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture
def folder(tmp_path):
    """Copies the tokenizer of a reference folder, with settings changed."""

    def copy(name, fast=lambda content: None, **changes):
        target = tmp_path / name
        shutil.copytree(REFERENCE / name, target)
        file = target / "tokenizer_config.json"
        kept = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({k: v for k, v in kept.items() if v is not ...}))
        content = json.loads((target / "tokenizer.json").read_text())
        fast(content)
        (target / "tokenizer.json").write_text(json.dumps(content))
        return target

    return copy


def tokenizer_of(folder, **changes):
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    return build_tokenizer(folder, config)


def ids_of(tokenizer, text):
    return [int(number) for number in tokenizer(text)]


@pytest.mark.parametrize(
    ("changes", "lowercase", "strip_accents"),
    [
        ({}, True, True),
        ({"do_lower_case": False}, False, False),
        ({"do_lower_case": False, "strip_accents": True}, False, True),
        ({"do_lower_case": True, "strip_accents": False}, True, False),
        ({"do_lower_case": ..., "strip_accents": ...}, True, True),
    ],
)
def test_case_and_accents_are_honoured(folder, changes, lowercase, strip_accents):
    tokenizer = tokenizer_of(folder("bert", **changes))
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (lowercase, strip_accents)


def test_case_is_read_from_the_fast_tokenizer_too(folder):
    def cased(content):
        content["normalizer"].update(lowercase=False, strip_accents=False)

    target = folder("bert", cased, do_lower_case=..., strip_accents=...)
    tokenizer = tokenizer_of(target)
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (False, False)


def test_files_of_older_releases_give_the_same_tokenizer(tmp_path):
    for name, files in (("bert", ["vocab.txt"]), ("roberta", ["vocab.json", "merges.txt"])):
        target = tmp_path / name
        target.mkdir()
        shutil.copy(REFERENCE / name / "config.json", target)
        model = json.loads((REFERENCE / name / "tokenizer.json").read_text())["model"]
        if name == "bert":
            (target / files[0]).write_text("\n".join(model["vocab"]) + "\n")
        else:
            (target / files[0]).write_text(json.dumps(model["vocab"]))
            merges = "\n".join(" ".join(merge) for merge in model["merges"])
            (target / files[1]).write_text(f"#version: 0.2\n{merges}\n")
        old, new = tokenizer_of(target), tokenizer_of(REFERENCE / name)
        assert old.get_vocabulary() == new.get_vocabulary()
        for text in ("the very good cafe.", "was a verb"):
            assert ids_of(old, text) == ids_of(new, text)


def test_a_prefix_space_is_honoured(folder):
    plain, prefixed = (
        tokenizer_of(folder("roberta")),
        tokenizer_of(folder("roberta_classifier", add_prefix_space=True)),
    )
    assert ids_of(plain, "was") != ids_of(prefixed, "was") == ids_of(plain, " was")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bert", {"tokenize_chinese_chars": False}, "tokenize_chinese_chars is False"),
        ("bert", {"do_basic_tokenize": False}, "do_basic_tokenize is False"),
        ("bert", {"never_split": ["C++"]}, "never_split"),
        ("bert", {"cls_token": "<s>"}, "cls_token is '<s>'"),
        ("bert", {"unk_token": {"content": "<unk>"}}, "unk_token is '<unk>'"),
        ("bert", {"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer"),
        ("bert", {"added_tokens_decoder": {"9": {"content": "<x>"}}}, "'<x>'"),
        ("distilbert", {"tokenizer_class": "RobertaTokenizerFast"}, "RobertaTokenizer"),
        ("roberta", {"mask_token": "[MASK]"}, "mask_token"),
        ("roberta", {"tokenizer_class": "BertTokenizer"}, "tokenizer_class is 'BertTokenizer'"),
        ("xlm_roberta", {"pad_token": "[PAD]"}, "pad_token"),
        ("albert", {"remove_space": False}, "remove_space"),
    ],
)
def test_a_setting_that_kerashub_cannot_follow_is_refused(folder, name, changes, message):
    with pytest.raises(PresetError, match=message):
        tokenizer_of(folder(name, **changes))


@pytest.mark.parametrize(
    ("name", "part", "change", "message"),
    [
        ("bert", "normalizer", {"clean_text": False}, "clean_text is False"),
        ("bert", "normalizer", {"type": "NFC"}, "normalizer.type is 'NFC'"),
        ("bert", "pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer.type"),
        ("bert", "model", {"type": "BPE"}, "model.type is 'BPE'"),
        ("bert", "model", {"max_input_chars_per_word": 50}, "max_input_chars_per_word is 50"),
        ("bert", "model", {"vocab": {"[PAD]": 0, "[UNK]": 2}}, "the ids of the vocabulary"),
        ("bert", "model", {"vocab": {}}, "no vocabulary"),
        ("roberta", "model", {"byte_fallback": True}, "byte_fallback is True"),
        ("roberta", "model", {"vocab": {}}, "no vocabulary"),
        ("roberta", "pre_tokenizer", {"use_regex": False}, "use_regex is False"),
        ("xlm_roberta", "model", {"vocab": [["a", 0.0]]}, "no vocabulary"),
    ],
)
def test_a_fast_tokenizer_that_kerashub_cannot_follow_is_refused(
    folder, name, part, change, message
):
    with pytest.raises(PresetError, match=message):
        tokenizer_of(folder(name, lambda content: content[part].update(change)))


def test_more_tokens_than_embeddings_are_refused():
    with pytest.raises(PresetError, match="43 tokens, and the model 42 embeddings"):
        tokenizer_of(REFERENCE / "bert", vocab_size=42)


def test_two_vocabularies_that_differ_are_refused(folder):
    target = folder("bert")
    (target / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nother\n")
    with pytest.raises(PresetError, match="different vocabularies"):
        tokenizer_of(target)


def test_a_broken_file_is_named(folder):
    target = folder("bert")
    (target / "tokenizer_config.json").write_text("{")
    with pytest.raises(PresetError, match="not valid JSON") as caught:
        tokenizer_of(target)
    assert "tokenizer_config.json" in caught.value.where


@pytest.fixture(scope="module")
def unigrams(tmp_path_factory):
    """Tokenizers of SentencePiece models as older hubs hold them, with the reference's."""
    made = {}
    for name, file in (("albert", "spiece.model"), ("xlm_roberta", "sentencepiece.bpe.model")):
        proto = families.sentencepiece_proto(name)
        target = tmp_path_factory.mktemp(name)
        (target / file).write_bytes(proto)
        config = {"model_type": name.replace("_", "-"), "vocab_size": 100}
        made[name] = build_tokenizer(target, config), reference_of(name, proto)
    return made


def reference_of(name, proto):
    """Builds the tokenizer that transformers makes of a SentencePiece model."""
    model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    own = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    if name == "albert":
        reference = tokenizers.Tokenizer(models.Unigram(pieces, 1))
        reference.normalizer = normalizers.Sequence(
            [
                normalizers.Replace("``", '"'),
                normalizers.Replace("''", '"'),
                normalizers.NFKD(),
                normalizers.StripAccents(),
                normalizers.Lowercase(),
                own,
            ]
        )
    else:
        first = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        reference = tokenizers.Tokenizer(models.Unigram([*first, *pieces[3:], ("<mask>", 0.0)], 3))
        reference.normalizer = own
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    return reference


@given(st.text(st.characters(max_codepoint=0x2FFF, exclude_characters="<[▁"), max_size=30))
@example("The ``QUICK'' brown Fox, ½ ﬁlm … Ärger\tÉtÉ")
@example("İstanbul ſtraße Σίσυφος")
@example("\u08ca")
@settings(max_examples=300, deadline=None)
def test_albert_ids_are_those_of_the_reference_for_any_text(unigrams, text):
    tokenizer, reference = unigrams["albert"]
    assert ids_of(tokenizer, text) == reference.encode(text, add_special_tokens=False).ids


@given(st.text("abcdefg QUICKbrownfox.,'é½ß日한", max_size=30))
@settings(max_examples=100, deadline=None)
def test_xlm_roberta_ids_are_those_of_the_reference(unigrams, text):
    tokenizer, reference = unigrams["xlm_roberta"]
    assert ids_of(tokenizer, text) == reference.encode(text, add_special_tokens=False).ids


def test_albert_keeps_case_and_accents_when_it_is_told_to(folder):
    target = folder("albert", do_lower_case=False, keep_accents=True)
    unknown = 1
    assert unknown in ids_of(tokenizer_of(target), "CAFÉ")
    assert unknown not in ids_of(tokenizer_of(REFERENCE / "albert"), "CAFÉ")
