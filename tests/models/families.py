"""Tiny, randomly initialised presets of every text-classification family, in KerasHub's layout."""

from __future__ import annotations

import io
from pathlib import Path

import keras
import keras_hub
import numpy as np
import sentencepiece

WORDS = ["the", "quick", "brown", "fox", "a", "good", "bad", "film", "very", "dull"]
NAMES = (
    "albert",
    "bert",
    "deberta_v3",
    "distil_bert",
    "f_net",
    "roberta",
    "roformer_v2",
    "xlm_roberta",
)
NUM_LAYERS = 3
_SIZES = {
    "vocabulary_size": 64,
    "num_layers": NUM_LAYERS,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}


def save_preset(name: str, folder: Path, **sizes) -> Path:
    """Writes a tiny preset of a family, with weights that are all away from zero.

    Args:
        name: One of `NAMES`.
        folder: Where to write it.
        **sizes: Arguments of the backbone that replace the tiny defaults.
    """
    keras.utils.set_random_seed(7)
    backbone = _backbone(name, sizes)
    rng = np.random.default_rng(7)
    # A bias or a scale that is left at 0 or 1 would hide one that is lost on the way.
    for variable in backbone.variables:
        if not variable.path.startswith("seed_generator"):
            noise = rng.normal(0, 0.05, variable.shape)
            variable.assign(keras.ops.convert_to_numpy(variable) + noise)
    backbone.save_to_preset(folder)
    _tokenizer(name).save_to_preset(folder)
    return Path(folder)


def inputs_of(task: keras.Model, batch: int = 3, length: int = 6, seed: int = 0) -> dict:
    """Returns token ids with right padding, under the names that the task takes."""
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(5, 24, (batch, length)).astype("int32")
    mask = np.arange(length)[None] < rng.integers(length // 2, length + 1, batch)[:, None]
    made = {
        "token_ids": np.where(mask, token_ids, 0).astype("int32"),
        "padding_mask": mask.astype("int32"),
        "segment_ids": np.zeros((batch, length), "int32"),
    }
    return {name: made[name] for name in task.input}


def _backbone(name: str, sizes: dict) -> keras.Model:
    classes = {
        "albert": keras_hub.models.AlbertBackbone,
        "bert": keras_hub.models.BertBackbone,
        "deberta_v3": keras_hub.models.DebertaV3Backbone,
        "distil_bert": keras_hub.models.DistilBertBackbone,
        "f_net": keras_hub.models.FNetBackbone,
        "roberta": keras_hub.models.RobertaBackbone,
        "roformer_v2": keras_hub.models.RoformerV2Backbone,
        "xlm_roberta": keras_hub.models.XLMRobertaBackbone,
    }
    arguments = dict(_SIZES)
    if name == "albert":
        arguments.update(embedding_dim=6, max_sequence_length=32)
    elif name == "deberta_v3":
        arguments.update(bucket_size=8, max_sequence_length=32)
    elif name == "roformer_v2":
        arguments.update(head_size=4, use_bias=True)
    else:
        arguments.update(max_sequence_length=32)
    if name == "f_net":
        del arguments["num_heads"]
    return classes[name](**{**arguments, **sizes})


def _tokenizer(name: str) -> keras.layers.Layer:
    if name in ("bert", "distil_bert", "roformer_v2"):
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s"]
        classes = {
            "bert": keras_hub.models.BertTokenizer,
            "distil_bert": keras_hub.models.DistilBertTokenizer,
            "roformer_v2": keras_hub.models.RoformerV2Tokenizer,
        }
        return classes[name](vocabulary=vocabulary, lowercase=True)
    if name == "roberta":
        tokens = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "ab", "Ġ", "Ġab", "<mask>"]
        vocabulary = {token: number for number, token in enumerate(tokens)}
        return keras_hub.models.RobertaTokenizer(vocabulary=vocabulary, merges=["a b", "Ġ ab"])
    classes = {
        "albert": keras_hub.models.AlbertTokenizer,
        "deberta_v3": keras_hub.models.DebertaV3Tokenizer,
        "f_net": keras_hub.models.FNetTokenizer,
        "xlm_roberta": keras_hub.models.XLMRobertaTokenizer,
    }
    return classes[name](proto=sentencepiece_proto(name))


def sentencepiece_proto(name: str, **options) -> bytes:
    """Returns a SentencePiece model with a family's special tokens, trained on a few words."""
    specials = {
        "albert": dict(
            pad_id=0, unk_id=1, bos_id=2, eos_id=3, pad_piece="<pad>", unk_piece="<unk>",
            bos_piece="[CLS]", eos_piece="[SEP]", user_defined_symbols="[MASK]",
        ),
        "deberta_v3": dict(
            pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]",
            eos_piece="[SEP]", unk_piece="[UNK]", user_defined_symbols="[MASK]",
        ),
        "f_net": dict(
            pad_id=0, unk_id=1, bos_id=4, eos_id=5, pad_piece="<pad>", unk_piece="<unk>",
            bos_piece="[CLS]", eos_piece="[SEP]", user_defined_symbols="[MASK]",
        ),
        "xlm_roberta": dict(
            unk_id=0, bos_id=1, eos_id=2, pad_id=-1, unk_piece="<unk>", bos_piece="<s>",
            eos_piece="</s>",
        ),
    }  # fmt: skip
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS), *WORDS]),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **{**specials[name], **options},
    )
    return model.getvalue()
