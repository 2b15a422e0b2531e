"""TensorFlow checkpoints of the reference BERT, as google-research and Model Garden write theirs.

The names are written out here once more, apart from the code under test. That they are the real
ones is checked against Model Garden itself, by tests/garden.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file

REFERENCE = Path(__file__).parents[1] / "reference" / "bert_tanh"
WIDTH, HEADS, LAYERS = 32, 4, 2
BERT_CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "type_vocab_size": 2,
    "vocab_size": 60,
}
_DENSE = {
    "attention/self/query": "attention.self.query",
    "attention/self/key": "attention.self.key",
    "attention/self/value": "attention.self.value",
    "attention/output/dense": "attention.output.dense",
    "intermediate/dense": "intermediate.dense",
    "output/dense": "output.dense",
}
_NORMS = {
    "attention/output/LayerNorm": "attention.output.LayerNorm",
    "output/LayerNorm": "output.LayerNorm",
}


def save_texts(folder: Path, config: Mapping = BERT_CONFIG) -> Path:
    """Writes `bert_config.json` and `vocab.txt`, with the reference's tokens first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bert_config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
    tokens = json.loads((REFERENCE / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    padding = [f"[unused{number}]" for number in range(config["vocab_size"] - len(tokens))]
    listed = [*sorted(tokens, key=tokens.get), *padding]
    (folder / "vocab.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    return folder


def google_tensors() -> dict[str, np.ndarray]:
    """Returns the reference's tensors as google-research's code names and lays them out."""
    hf = load_file(REFERENCE / "model.safetensors")
    found = {
        f"bert/embeddings/{name}": hf[f"embeddings.{name}.weight"]
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings")
    }
    dense = {"bert/pooler/dense": "pooler.dense"}
    norms = {"bert/embeddings/LayerNorm": "embeddings.LayerNorm"}
    for layer in range(LAYERS):
        scope, old = f"bert/encoder/layer_{layer}/", f"encoder.layer.{layer}."
        dense.update({scope + new: old + name for new, name in _DENSE.items()})
        norms.update({scope + new: old + name for new, name in _NORMS.items()})
    for new, old in dense.items():
        found[f"{new}/kernel"] = hf[f"{old}.weight"].T
        found[f"{new}/bias"] = hf[f"{old}.bias"]
    for new, old in norms.items():
        found[f"{new}/gamma"] = hf[f"{old}.weight"]
        found[f"{new}/beta"] = hf[f"{old}.bias"]
    return found


def heads_and_slots() -> dict[str, np.ndarray]:
    """Returns what a checkpoint from pretraining holds besides the encoder."""
    rng = np.random.default_rng(1)
    shapes = {
        "cls/predictions/output_bias": (60,),
        "cls/predictions/transform/dense/kernel": (WIDTH, WIDTH),
        "cls/predictions/transform/dense/bias": (WIDTH,),
        "cls/predictions/transform/LayerNorm/gamma": (WIDTH,),
        "cls/predictions/transform/LayerNorm/beta": (WIDTH,),
        "cls/seq_relationship/output_weights": (2, WIDTH),
        "cls/seq_relationship/output_bias": (2,),
        "bert/embeddings/word_embeddings/adam_m": (60, WIDTH),
        "bert/embeddings/word_embeddings/adam_v": (60, WIDTH),
        "bert/pooler/dense/bias/adam_m": (WIDTH,),
    }
    tensors = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    return {**tensors, "global_step": np.array(7, "int64")}


def save_google(folder: Path, tensors: Mapping[str, np.ndarray] | None = None) -> Path:
    """Writes a folder as google-research publishes it, with TensorFlow 1's own Saver.

    Args:
        folder: Where to write it.
        tensors: What the checkpoint holds. Defaults to `None`: the encoder, heads and slots.
    """
    save_texts(folder)
    tensors = {**google_tensors(), **heads_and_slots()} if tensors is None else tensors
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            name: tf.compat.v1.get_variable(name, initializer=tf.constant(value))
            for name, value in tensors.items()
        }
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables)
        saver.save(session, str(folder / "bert_model.ckpt"), latest_filename="unused")
    return folder


def garden_encoder(numbered: bool = False) -> tf.Module:
    """Returns the reference as a tree of objects with the attributes of Model Garden's encoder.

    Args:
        numbered: Whether parts are known by numbers only, as before 2021. Defaults to `False`.
    """
    google = google_tensors()

    def holder(**values) -> tf.Module:
        made = tf.Module()
        for name, value in values.items():
            setattr(made, name, tf.Variable(value) if isinstance(value, np.ndarray) else value)
        return made

    def norm(scope: str) -> tf.Module:
        return holder(gamma=google[f"{scope}/gamma"], beta=google[f"{scope}/beta"])

    def dense(scope: str, kernel: tuple | None = None, bias: tuple | None = None) -> tf.Module:
        weight, shift = google[f"{scope}/kernel"], google[f"{scope}/bias"]
        return holder(
            kernel=weight.reshape(kernel or weight.shape), bias=shift.reshape(bias or shift.shape)
        )

    def layer(scope: str) -> tf.Module:
        split = {"kernel": (WIDTH, HEADS, WIDTH // HEADS), "bias": (HEADS, WIDTH // HEADS)}
        attention = {
            f"_{name}_dense": dense(f"{scope}/attention/self/{name}", **split)
            for name in ("query", "key", "value")
        }
        output = dense(f"{scope}/attention/output/dense", (HEADS, WIDTH // HEADS, WIDTH))
        parts = {"_attention_output_dense": output} if numbered else {}
        if not numbered:
            attention["_output_dense"] = output
        return holder(
            _attention_layer=holder(**attention),
            _attention_layer_norm=norm(f"{scope}/attention/output/LayerNorm"),
            _intermediate_dense=dense(f"{scope}/intermediate/dense"),
            _output_dense=dense(f"{scope}/output/dense"),
            _output_layer_norm=norm(f"{scope}/output/LayerNorm"),
            **parts,
        )

    names = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    tables = [holder(embeddings=google[f"bert/embeddings/{name}"]) for name in names]
    layers = [layer(f"bert/encoder/layer_{number}") for number in range(LAYERS)]
    first, pooler = norm("bert/embeddings/LayerNorm"), dense("bert/pooler/dense")
    if numbered:
        parts = [*tables, first, *layers, pooler]
        return holder(**{f"layer_with_weights-{n}": part for n, part in enumerate(parts)})
    return holder(
        _embedding_layer=tables[0],
        _position_embedding_layer=tables[1],
        _type_embedding_layer=tables[2],
        _embedding_norm_layer=first,
        _transformer_layers=layers,
        _pooler_layer=pooler,
    )


def save_garden(folder: Path, name: str = "bert_model.ckpt", **items) -> Path:
    """Writes a folder as Model Garden does, with `tf.train.Checkpoint(**items).save`."""
    save_texts(folder)
    tf.train.Checkpoint(**(items or {"encoder": garden_encoder()})).save(str(folder / name))
    return folder
