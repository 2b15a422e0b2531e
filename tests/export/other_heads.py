"""Toy encoders with the heads that tasks may have: what formats must hold without naming a task."""

from __future__ import annotations

from pathlib import Path

import keras
import keras_hub
import numpy as np
import tensorflow as tf
import tokenizers
from tokenizers import processors

from kerasllm.data.tokenizers import Tokenizer, WordPiece, from_keras_hub
from kerasllm.export.source import Source
from kerasllm.models.encoder import save_task
from kerasllm.tasks.task import Head
from kerasllm.tasks.text_classification import TextClassification

WORDS = "the a film is was good bad it plot very and of end".split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
MAX_LENGTH = 12
TEXTS = [
    "the film is good",
    "bad",
    "",
    "the plot of the film is very bad and the end of it was very bad too",
    "it was the end of a good film and of a bad plot",
]
PAIRS = [
    ("the film", "it is good"),
    ("bad", ""),
    ("the plot of the film is very bad", "the end of it was good and the plot was a very bad one"),
    ("is it a good film", "the end of it was good and the plot was a very bad one"),
]
TOLERANCES = {(None, None): (1e-4, 1.0)}


class EncoderModel:
    """As much of a model as export reads."""

    pad_to = None

    def __init__(self, task: keras_hub.models.Task):
        self.task = task
        self.max_length = MAX_LENGTH
        self.tokenizer = from_keras_hub(task.preprocessor.tokenizer)
        if not hasattr(Tokenizer, "encode_pairs"):
            self.tokenizer = PairTokenizer(self.tokenizer)

    def save_to_preset(self, folder: str | Path) -> None:
        save_task(self.task, folder)


class PairTokenizer(WordPiece):
    """A tokenizer of pairs, by the reference."""

    def __init__(self, tokenizer: WordPiece):
        self.__dict__.update(tokenizer.__dict__)

    def encode_pairs(self, first, second, max_length, *, truncation="longest_first"):
        reference = tokenizers.Tokenizer.from_str(self.reference.to_str())
        reference.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        reference.enable_truncation(max_length, strategy=truncation)
        return _Encoding(reference.encode_batch(list(zip(first, second, strict=True))))


class _Encoding:
    def __init__(self, rows):
        self.ids = np.concatenate([row.ids for row in rows])
        self.segments = np.concatenate([row.type_ids for row in rows])
        self.offsets = np.cumsum([0, *(len(row.ids) for row in rows)])


class TokenTask(keras_hub.models.Task):
    """A head on every token."""

    def __init__(self, backbone, preprocessor, outputs):
        self.backbone, self.preprocessor, self.dropout = backbone, preprocessor, 0.0
        wide = keras.initializers.RandomNormal(stddev=1.0)
        dense = keras.layers.Dense(outputs, kernel_initializer=wide, name="logits")
        super().__init__(backbone.input, dense(backbone(backbone.input)["sequence_output"]))


class HeadTask(TextClassification):
    """A task that export has never heard of."""

    def __init__(self, head: Head):
        self._head = head

    def head(self, model) -> Head:
        return self._head


def encoder(outputs: int, per_token: bool = False) -> EncoderModel:
    """A BERT of one layer, with weights that tell texts apart."""
    keras.utils.set_random_seed(5)
    models = keras_hub.models
    backbone = models.BertBackbone(
        vocabulary_size=len(VOCABULARY),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
    )
    random = np.random.default_rng(5)
    for weight in backbone.weights:
        if len(weight.shape) > 1:
            weight.assign(random.normal(0, 0.6, weight.shape))
    tokenizer = models.BertTokenizer(vocabulary=VOCABULARY, lowercase=True)
    preprocessor = models.BertTextClassifierPreprocessor(tokenizer, sequence_length=MAX_LENGTH)
    if per_token:
        return EncoderModel(TokenTask(backbone, preprocessor, outputs))
    task = models.BertTextClassifier(backbone, outputs, preprocessor=preprocessor, dropout=0.0)
    task.output_dense.kernel.assign(random.normal(0, 1, task.output_dense.kernel.shape))
    return EncoderModel(task)


def source(head: Head, outputs: int, rows: list) -> Source:
    """What is exported, of a head."""
    model = encoder(outputs, head.per_token)
    return Source(HeadTask(head), model, "toy", MAX_LENGTH, rows)


def _within(one, other):
    close = np.abs(one - other) <= 1e-4
    return close.reshape(len(close), -1).all(-1)


def pair_head() -> Head:
    """Two texts, one of three labels."""
    return Head(
        kind="classifier of pairs",
        texts=("text", "text_pair"),
        outputs=lambda logits: {
            "label": tf.gather(tf.constant(["no", "maybe", "yes"]), tf.argmax(logits, -1)),
            "probabilities": tf.nn.softmax(logits),
        },
        compared="probabilities",
        compared_words="the probabilities of all labels",
        agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
        agreeing="labels",
        tolerances=TOLERANCES,
        architecture="ForSequenceClassification",
        pipeline="text-classification",
        config={
            "id2label": {"0": "no", "1": "maybe", "2": "yes"},
            "label2id": {"no": 0, "maybe": 1, "yes": 2},
            "problem_type": "single_label_classification",
        },
        facts={"labels": ["no", "maybe", "yes"]},
        example=(("the film", "it is good"), ("bad", "a film")),
        from_logits=(
            "chances = np.exp(logits)",
            'outputs = {"probabilities": chances / chances.sum(-1, keepdims=True)}',
        ),
        reading=(
            'for pair, row in zip(texts, outputs["probabilities"]):',
            "    print(row.argmax(), *pair)",
        ),
    )


def multi_label_head() -> Head:
    """One text, any of three labels."""
    return Head(
        kind="classifier with several labels",
        texts=("text",),
        outputs=lambda logits: {
            "probabilities": tf.sigmoid(logits),
            "predicted": tf.cast(tf.sigmoid(logits) >= [0.5, 0.4, 0.6], tf.int32),
        },
        compared="probabilities",
        compared_words="the probabilities of all labels",
        agrees=lambda one, other: np.all((one >= 0.5) == (other >= 0.5), axis=-1),
        agreeing="sets of labels",
        tolerances=TOLERANCES,
        architecture="ForSequenceClassification",
        pipeline="text-classification",
        config={
            "id2label": {"0": "x", "1": "y", "2": "z"},
            "label2id": {"x": 0, "y": 1, "z": 2},
            "problem_type": "multi_label_classification",
        },
        facts={"labels": ["x", "y", "z"], "thresholds": [0.5, 0.4, 0.6]},
        from_logits=('outputs = {"probabilities": 1 / (1 + np.exp(-logits))}',),
        reading=('print(outputs["probabilities"])',),
    )


def regression_head() -> Head:
    """One text, a number."""
    return Head(
        kind="estimator",
        texts=("text",),
        outputs=lambda logits: {"value": logits[:, 0]},
        compared="value",
        compared_words="the values",
        agrees=_within,
        agreeing="values",
        tolerances=TOLERANCES,
        architecture="ForSequenceClassification",
        pipeline="text-classification",
        config={"id2label": {"0": "stars"}, "label2id": {"stars": 0}, "problem_type": "regression"},
        facts={"unit": "stars"},
        described={"value": "the number of stars"},
        from_logits=('outputs = {"value": logits[:, 0]}',),
        reading=('print(outputs["value"])',),
    )


def token_head() -> Head:
    """One text, a label for each token."""
    return Head(
        kind="token classifier",
        texts=("text",),
        outputs=lambda logits: {"probabilities": tf.nn.softmax(logits)},
        compared="probabilities",
        compared_words="the probabilities of the labels of all tokens",
        agrees=lambda one, other: one.argmax(-1) == other.argmax(-1),
        agreeing="labels",
        tolerances=TOLERANCES,
        architecture="ForTokenClassification",
        pipeline="token-classification",
        config={"id2label": {"0": "O", "1": "B-X"}, "label2id": {"O": 0, "B-X": 1}},
        facts={"labels": ["O", "B-X"]},
        reading=('print(outputs["probabilities"])',),
        per_token=True,
    )
