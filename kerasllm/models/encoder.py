"""Text classifiers from a pretrained encoder: BERT and every family that KerasHub classifies with.

With the pooling `"cls"` the task that comes out is KerasHub's own, saved by `save_task` as a preset
that `keras_hub` loads by itself; with `"mean"` it is a `PooledTextClassifier`, whose backbone and
tokenizer `keras_hub` loads. What kerasllm adds is what its recipes promise: one dropout everywhere,
frozen layers, LoRA with all other weights frozen, and weights that are known to be read as they
were written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType

import keras
import keras_hub

from kerasllm.data.tokenizers import Tokenizer, from_keras_hub
from kerasllm.errors import KerasllmError, OfflineError, PresetError, RecipeError
from kerasllm.json_files import read_json_file
from kerasllm.models import huggingface, presets, tensorflow_checkpoints
from kerasllm.models.adapters.encoder_lora import add_lora
from kerasllm.models.finite import check_finite
from kerasllm.models.heads import (
    HEAD_FACTS,
    HEAD_WEIGHTS,
    POOLINGS,
    PooledTextClassifier,
    load_pooled,
)
from kerasllm.models.huggingface.heads import (
    OF_SPANS,
    assign_head,
    dropouts,
    has_head,
    label_names,
    longest_text,
    read_token_head,
    tag_names,
)
from kerasllm.models.layers import layer_depths, parts_of, trainable_share, walk
from kerasllm.models.pretraining import Pretraining
from kerasllm.models.quantized_presets import load_preset
from kerasllm.models.skip_initialization import skip_initialization
from kerasllm.models.token_head import TOKENS, TokenHead, has_token_head, read_head
from kerasllm.models.token_head import assign_head as assign_token_head

__all__ = [
    "build_task",
    "is_trained",
    "layer_depths",
    "load_task",
    "load_tokenizer",
    "save_task",
    "trainable_share",
]


def build_task(
    preset: str | Path,
    num_classes: int,
    *,
    pooling: str = "cls",
    dropout: float = 0.1,
    head_dropout: float | None = None,
    freeze: int | str = 0,
    lora: Mapping | None = None,
    precision: str = "float32",
    load_weights: bool = True,
    tokenizer: Tokenizer | None = None,
) -> keras_hub.models.TextClassifier:
    """Builds a classifier with a pretrained backbone and a new head.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes: a name, a handle or a folder.
        num_classes: Number of outputs: 1 for a regression, else the number of classes.
        pooling: What the head reads: `"cls"`, the first token, as KerasHub's own classifiers do;
            `"mean"`, the mean over all real tokens (see `PooledTextClassifier`); `"tokens"`, every
            token (see `TokenHead`). Defaults to `"cls"`.
        dropout: Rate of every dropout of the backbone. Defaults to `0.1`.
        head_dropout: Rate of the dropouts of the head. Defaults to `None`: as `dropout`.
        freeze: The embeddings and this many of the lowest transformer layers do not train;
            `"backbone"`: only the head trains. Defaults to `0`: everything trains.
        lora: `rank`, `alpha` and `targets` of low-rank adapters (see `add_lora`); the rest of the
            backbone does not train. Defaults to `None`: no adapters.
        precision: A Keras dtype policy. Defaults to `"float32"`.
        load_weights: Whether the backbone has its pretrained weights, and not random ones. Defaults
            to `True`.
        tokenizer: What `load_tokenizer` gave for this preset, so that its vocabulary is not read
            twice. Defaults to `None`: it is read.

    Returns:
        A KerasHub task that maps token ids to logits of shape `[batch, num_classes]`, or `[batch,
        length, num_classes]` of a head on every token. It is not compiled.

    Raises:
        PresetError: The preset cannot be found, read or used for classification.
        RecipeError: `pooling`, `freeze` or `lora` does not fit the model.

    Example:

    ```python
    task = build_task("minilm_l6_en_uncased", num_classes=2, freeze=2)
    ```
    """
    if num_classes < 1:
        raise RecipeError(f"a classifier needs at least 1 output, got {num_classes}")
    if pooling not in (*POOLINGS, TOKENS):
        raise RecipeError(
            f"pooling is {pooling!r}",
            where="model.pooling",
            fix=f"give one of {', '.join(POOLINGS)}",
        )
    head_dropout = dropout if head_dropout is None else head_dropout
    folder = presets.resolve(preset)
    with reading(preset):
        loaded = _load(folder, dropout, precision, getattr(tokenizer, "of_keras_hub", None))
    if not load_weights:
        backbone = loaded.backbone
        loaded.backbone = type(backbone).from_config(backbone.get_config())
        loaded.fresh_pooler = True
    else:
        check_finite(loaded.backbone, preset)
    if pooling in ("mean", TOKENS):
        # It reads no pooler: a new one has nothing to learn.
        loaded.fresh_pooler = False
    task = _add_head(loaded, num_classes, head_dropout, preset, pooling)
    _check_dropouts(task, dropout, head_dropout)
    _freeze(task, freeze, fresh_pooler=loaded.fresh_pooler)
    if lora is not None:
        add_lora(task, frozen_layers=freeze, fresh_pooler=loaded.fresh_pooler, **lora)
    return task


def load_token_task(folder: str | Path, precision: str | None = None) -> TokenHead:
    """Loads an encoder that was saved with a head on every token.

    Args:
        folder: A folder that `save_task` wrote, or one in Hugging Face's layout with a head for
            the classification of tokens, or for spans that answer questions.
        precision: A Keras dtype policy. Defaults to `None`: `"float32"`.

    Raises:
        PresetError: The folder has no such head, or cannot be read.
    """
    folder = Path(folder)
    if huggingface.is_huggingface(folder):
        return _token_task_of_huggingface(folder, precision or "float32")
    facts, tensors = read_head(folder)
    with reading(folder, "an encoder with a head on every token"):
        backbone = load_preset(
            keras_hub.models.Backbone.from_preset, folder, precision or "float32"
        )
        preprocessor = keras_hub.models.TextClassifierPreprocessor.from_preset(str(folder))
        task = TokenHead(
            backbone, facts["outputs"], preprocessor, dropout=facts["dropout"], compile=False
        )
        assign_token_head(task, tensors)
    check_finite(task, folder)
    return task


def load_task(folder: str | Path, precision: str | None = None) -> keras_hub.models.TextClassifier:
    """Loads a classifier that was saved with its head, such as the `model` of a run directory.

    Args:
        folder: A folder that `save_task` wrote, a KerasHub preset folder with `task.json`, or a
            folder in Hugging Face's layout with a head for the classification of texts, such as
            `kerasllm export` writes.
        precision: A Keras dtype policy. Defaults to `None`: `"float32"`.

    Raises:
        PresetError: The folder is not a saved classifier, or cannot be read.
    """
    task = _load_task(Path(folder), precision)
    check_finite(task, folder)
    return task


def _load_task(folder: Path, precision: str | None) -> keras_hub.models.TextClassifier:
    if huggingface.is_huggingface(folder):
        return _load_with_head(folder, precision or "float32")
    if has_token_head(folder):
        raise PresetError(
            f"{folder} is not a text classifier: its head has outputs for every token",
            fix="train a classifier on its encoder: --set model.preset=FOLDER",
        )
    if (folder / HEAD_FACTS).is_file():
        return _load_pooled(folder, precision or "float32")
    if not (folder / "task.json").is_file():
        raise PresetError(
            f"{folder} is not a trained classifier: it has no task.json or {HEAD_FACTS}",
            fix="give the `model` folder of a finished run",
        )
    with reading(folder):
        # Without a dtype, KerasHub cannot read a preset that was saved under a mixed policy.
        return load_preset(
            keras_hub.models.TextClassifier.from_preset,
            folder,
            precision or "float32",
            compile=False,
        )


def is_trained(folder: str | Path) -> bool:
    """Tells whether a folder holds a classifier with its head, for `load_task`."""
    folder = Path(folder)
    if has_token_head(folder):
        return False
    if (folder / HEAD_FACTS).is_file():
        return True
    if (folder / "task.json").is_file():
        # KerasHub writes the class of any task; `load_task` says what is wrong with a file.
        with suppress(OSError, ValueError, AttributeError):
            task = read_json_file(folder / "task.json").get("registered_name")
            return "MaskedLM" not in str(task)
        return True
    return huggingface.is_huggingface(folder) and has_head(folder)


def save_task(task: keras_hub.models.TextClassifier, folder: str | Path) -> None:
    """Saves a classifier as a KerasHub preset, with its adapters merged into the weights.

    The preset asks for float32: it is loaded by `keras_hub` alone on any device, and KerasHub
    0.32 cannot load a mixed policy by itself. Of a `PooledTextClassifier` it is the backbone, the
    tokenizer and the preprocessor that `keras_hub` loads; the head is in `head.safetensors` and
    `head.json`.

    Args:
        task: A KerasHub `TextClassifier`, with its preprocessor.
        folder: Where to write it; is made. The head of another classifier there is removed.
    """
    folder = Path(folder)
    for name in (*_TASK_FILES, HEAD_FACTS, HEAD_WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    task.save_to_preset(str(folder))
    for file in filter(Path.is_file, (folder / "config.json", folder / "task.json")):
        text = file.read_text(encoding="utf-8")
        plain = re.sub(r'("name": )"(mixed_)?(bfloat16|float16)"', r'\1"float32"', text)
        file.write_text(plain, encoding="utf-8")


_TASK_FILES = ("task.json", "task.weights.h5")


def load_tokenizer(preset: str | Path, progress: presets.Progress | None = None) -> Tokenizer:
    """Loads the tokenizer of a preset, without its weights.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.
        progress: Called with a line of text before something slow. Defaults to `None`.

    Raises:
        PresetError: The preset cannot be found, read or used for classification.
    """
    folder = presets.resolve(preset, progress)
    with reading(preset):
        if layout := _layout_of(folder):
            tokenizer = layout.load_tokenizer(Path(folder))
            if progress and layout is tensorflow_checkpoints:
                case = "in lower case" if tokenizer.lowercase else "with their case"
                progress(f"{folder}: a TensorFlow checkpoint; texts are read {case}")
        else:
            tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(folder))
            if not isinstance(folder, Path):
                strip_accents_as_the_reference(tokenizer)
        loaded = from_keras_hub(tokenizer)
        # For `build_task`: Keras takes half a second over each vocabulary of 30,000 tokens.
        loaded.of_keras_hub = tokenizer
        return loaded


def strip_accents_as_the_reference(tokenizer: keras_hub.tokenizers.Tokenizer) -> None:
    """Makes an uncased BERT tokenizer strip accents, as the models were pretrained with.

    The presets that KerasHub hosts leave it off; the reference strips accents wherever it
    lower-cases. What a folder on this disk says is left as it is.

    Args:
        tokenizer: Any KerasHub tokenizer; changed in place if it is WordPiece.
    """
    if isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer):
        tokenizer.strip_accents = tokenizer.lowercase


class _Loaded:
    """A backbone with its preprocessor, and whether its pooler is new rather than read."""

    def __init__(self, backbone, preprocessor, fresh_pooler=False):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.fresh_pooler = fresh_pooler


def _layout_of(folder: str | Path) -> ModuleType | None:
    """Returns what reads a folder that KerasHub alone would not read, or not read right."""
    if huggingface.is_huggingface(folder):
        return huggingface
    return tensorflow_checkpoints if tensorflow_checkpoints.found_in(folder) else None


def _load(
    folder: str | Path,
    dropout: float,
    precision: str,
    tokenizer: keras_hub.tokenizers.Tokenizer | None = None,
) -> _Loaded:
    options = {"dropout": dropout, "dtype": precision}
    layout = _layout_of(folder)
    if layout is None:
        with skip_initialization():
            backbone = keras_hub.models.Backbone.from_preset(str(folder), **options)
        preprocessor = keras_hub.models.TextClassifierPreprocessor.from_preset(str(folder))
        if not isinstance(folder, Path):
            strip_accents_as_the_reference(preprocessor.tokenizer)
        longest = getattr(backbone, "max_sequence_length", None) or preprocessor.sequence_length
        preprocessor.sequence_length = min(preprocessor.sequence_length, longest)
        fresh_pooler = not Pretraining.load(folder).trained_pooler
        return _Loaded(backbone, preprocessor, fresh_pooler)
    with layout.staged(Path(folder), tokenizer) as stage:
        # A pooler that the files do not hold is drawn.
        with nullcontext() if stage.fresh_pooler else skip_initialization():
            backbone = keras_hub.models.Backbone.from_preset(
                str(stage.folder), **options, **stage.backbone_options
            )
        preprocessor = keras_hub.models.TextClassifierPreprocessor.from_preset(
            str(stage.folder), tokenizer=stage.tokenizer
        )
    preprocessor.sequence_length = min(preprocessor.sequence_length, backbone.max_sequence_length)
    return _Loaded(backbone, preprocessor, stage.fresh_pooler)


def _load_with_head(folder: Path, precision: str) -> keras_hub.models.TextClassifier:
    config = huggingface.read_config(folder / huggingface.CONFIG)
    names = label_names(config, str(folder / huggingface.CONFIG))
    dropout, head_dropout = dropouts(config)
    with reading(folder):
        loaded = _load(folder, dropout, precision)
        task = _add_head(loaded, len(names), head_dropout, folder)
        assign_head(task, folder)
    if loaded.fresh_pooler:
        raise PresetError(
            "the tensors of the pooler are missing, which the classifier needs",
            where=str(folder),
            fix="use a folder that holds the whole classifier",
        )
    longest = longest_text(folder)
    if longest is not None:
        task.preprocessor.sequence_length = min(longest, task.preprocessor.sequence_length)
    return task


def _token_task_of_huggingface(folder: Path, precision: str) -> TokenHead:
    config = huggingface.read_config(folder / huggingface.CONFIG)
    outputs = 2
    if not has_head(folder, OF_SPANS):
        outputs = len(tag_names(config, str(folder / huggingface.CONFIG)))
    dropout, head_dropout = dropouts(config)
    with reading(folder, "an encoder with a head on every token"):
        loaded = _load(folder, dropout, precision)
        task = _add_head(loaded, outputs, head_dropout, folder, TOKENS)
        assign_token_head(task, read_token_head(folder))
    check_finite(task, folder)
    longest = longest_text(folder)
    if longest is not None:
        task.preprocessor.sequence_length = min(longest, task.preprocessor.sequence_length)
    return task


def _load_pooled(folder: Path, precision: str) -> PooledTextClassifier:
    with reading(folder):
        backbone = load_preset(keras_hub.models.Backbone.from_preset, folder, precision)
        preprocessor = keras_hub.models.TextClassifierPreprocessor.from_preset(str(folder))
        return load_pooled(folder, backbone, preprocessor)


def _add_head(
    loaded: _Loaded, num_classes: int, rate: float, preset: str | Path, pooling: str = "cls"
) -> keras_hub.models.TextClassifier:
    backbone = loaded.backbone
    if pooling == TOKENS:
        return TokenHead(backbone, num_classes, loaded.preprocessor, dropout=rate, compile=False)
    if pooling == "mean":
        return PooledTextClassifier(
            backbone, num_classes, loaded.preprocessor, dropout=rate, compile=False
        )
    classifiers = {
        found.backbone_cls: found
        for found in vars(keras_hub.models).values()
        if isinstance(found, type) and issubclass(found, keras_hub.models.TextClassifier)
    }
    if type(backbone) not in classifiers:
        known = sorted(found.__name__ for found in classifiers.values() if found.backbone_cls)
        raise PresetError(
            f"{preset} is a {type(backbone).__name__}, for which KerasHub has no text classifier",
            fix=f"use a preset of one of these: {', '.join(known)}",
        )
    # DeBERTa's head takes the rate of its last dropout from this attribute of the backbone.
    kept, backbone.dropout = backbone.dropout, rate
    task = classifiers[type(backbone)](
        backbone=backbone,
        preprocessor=loaded.preprocessor,
        num_classes=num_classes,
        dropout=rate,
        compile=False,
    )
    backbone.dropout = kept
    return task


def _check_dropouts(task: keras.Model, dropout: float, head_dropout: float) -> None:
    parts = parts_of(task)
    for layers, rate in (([task.backbone], dropout), (parts.head, head_dropout)):
        for layer in walk(layers):
            if isinstance(layer, keras.layers.Dropout) and layer.rate != rate:
                raise PresetError(
                    f"{type(task).__name__} keeps a dropout of {layer.rate} in {layer.name}, but "
                    f"{rate} was requested",
                    fix="use a preset of another family, or ask for that rate",
                )


def _freeze(task: keras.Model, freeze: int | str, *, fresh_pooler: bool) -> None:
    parts = parts_of(task)
    depth = len(parts.blocks)
    if freeze == "backbone":
        # A pooler that was not in the file is as new as the head: it has to be learned with it.
        pooler = () if fresh_pooler else parts.pooler
        _freeze_layers(parts.embeddings + sum(parts.blocks, ()) + pooler)
        return
    if freeze > depth:
        raise RecipeError(
            f"freeze is {freeze}, but the model has {depth} transformer layers",
            where="model.freeze",
            fix=f'give a number from 0 to {depth}, or "backbone"',
        )
    frozen = sum(parts.blocks[:freeze], ())
    shared = {id(layer) for layer in sum(parts.blocks[freeze:], ())}
    if any(id(layer) in shared for layer in frozen):
        whole = [
            n
            for n in range(depth + 1)
            if not {id(x) for x in sum(parts.blocks[:n], ())}
            & {id(x) for x in sum(parts.blocks[n:], ())}
        ]
        raise RecipeError(
            f"freeze is {freeze}, but layer {freeze} shares its weights with layer {freeze + 1}",
            where="model.freeze",
            fix=f'give one of {", ".join(map(str, whole))}, or "backbone"',
        )
    if freeze:
        _freeze_layers(parts.embeddings + frozen)


def _freeze_layers(layers: tuple[keras.Layer, ...]) -> None:
    # The layers, not the backbone: a backbone writes its own `trainable` into what it saves.
    for layer in layers:
        layer.trainable = False


@contextmanager
def reading(preset: str | Path, kind: str = "a text classifier"):
    """Turns the errors of KerasHub, Keras and h5py about unreadable files into one kind of
    error."""
    try:
        yield
    except KerasllmError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and "Max retries exceeded" in str(error):
            raise OfflineError(
                f"{preset} has to be downloaded, but the network cannot be reached",
                fix=OfflineError.FIX,
            ) from error
        if isinstance(error, ValueError) and "safe_mode" in str(error):
            raise PresetError(
                f"{preset} contains code (a Lambda layer), and kerasllm runs no code from a model",
                fix="get the model from its original source; this one may have been tampered with",
            ) from error
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PresetError(
            f"{preset} cannot be loaded as {kind}: {first_line}",
            fix="check the name and the files; `--debug` shows the whole error",
        ) from error
