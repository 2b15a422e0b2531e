"""Encoder-decoders, which read a text and write another: pretrained, or new."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import keras_hub
import numpy as np

from kerasllm.data.tokenizers import Tokenizer, TokenizerJson, check_fits, from_folder
from kerasllm.data.tokenizers.from_folder import PRESET_SUBFOLDER
from kerasllm.data.tokenizers.joint import END, PAD, START, train_tokenizer
from kerasllm.errors import PresetError
from kerasllm.models import encoder_decoders, huggingface, presets
from kerasllm.models.encoder import reading
from kerasllm.models.encoder_decoder_backbone import EncoderDecoderBackbone
from kerasllm.models.encoder_decoders.frame import Frame
from kerasllm.models.encoder_decoders.keras_hub_fixes import fix_backbone, quiet_masks
from kerasllm.models.encoder_decoders.keras_hub_presets import read_preset_text_side, save_preset
from kerasllm.models.encoder_decoders.saved import read_facts, write_facts
from kerasllm.models.finite import check_finite
from kerasllm.models.quantized_presets import load_preset
from kerasllm.models.skip_initialization import skip_initialization

__all__ = [
    "EncoderDecoder",
    "Frame",
    "new_encoder_decoder",
    "open_encoder_decoder",
    "save_encoder_decoder",
    "train_tokenizer",
]

# A length that no text has.
_ENDLESS = 1 << 30


@dataclass(eq=False)
class EncoderDecoder:
    """A model that reads a source text and writes a target, with all that its weights do not hold.

    Attributes:
        backbone: A KerasHub backbone, or an `EncoderDecoderBackbone`. Its inputs are int32
            `[rows, length]`: `encoder_token_ids`, `encoder_padding_mask`, `decoder_token_ids`
            and `decoder_padding_mask`; its outputs `encoder_sequence_output` and
            `decoder_sequence_output`, `[rows, length, width]`. `None` of a text side alone.
        tokenizer: The tokenizer of sources and targets.
        start_token_id: What the decoder reads first.
        end_token_id: What ends a target.
        pad_token_id: What pads the rows of a batch.
        source_frame: The special tokens around a source.
        target_frame: The special tokens around a target, without `start_token_id`.
        forced_first_token_id: The first token of every generated text, as BART's `<s>`. Defaults to
            `None`: none is forced.
        prefixes: What the model was told before a source, by the name of the task
            (`"summarization": "summarize: "`). Defaults to none.
        generation: What the model's `generation_config.json` recommends: `num_beams`,
            `length_penalty`... Defaults to nothing.
        max_source_length: The maximum number of tokens of a source. Defaults to `None`: no limit.
        max_target_length: The maximum number of tokens of a target. Defaults to `None`: no limit.
        hidden_scale: What hidden states are multiplied by before the output layer. Defaults to
            `1.0`.
        logits_soft_cap: What logits cannot exceed. Defaults to `None`.
        final_logits_bias: What is added to the logits, float32 `[vocabulary]`. Defaults to `None`.
        name: The `model_type` that Hugging Face has for it, if it came from there. Defaults to
            `None`.
    """

    backbone: keras_hub.models.Backbone | None
    tokenizer: Tokenizer
    start_token_id: int
    end_token_id: int
    pad_token_id: int
    source_frame: Frame
    target_frame: Frame
    forced_first_token_id: int | None = None
    prefixes: dict[str, str] = field(default_factory=dict)
    generation: dict = field(default_factory=dict)
    max_source_length: int | None = None
    max_target_length: int | None = None
    hidden_scale: float = 1.0
    logits_soft_cap: float | None = None
    final_logits_bias: np.ndarray | None = None
    name: str | None = None

    @property
    def output_embedding(self) -> keras.Layer:
        """The layer that makes logits, which may be tied to the embeddings."""
        decoder_own = getattr(self.backbone, "decoder_token_embedding", None)
        return self.backbone.token_embedding if decoder_own is None else decoder_own

    @property
    def vocabulary_size(self) -> int:
        """The number of logits of a token."""
        return self.backbone.vocabulary_size

    def logits(self, hidden):
        """Returns the logits of hidden states of the decoder.

        Args:
            hidden: `[..., width]`, as `decoder_sequence_output`.

        Returns:
            `[..., vocabulary]`.
        """
        if self.hidden_scale != 1.0:
            hidden = hidden * keras.ops.cast(self.hidden_scale, hidden.dtype)
        logits = self.output_embedding(hidden, reverse=True)
        if self.logits_soft_cap is not None:
            cap = keras.ops.cast(self.logits_soft_cap, logits.dtype)
            logits = keras.ops.tanh(logits / cap) * cap
        if self.final_logits_bias is not None:
            logits = logits + keras.ops.cast(self.final_logits_bias, logits.dtype)
        return logits

    def encode_source(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of source texts, with the special tokens of the family, uncut."""
        return self._encode(texts, self.source_frame)

    def encode_target(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of target texts, uncut: they end with `end_token_id`.

        The decoder reads `start_token_id` and all but the last of them, and learns all of them.
        """
        return self._encode(texts, self.target_frame)

    def _encode(self, texts: Sequence[str], frame: Frame) -> list[list[int]]:
        ids, offsets = self.tokenizer.encode(texts, _ENDLESS)
        before, after = list(frame.before), list(frame.after)
        return [
            before + ids[start:end].tolist() + after for start, end in itertools.pairwise(offsets)
        ]


def open_encoder_decoder(
    preset: str | Path,
    *,
    precision: str = "float32",
    dropout: float = 0.0,
    notify: Callable[[str], None] | None = None,
    weights: bool = True,
) -> EncoderDecoder:
    """Loads an encoder-decoder with its tokenizer.

    Args:
        preset: A name of `kerasllm presets list`, a KerasHub preset, `hf://owner/name`, a folder in
            Hugging Face's or KerasHub's layout, or a run directory.
        precision: A Keras dtype policy. Defaults to `"float32"`.
        dropout: Rate of every dropout. Defaults to `0.0`.
        notify: Called with a line of text before something slow. Defaults to `None`.
        weights: Whether to load the backbone; without, it is `None`, and texts become ids all the
            same. Defaults to `True`.

    Raises:
        PresetError: If the preset cannot be found, read or used.

    Example:

    ```python
    model = open_encoder_decoder("hf://google-t5/t5-small")
    ```
    """
    place = presets.resolve(preset, notify)
    with reading(preset, "an encoder-decoder"):
        if encoder_decoders.is_encoder_decoder_folder(place):
            model = _open_huggingface(Path(place), precision, dropout, weights)
        else:
            model = _open_keras_hub(place, precision, dropout, weights, preset)
    if weights:
        check_finite(model.backbone, preset)
        if isinstance(model.tokenizer, TokenizerJson):
            check_fits(model.tokenizer, model.backbone.vocabulary_size)
    return model


def _open_huggingface(
    folder: Path, precision: str, dropout: float, weights: bool
) -> EncoderDecoder:
    loaded = encoder_decoders.read_folder(folder)
    tokenizer, facts = encoder_decoders.read_text_side(folder, loaded.config)
    if weights:
        loaded = encoder_decoders.load_backbone(folder, dropout=dropout, dtype=precision)
    return EncoderDecoder(
        backbone=loaded.backbone,
        tokenizer=tokenizer,
        name=loaded.family.model_type,
        **{**facts, **loaded.facts},
    )


def _open_keras_hub(
    place: Path | str, precision: str, dropout: float, weights: bool, preset: str | Path
) -> EncoderDecoder:
    facts = read_facts(place)
    if facts is not None:
        backbone = _load_preset(place, precision, dropout) if weights else None
        return EncoderDecoder(backbone, from_folder(place, add_start=False), **facts)
    kinds = keras_hub.models.BartBackbone, keras_hub.models.T5Backbone
    if isinstance(place, Path):
        name = huggingface.read_config(place / huggingface.CONFIG).get("class_name")
        known = name in {kind.__name__ for kind in kinds}
    else:
        known = "://" in place or any(place in kind.presets for kind in kinds)
    if not known:
        what = f"{preset} is not an encoder-decoder that kerasllm reads"
        if huggingface.is_huggingface(place):
            config = huggingface.read_config(Path(place) / huggingface.CONFIG)
            what += f": its model_type is {config['model_type']!r}"
        raise PresetError(
            what,
            where=str(place),
            fix=f"use a folder of one of these: {', '.join(sorted(encoder_decoders.FAMILIES))}; "
            "a KerasHub preset of BART or T5, or a run of kerasllm",
        )
    backbone = _load_preset(place, precision, dropout)
    tokenizer, facts = read_preset_text_side(place, backbone)
    return EncoderDecoder(backbone if weights else None, tokenizer, **facts)


def _load_preset(place: Path | str, precision: str, dropout: float) -> keras_hub.models.Backbone:
    rates = {"dropout": dropout}
    if isinstance(place, Path) and "dropout_rate" in _arguments(place):
        rates = {"dropout_rate": dropout, "attention_dropout": dropout}
    with skip_initialization(), quiet_masks():
        return fix_backbone(
            load_preset(keras_hub.models.Backbone.from_preset, place, precision, **rates)
        )


def _arguments(folder: Path) -> dict:
    """Returns the arguments of a saved backbone."""
    return huggingface.read_config(folder / huggingface.CONFIG).get("config", {})


def new_encoder_decoder(
    tokenizer: TokenizerJson,
    *,
    layers: int = 3,
    width: int = 256,
    heads: int = 4,
    feedforward: int = 1024,
    dropout: float = 0.1,
    max_length: int = 512,
    precision: str = "float32",
    seed: int | None = None,
) -> EncoderDecoder:
    """Builds a new encoder-decoder, with random weights.

    It is mBART's kind (pre-norm, tied embeddings) with sinusoids for positions.

    Args:
        tokenizer: One that `train_tokenizer` made, or another with `<s>`, `</s>` and `<pad>`.
        layers: Transformer layers of the encoder, and of the decoder. Defaults to `3`.
        width: The width of the hidden states, a multiple of `heads`. Defaults to `256`.
        heads: Attention heads of each layer. Defaults to `4`.
        feedforward: The width within a layer's feed-forward part. Defaults to `1024`.
        dropout: Rate of every dropout. Defaults to `0.1`.
        max_length: The maximum number of tokens of a source, and of a target. Defaults to `512`.
        precision: A Keras dtype policy. Defaults to `"float32"`.
        seed: Of the weights. Defaults to `None`: Keras' own.

    Raises:
        ValueError: If `heads` does not divide `width`.
        PresetError: If the tokenizer lacks a special token.

    Example:

    ```python
    model = new_encoder_decoder(train_tokenizer(texts, 8000), layers=3, width=256)
    ```
    """
    if width % heads:
        raise ValueError(
            f"`width` must be a multiple of `heads`. Received: width={width}, heads={heads}"
        )
    start, end, pad = (_id(tokenizer, token) for token in (START, END, PAD))
    with skip_initialization():
        backbone = EncoderDecoderBackbone(
            vocabulary_size=tokenizer.vocabulary_size,
            num_encoder_layers=layers,
            num_decoder_layers=layers,
            num_heads=heads,
            hidden_dim=width,
            intermediate_dim=feedforward,
            dropout=dropout,
            max_sequence_length=max_length,
            dtype=precision,
        )
    _draw_weights(backbone, seed)
    return EncoderDecoder(
        backbone=backbone,
        tokenizer=tokenizer,
        start_token_id=start,
        end_token_id=end,
        pad_token_id=pad,
        source_frame=Frame(after=(end,)),
        target_frame=Frame(after=(end,)),
        max_source_length=max_length,
        max_target_length=max_length,
    )


def save_encoder_decoder(model: EncoderDecoder, folder: str | Path) -> None:
    """Writes a model so that `open_encoder_decoder` reads it, and `keras_hub` by itself.

    KerasHub has a class for BART, T5 and T5Gemma, which generates; of `EncoderDecoderBackbone` it
    loads the backbone, once `kerasllm.models.encoder_decoder_backbone` is imported.

    Args:
        model: The model, without adapters.
        folder: The folder; is made.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_preset(model, folder)
    text_side = folder / PRESET_SUBFOLDER
    text_side.mkdir(exist_ok=True)
    model.tokenizer.save(text_side)
    write_facts(model, folder)


def _id(tokenizer: TokenizerJson, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise PresetError(
            f"The tokenizer has no {token}, which an encoder-decoder needs",
            fix="train one with `train_tokenizer`",
        )
    return found


def _draw_weights(backbone: EncoderDecoderBackbone, seed: int | None) -> None:
    """Draws a new model's weights as the Transformer's were drawn.

    Keras takes the heads of an attention for the extent of a kernel, and draws it far too small.
    """
    draws = np.random.SeedSequence(seed).generate_state(len(backbone.weights) + 1)
    for number, weight in enumerate(backbone.weights):
        own_seed = None if seed is None else int(draws[number])
        if weight is backbone.token_embedding.embeddings:
            drawn = keras.initializers.RandomNormal(
                stddev=backbone.hidden_dim**-0.5, seed=own_seed
            )(weight.shape)
        elif weight.name == "kernel":
            size, width = int(np.prod(weight.shape)), backbone.hidden_dim
            drawn = keras.initializers.GlorotUniform(seed=own_seed)((width, size // width))
            drawn = keras.ops.reshape(drawn, weight.shape)
        else:
            continue
        weight.assign(drawn)
