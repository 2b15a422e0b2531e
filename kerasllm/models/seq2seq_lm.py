"""An encoder-decoder that is trained with `fit` on sources and targets, and generates targets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_hub
import numpy as np
from keras import ops

from kerasllm.data.dataset import Dataset
from kerasllm.data.readers.seq2seq_source import open_source
from kerasllm.data.seq2seq_rows import (
    COUNTED,
    INPUTS,
    TARGETS,
    Seq2SeqRows,
    cut_to,
    open_rows,
)
from kerasllm.data.texts import checked_texts
from kerasllm.environment import store_dir
from kerasllm.errors import DataError
from kerasllm.models.adapters.low_rank import is_frozen
from kerasllm.models.arguments import as_arguments, check_freeze, check_lora, check_precision
from kerasllm.models.causal_lm import TokenAccuracy
from kerasllm.models.encoder_decoder import EncoderDecoder, open_encoder_decoder
from kerasllm.models.encoder_decoder import save_encoder_decoder as save_parts
from kerasllm.models.layers import walk
from kerasllm.models.seq2seq_text_side import FACTS_FILE, Seq2SeqTextSide, read_facts
from kerasllm.models.text_model import TextModel, as_texts, check_inputs
from kerasllm.runtime.startup import prepare_process
from kerasllm.training.chunked_loss import chunked_loss, chunked_scores, tokens_at_once
from kerasllm.training.compiling import on_logits
from kerasllm.training.precision import resolve_policy

if TYPE_CHECKING:
    from kerasllm.data.tokenizers import Tokenizer

_USUAL = 512
_FACTS = ("prefix", "max_length", "max_target_length")


class Seq2SeqLM(TextModel):
    """An encoder-decoder with its tokenizer: translates, summarizes, rewrites.

    `fit` and `evaluate` take raw sources and targets; `generate` generates targets.

    Trains on `(x, y, sample_weight)`: `x` holds `encoder_token_ids`, `encoder_padding_mask`,
    `decoder_token_ids` and `decoder_padding_mask`; `y` is the target, shifted to the next token
    (teacher forcing). The logits of all tokens are never in memory at once.

    Args:
        parts: The backbone with its tokenizer and its special tokens.
        prefix: Prefix of each source, as T5 was trained with. Defaults to nothing.
        max_length: Maximum tokens of a source, special tokens included. Defaults to `None`: the
            model's limit, at most 512.
        max_target_length: Maximum tokens of a target. Defaults to `None`: as `max_length`.
        loss_tokens: The number of tokens whose logits are in memory at once. Defaults to `None`:
            about 128 MB of them.

    Attributes:
        parts: As given.
        prefix: As given.
        max_length: As given; may be set.
        max_target_length: As given; may be set.
        loss_tokens: As given; may be set before `compile`.

    Example:

    ```python
    model = kerasllm.Seq2SeqLM.from_preset("bart_base_en")
    model.compile()
    model.fit(articles, summaries, epochs=3)
    model.generate(["A long article..."])
    ```
    """

    learning_rate = 5e-5
    # Products with the vocabulary want all cores for one operation.
    sliced = False

    def __init__(
        self,
        parts: EncoderDecoder,
        *,
        prefix: str = "",
        max_length: int | None = None,
        max_target_length: int | None = None,
        loss_tokens: int | None = None,
        **kwargs,
    ):
        super().__init__(_task_of(parts.backbone), dtype=parts.backbone.dtype_policy, **kwargs)
        self.parts = parts
        self.prefix = prefix
        self.max_length = max_length or min(parts.max_source_length or _USUAL, _USUAL)
        self.max_target_length = max_target_length or min(parts.max_target_length or _USUAL, _USUAL)
        self.loss_tokens = loss_tokens or tokens_at_once(self.backbone.vocabulary_size)

    @classmethod
    def from_preset(
        cls,
        preset: str | Path,
        *,
        precision: str | None = None,
        dropout: float = 0.1,
        freeze: int | str = 0,
        lora: Mapping | None = None,
        prefix: str = "auto",
        max_length: int | None = None,
        max_target_length: int | None = None,
    ) -> Seq2SeqLM:
        """Loads a pretrained encoder-decoder.

        Args:
            preset: A KerasHub preset, `hf://owner/name`, a folder in Hugging Face's or KerasHub's
                layout, a run directory, or its `model`.
            precision: A Keras dtype policy. Defaults to `None`: Keras' global one if it was set,
                else the fastest on this machine that keeps weights in float32.
            dropout: Rate of every dropout. Defaults to `0.1`.
            freeze: Freezes the embeddings and this many of the lowest layers of the encoder and of
                the decoder; `"encoder"`: the whole encoder. Defaults to `0`.
            lora: `rank`, `alpha`, `targets`... of low-rank adapters, which are then the only
                trainable weights; see `kerasllm.models.adapters.encoder_lora.add_lora`. Defaults to
                `None`: none.
            prefix: Prefix of each source. Defaults to `"auto"`: the one that the preset
                has, if it has one.
            max_length: See the class. Defaults to `None`.
            max_target_length: See the class. Defaults to `None`.

        Raises:
            PresetError: If the preset cannot be found, read or used.
            RecipeError: If there is no such layer for an adapter.
            ValueError: If an argument is of the wrong kind.
        """
        if (Path(preset) / "recipe.yaml").is_file():
            preset = Path(preset) / "model"
        check_lora(lora)
        if freeze != ENCODER:
            check_freeze(freeze, backbone=False)
        precision = resolve_policy(check_precision(precision))
        # Of what TensorFlow was in use before nothing changes.
        prepare_process()
        with as_arguments():
            parts = open_encoder_decoder(preset, precision=precision, dropout=dropout)
            kept = read_facts(Path(preset))
            if prefix == "auto":
                prefix = kept.get("prefix", the_prefix(parts.prefixes))
            model = cls(
                parts,
                prefix=prefix,
                max_length=max_length or kept.get("max_length"),
                max_target_length=max_target_length or kept.get("max_target_length"),
            )
            limit_training(model, freeze, lora)
        return model

    @property
    def backbone(self) -> keras_hub.models.Backbone:
        """The encoder and the decoder."""
        return self.parts.backbone

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of sources and targets."""
        return self.parts.tokenizer

    @cached_property
    def text_side(self) -> Seq2SeqTextSide:
        """How texts become ids."""
        return Seq2SeqTextSide.of(self.parts)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of a training step."""
        return INPUTS

    @property
    def pad_to(self) -> None:
        """`None`: batches may have any length."""
        return None

    @property
    def has_adapters(self) -> bool:
        return any(map(is_frozen, walk([self.task])))

    def prepare_inputs(self, x):
        check_inputs(x, INPUTS)
        return x

    def call(self, inputs, training=None):
        """Returns the logits, float32 `[rows, target length, vocabulary]`."""
        return keras.ops.cast(self._logits(self._hidden(inputs, training)), "float32")

    def default_metrics(self, loss: keras.losses.Loss) -> list[keras.metrics.Metric]:
        return [TokenAccuracy(name="accuracy")]

    def has_default_metrics(self, loss: Any) -> bool:
        return True

    def find_loss(self, loss: Any) -> Any:
        return on_logits(loss)

    def loss_and_outputs(self, x, y, share, training: bool = True):
        """Returns the loss, and whether each target was the most likely, `[rows, length]`."""
        return chunked_loss(
            self._hidden(x, training),
            y,
            share,
            head=self._float_logits,
            loss=self.item_loss,
            variables=self._head_variables if training else (),
            tokens=self.loss_tokens,
        )

    def predict_step(self, data):
        """Returns the logits of each token, float32 `[rows, length, vocabulary]`.

        Where the inputs have `targets` and `counted` besides, each int32 `[rows, length]`, it
        scores the rows instead, float32 `[rows, 3]`: the negative log-likelihood, in nats, of the
        targets that count, how many they are, and how many of them were the most likely token.
        """
        if not isinstance(data, dict) or TARGETS not in data:
            return super().predict_step(data)
        each, correct = chunked_scores(
            self._hidden(data, training=False),
            data[TARGETS],
            head=self._float_logits,
            tokens=self.loss_tokens,
        )
        counted = ops.cast(data[COUNTED], "float32")
        sums = [ops.sum(values * counted, -1) for values in (each, ops.ones_like(each), correct)]
        return ops.stack(sums, axis=-1)

    def encode_sources(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the token ids of sources as the encoder reads them: with the prefix, and cut."""
        ids, offsets, _ = cut_to(
            self.parts.encode_source([self.prefix + text for text in texts]), self.max_length
        )
        return np.split(ids, offsets[1:-1])

    def encode(self, dataset: Dataset, *, train: bool = False) -> Seq2SeqRows:
        columns = dataset.columns
        source = open_source(
            dataset.files,
            columns["split"],
            source=columns["text"],
            target=columns["text_pair"],
            on_bad_row=dataset.on_bad_row,
        )
        store = open_rows(
            source,
            self.text_side,
            prefix=self.prefix,
            max_length=self.max_length,
            max_target_length=self.max_target_length,
            folder=store_dir(),
        )
        rows = Seq2SeqRows.of(store, self.text_side)
        return rows if dataset.rows is None else rows.take(dataset.rows)

    def dataset_of(self, x: Any, y: Any = None, sample_weight: Any = None) -> Dataset:
        if sample_weight is not None:
            raise ValueError("`sample_weight` is not supported for sources and targets.")
        if y is None:
            raise ValueError("`y` is missing: the targets, a text for each source.")
        sources, targets = checked_texts(as_texts(x)), checked_texts(as_texts(y))
        if len(sources) != len(targets):
            raise DataError(
                f"There are {len(sources)} sources and {len(targets)} targets",
                fix="give a target for each source",
            )
        return Dataset.from_lists(sources, text_pairs=targets)

    @property
    def reads_pairs(self) -> bool:
        """`False`: it reads a source, and writes the target."""
        return False

    def _check_pairs(self, dataset: Dataset) -> None:
        """Sources and targets are two columns."""

    def predict_texts(self, texts: Sequence[str], callbacks: keras.callbacks.CallbackList):
        return np.array(self.generate(list(texts)), object)

    def generate(self, inputs: Any, **settings: Any) -> str | list[str]:
        """Generates targets.

        Args:
            inputs: A source, or a list, an array or a tensor of them.
            **settings: `beams`, `max_new_tokens`, `length_penalty`, ...; see
                `kerasllm.generation.GenerationSettings`. Those that are not given are the model's.

        Returns:
            A text for each source; a single text for a single source.

        Raises:
            CommandError: If a setting is out of range.

        Example:

        ```python
        model.generate("A dog runs.", beams=4)
        ```
        """
        # It is above this layer, and needed here alone.
        from kerasllm.generation.seq2seq_texts import write_texts

        alone = isinstance(inputs, str)
        texts = [inputs] if alone else checked_texts(as_texts(inputs))
        written = [each.text for each in write_texts(self, texts, **settings)]
        return written[0] if alone else written

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes the model with its tokenizer and its settings; adapters are merged."""
        save_parts(self.parts, folder)
        facts = {name: getattr(self, name) for name in _FACTS}
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        (Path(folder) / FACTS_FILE).write_text(text + "\n", encoding="utf-8")

    def get_config(self):
        raise NotImplementedError(
            "This model cannot be saved as a `.keras` file: use `save_to_preset(folder)`."
        )

    def _hidden(self, inputs, training):
        return self.task({name: inputs[name] for name in INPUTS}, training=bool(training))

    def _logits(self, hidden):
        return self.parts.logits(hidden)

    def _float_logits(self, hidden):
        return ops.cast(self.parts.logits(hidden), "float32")

    @property
    def _head_variables(self) -> list[keras.Variable]:
        return self.parts.output_embedding.trainable_variables


ENCODER = "encoder"
"""What `freeze` is called that leaves all of the encoder as it is."""


def limit_training(model: Seq2SeqLM, freeze: int | str, lora: Mapping | None) -> None:
    """Freezes some weights, or all but low-rank adapters.

    Args:
        model: The model; changed in place, before it is compiled.
        freeze: See `Seq2SeqLM.from_preset`.
        lora: See `Seq2SeqLM.from_preset`.

    Raises:
        RecipeError: If there are not so many layers, or no such layer for an adapter.
    """
    from kerasllm.errors import RecipeError
    from kerasllm.models.adapters.encoder_lora import add_lora
    from kerasllm.models.layers import parts_of

    parts = parts_of(model.task)
    if lora is not None:
        add_lora(model.task, **lora, frozen_layers=0 if freeze == ENCODER else freeze)
        return
    if not freeze:
        return
    if freeze != ENCODER and freeze > len(parts.blocks):
        raise RecipeError(
            f"freeze is {freeze}, but the model has {len(parts.blocks)} layers in its encoder and "
            "in its decoder",
            where="model.freeze",
            fix=f"give a number from 0 to {len(parts.blocks)}, or encoder",
        )
    # Tied to the output layer, which therefore does not train either.
    frozen = [layer for layer in parts.embeddings if "embedding" in layer.name]
    if freeze == ENCODER:
        frozen += [block[0] for block in parts.blocks]
    else:
        frozen += [layer for block in parts.blocks[:freeze] for layer in block]
    for layer in frozen:
        layer.trainable = False


def the_prefix(prefixes: Mapping[str, str]) -> str:
    """Returns the prefix of a model that was trained with one alone; of others, nothing."""
    return next(iter(prefixes.values())) if len(prefixes) == 1 else ""


def _task_of(backbone: keras_hub.models.Backbone) -> keras.Model:
    """Returns a model of the decoder's outputs alone: the logits are made in chunks."""
    hidden = backbone(backbone.input)["decoder_sequence_output"]
    task = keras.Model(backbone.input, hidden, name=backbone.name)
    task.backbone = backbone
    return task
