"""A student: a classifier with fewer layers, initialized from its teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import keras_hub

from kerasllm.errors import RecipeError
from kerasllm.models.encoder import build_task
from kerasllm.models.layers import parts_of
from kerasllm.models.new_classifier import bert_classifier, set_max_length
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.models.token_head import TOKENS
from kerasllm.models.token_model import TokenModel


def student_of(
    teacher: TextClassifier | TokenModel,
    layers: int,
    *,
    start: str = "even",
    dropout: float = 0.1,
    precision: str = "float32",
) -> TextClassifier | TokenModel:
    """Builds a classifier of fewer layers from a trained one, with its weights and outputs.

    Args:
        teacher: A trained classifier.
        layers: How many transformer layers the student has.
        start: Which of the teacher's layers it begins as: `"even"`, spread evenly and the last
            among them; `"first"`, the lowest. Defaults to `"even"`.
        dropout: Rate of every dropout. Defaults to `0.1`.
        precision: A Keras dtype policy. Defaults to `"float32"`.

    Raises:
        RecipeError: If the teacher has no more layers than that, or shares weights between layers.

    Reference:
        [DistilBERT](https://arxiv.org/abs/1910.01108), which takes every second layer;
        [Patient knowledge distillation](https://arxiv.org/abs/1908.09355).
    """
    old = parts_of(teacher.task)
    depth = len(old.blocks)
    if layers >= depth:
        raise RecipeError(
            f"A student must have fewer layers than its teacher, which has {depth}. "
            f"Received: {layers}",
            where="student.layers",
            fix=f"give a number from 1 to {depth - 1}",
        )
    if len({id(layer) for block in old.blocks for layer in block}) < depth:
        raise RecipeError(
            f"The layers of a {type(teacher.task.backbone).__name__} share their weights, so fewer "
            "layers do not make the model smaller",
            where="student.layers",
            fix="name the preset of a smaller model in student.preset",
        )
    task = _same_kind(teacher.task, layers, dropout, precision)
    new = parts_of(task)
    chosen = even_layers(depth, layers) if start == "even" else range(layers)
    pairs = [
        (old.embeddings, new.embeddings),
        *((old.blocks[number], block) for number, block in zip(chosen, new.blocks, strict=True)),
        (old.pooler, new.pooler),
        (old.head, new.head),
    ]
    for sources, targets in pairs:
        for source, target in zip(sources, targets, strict=True):
            target.set_weights(source.get_weights())
    return teacher.student(task)


def student_from(
    preset: str,
    teacher: TextClassifier | TokenModel,
    *,
    dropout: float = 0.1,
    precision: str = "float32",
) -> TextClassifier | TokenModel:
    """Builds a classifier from a pretrained model that reads the tokens of the teacher.

    It has the pooling and the outputs of the teacher, and a new head.

    Raises:
        PresetError: If the preset cannot be found, read or used for classification.
        RecipeError: If its tokens are not the teacher's.
    """
    if isinstance(teacher, TokenModel):
        options = {"pooling": TOKENS, "dropout": dropout, "precision": precision}
        task = build_task(preset, teacher.task.num_outputs, **options)
        set_max_length(task, teacher.max_length)
        student = teacher.student(task)
    else:
        student = bert_classifier(
            preset,
            labels=teacher.labels,
            pooling=teacher.pooling,
            dropout=dropout,
            precision=precision,
            max_length=teacher.max_length,
            outputs=teacher.outputs,
        )
        student.standardized = teacher.standardized
    own, wanted = (model.task.preprocessor.tokenizer for model in (student, teacher))
    if (
        student.input_names != teacher.input_names
        or type(own) is not type(wanted)
        or own.get_vocabulary() != wanted.get_vocabulary()
    ):
        raise RecipeError(
            f"{preset} uses another tokenizer than the teacher, so it cannot learn from its "
            "outputs",
            where="student.preset",
            fix="name a model with the teacher's tokenizer, or set student.layers",
        )
    return student


def even_layers(depth: int, count: int) -> list[int]:
    """Returns `count` of the numbers from 0 to `depth - 1`, evenly spread, the last among them.

    Example:

    >>> even_layers(6, 3)
    [1, 3, 5]
    """
    return [(number + 1) * depth // count - 1 for number in range(count)]


def _same_kind(
    task: keras_hub.models.TextClassifier, layers: int, dropout: float, precision: str
) -> keras_hub.models.TextClassifier:
    """Builds a task like another one, with new weights and so many layers."""
    config = task.backbone.get_config()
    config |= {"num_layers": layers, "dropout": dropout, "dtype": precision}
    backbone = type(task.backbone).from_config(config)
    own = {name: value for name, value in task.get_config().items() if name not in _SHARED}
    return type(task)(
        **{**own, "dropout": dropout},
        backbone=backbone,
        preprocessor=task.preprocessor,
        compile=False,
    )


# What a task's configuration holds that is not an argument of its head.
_SHARED: Sequence[str] = ("backbone", "preprocessor", "name", "trainable", "dtype")
