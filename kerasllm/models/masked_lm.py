"""A masked language model: trains on texts, predicts masked words, and is saved as a preset."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import safetensors
import safetensors.numpy
import tensorflow as tf
from keras import ops

from kerasllm.data.masked_rows import POSITIONS, SENTENCE, TOKENS
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.data.tokenizers.vocabulary import Vocabulary
from kerasllm.errors import PresetError, RecipeError
from kerasllm.json_files import read_json_file
from kerasllm.models import huggingface, presets
from kerasllm.models.accelerated.fused_encoder import FusedEncoder, can_fuse
from kerasllm.models.encoder import build_task, reading
from kerasllm.models.finite import check_finite
from kerasllm.models.heads import unused_layers
from kerasllm.models.huggingface.heads import dropouts, longest_text
from kerasllm.models.huggingface.masked_lm_heads import (
    architecture_of,
    has_pooler,
    has_vocabulary_head,
    read_sentence_head,
    read_vocabulary_head,
)
from kerasllm.models.pretraining import Pretraining
from kerasllm.models.quantized_presets import load_preset
from kerasllm.models.token_head import TOKENS as OF_TOKENS
from kerasllm.models.token_model import TokenModel
from kerasllm.models.vocabulary_head import TokenStates, VocabularyHead, head_of, states_of
from kerasllm.safetensors_file import save_tensors
from kerasllm.signing import trust
from kerasllm.training.chunked_loss import chunked_loss, chunked_scores, tokens_at_once
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy
from kerasllm.training.outputs import Output

SENTENCE_WEIGHTS = "sentence_head.safetensors"
"""The file of the layer that tells how a second text follows the first."""


class Hits(keras.metrics.Mean):
    """The share of targets that were the most likely."""

    def update_state(self, y_true, correct, sample_weight=None):
        """Counts `correct`, each item by its weight."""
        return super().update_state(correct, sample_weight=sample_weight)


@keras.saving.register_keras_serializable(package="kerasllm")
class MaskedLM(TokenModel):
    """An encoder that predicts masked words, and its tokenizer.

    It is trained as a run, by `kerasllm.finetune` or the command; `fill` fills in words. The logits
    are computed of masked tokens alone, and never of more than fit into about 128 MB.

    Args:
        task: The encoder with its head, and its preprocessor.
        tokenizer: The tokenizer of the preset. Defaults to `None`: it is made of the task's.
        pretraining: How it is pretrained. Defaults to `None`: as `Pretraining()`.

    Example:

    ```python
    model = MaskedLM.from_preset("my_run/model")
    model.fill(["The whale is [MASK]."])[0]["filled"]
    ```
    """

    def __init__(
        self,
        task: VocabularyHead,
        tokenizer: Tokenizer | None = None,
        pretraining: Pretraining | None = None,
        **kwargs,
    ):
        super().__init__(task, tokenizer, **kwargs)
        self.pretraining = pretraining or Pretraining()
        self.loss_tokens = tokens_at_once(self.backbone.vocabulary_size)
        self._most_probable = {}
        self.sentence_head = None
        if self.pretraining.sentence_task:
            if not hasattr(self.backbone, "pooled_dense"):
                raise RecipeError(
                    f"{type(self.backbone).__name__} has no pooler, which the sentence task needs",
                    where="model.sentence_task",
                    fix="set model.sentence_task to none, or use a BERT or an ALBERT",
                )
            self.sentence_head = keras.layers.Dense(
                2,
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
                dtype=self.backbone.dtype_policy,
                name="sentence_logits",
            )
            self.sentence_head.build((None, self.backbone.hidden_dim))
        else:
            for layer in unused_layers(self.backbone):
                # Without a gradient, weight decay alone would change it.
                layer.trainable = False

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of a batch: those of the encoder, and `mask_positions`."""
        return (*self.task.input, POSITIONS)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the tokens are."""
        return Vocabulary.of(self.task.preprocessor.tokenizer)

    @property
    def outputs_measured(self) -> tuple[str, ...]:
        """What is predicted of a row."""
        return (TOKENS,) if self.sentence_head is None else (TOKENS, SENTENCE)

    @property
    def architecture(self) -> str:
        """The ending of the class that transformers has for it."""
        return architecture_of(self.backbone, self.pretraining.sentence_task)

    def fuse(self) -> FusedEncoder | None:
        """Returns what computes the states of tokens in training on a CPU, where there is such."""
        states = TokenStates(self.backbone)
        return FusedEncoder(states) if can_fuse(states) else None

    def call(self, inputs, training=None):
        """Returns the logits of all tokens, or of those at `mask_positions`, float32."""
        x = self.prepare_inputs(inputs)
        if POSITIONS not in x:
            return super().call(x, training=training)
        hidden = self._hidden(x, self._states(x, training))
        return ops.cast(self.task.logits(hidden), "float32")

    def prepare_inputs(self, x):
        return {name: ops.cast(each, "int32") for name, each in x.items()}

    def fill(self, texts: Sequence[str], n_best: int = 5) -> list[dict[str, Any]]:
        """Fills in the masked words of texts.

        Args:
            texts: Texts with `[MASK]` where a word is hidden.
            n_best: How many words there are for each place. Defaults to `5`.

        Returns:
            What `kerasllm.models.fill_texts.fill_texts` does.
        """
        from kerasllm.models.fill_texts import fill_texts

        return fill_texts(self, self.texts_of(texts), n_best=n_best)

    def most_probable(self, n_best: int) -> Callable:
        """Returns the function from inputs to the most probable tokens, compiled once.

        It gives their probabilities and their ids, each `[rows, predictions, n_best]`. Special
        tokens are none of them.

        Args:
            n_best: How many there are.
        """
        if n_best not in self._most_probable:
            never = np.full(self.backbone.vocabulary_size, -1.0, np.float32)
            never[self.vocabulary.words] = 0.0

            def found(x):
                chances = ops.softmax(self(x, training=False)) + never
                return tuple(ops.top_k(chances, n_best))

            self._most_probable[n_best] = self._compiled(found)
        return self._most_probable[n_best]

    def _compiled(self, function: Callable) -> Callable:
        """Returns a function of the inputs as the backend compiles it: TensorFlow for any shape."""
        if keras.config.backend() == "jax":
            # It imports JAX, which need not be installed.
            from kerasllm.training.sharded.calls import computed_in_shards

            return computed_in_shards(self, function)
        spec = tf.TensorSpec([None, None], tf.int32)
        signature = [dict.fromkeys(self.input_names, spec)]
        return tf.function(function, input_signature=signature, autograph=False)

    def _output_names(self) -> list[str]:
        return list(self.outputs_measured)

    def _find_outputs(self, loss, loss_weights, metrics, weighted_metrics) -> tuple[list, list]:
        found = SmoothedSparseCategoricalCrossentropy() if loss is None else loss
        outputs = [Output(found, 1.0, [], [Hits(name="accuracy")])]
        if self.sentence_head is not None:
            of_pairs = SmoothedSparseCategoricalCrossentropy()
            outputs.append(Output(of_pairs, 1.0, [], [Hits(name="sentence_accuracy")]))
        return outputs, [metric for one in outputs for metric in one.weighted_metrics]

    def loss_and_outputs(self, x, y, share, training: bool = True):
        """Returns the loss, and whether each target was the most likely."""
        states = self._fused(x) if training and self._fused else self._states(x, training)
        if self.sentence_head is None:
            return self._token_loss(x, states, y, share, training)
        loss, correct = self._token_loss(x, states, y[0], share[0], training)
        logits = self._sentence_logits(states)
        more = self.compiled_outputs[1].loss_of(y[1], logits, share[1])
        return loss + more, [correct, ops.stop_gradient(_hits(logits, ops.cast(y[1], "int32")))]

    def _token_loss(self, x, states, y, share, training) -> tuple:
        weights = self.task.vocabulary_weights
        return chunked_loss(
            self._hidden(x, states),
            y,
            share,
            head=self._logits,
            loss=self.compiled_outputs[0].summed,
            variables=[one for one in weights if one.trainable] if training else (),
            tokens=self.loss_tokens,
        )

    def predict_step(self, data):
        """Returns the logits of masked tokens, float32 `[rows, predictions, vocabulary]`.

        Where the inputs have `targets` and `counted` besides (see
        `kerasllm.data.masked_rows.scoring_inputs`), it scores the rows instead, float32
        `[rows, 3]`: the negative log-likelihood, in nats, of the masked tokens, how many they are,
        and how many of them were the most likely; with a sentence task the same three of it.
        """
        if not isinstance(data, dict) or "targets" not in data:
            return super().predict_step(data)
        states = self._states(data, training=False)
        each, correct = chunked_scores(
            self._hidden(data, states), data["targets"], head=self._logits, tokens=self.loss_tokens
        )
        counted = ops.cast(data["counted"], "float32")
        sums = [ops.sum(one * counted, -1) for one in (each, ops.ones_like(each), correct)]
        if "label" in data:
            logits, label = self._sentence_logits(states), data["label"]
            each = ops.sparse_categorical_crossentropy(label, logits, from_logits=True)
            labelled = ops.cast(data["labelled"], "float32")
            sums += [one * labelled for one in (each, ops.ones_like(each), _hits(logits, label))]
        return ops.stack(sums, axis=-1)

    def _states(self, x, training):
        inputs = {name: x[name] for name in self.task.input}
        return states_of(self.backbone(inputs, training=bool(training)))

    def _hidden(self, x, states):
        """Returns what logits are made of, of masked tokens alone: `[rows, predictions, width]`."""
        states = ops.cast(states, self.backbone.compute_dtype)
        return self.task.hidden(_at(states, x[POSITIONS]))

    def _logits(self, hidden):
        return ops.cast(self.task.logits(hidden), "float32")

    def _sentence_logits(self, states):
        pooled = self.backbone.pooled_dense(states[:, 0])
        return ops.cast(self.sentence_head(pooled), "float32")

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes a KerasHub preset folder, which `keras_hub` loads as a masked language model.

        It is a preset for every task on encoders.
        """
        folder = Path(folder)
        self.task.save_to_preset(str(folder))
        for file in (folder / "config.json", folder / "task.json"):
            text = file.read_text(encoding="utf-8")
            plain = re.sub(r'("name": )"(mixed_)?(bfloat16|float16)"', r'\1"float32"', text)
            file.write_text(plain, encoding="utf-8")
        self.pretraining.save(folder)
        if self.sentence_head is not None:
            tensors = {one.name: np.asarray(one, "float32") for one in self.sentence_head.weights}
            save_tensors(tensors, folder / SENTENCE_WEIGHTS)

    @classmethod
    def from_preset(cls, folder: str | Path, *, precision: str | None = None) -> MaskedLM:
        """Loads a model that was saved with its head: the `model` of a run.

        Args:
            folder: The folder, the run, or a folder of transformers with a `...ForMaskedLM`.
            precision: A Keras dtype policy. Defaults to `None`: float32.

        Raises:
            PresetError: If the folder has no such head, or cannot be read.
        """
        folder = Path(folder)
        if (folder / "recipe.yaml").is_file():
            folder = folder / "model"
        if folder.exists():
            trust.check(folder)
        if not has_head(folder):
            raise PresetError(
                f"{folder} is not a masked language model with its head",
                fix="give a run of the recipes mlm or mlm_scratch, or a transformers folder with a "
                "...ForMaskedLM",
            )
        precision = precision or "float32"
        if huggingface.is_huggingface(folder):
            return cls._of_huggingface(folder, precision)
        with reading(folder, "a masked language model"):
            found = load_preset(
                keras_hub.models.MaskedLM.from_preset, folder, precision, compile=False
            )
            preprocessor = keras_hub.models.TextClassifierPreprocessor.from_preset(
                str(folder), tokenizer=found.preprocessor.tokenizer
            )
            preprocessor.sequence_length = found.preprocessor.sequence_length
            task = VocabularyHead(found.backbone, preprocessor, compile=False)
            task.assign_head(head_of(found))
        check_finite(task, folder)
        model = cls(task, pretraining=Pretraining.load(folder))
        model.assign_sentence_head(folder)
        return model

    @classmethod
    def _of_huggingface(cls, folder: Path, precision: str) -> MaskedLM:
        dropout, _ = dropouts(huggingface.read_config(folder / huggingface.CONFIG))
        found = build_task(folder, 1, pooling=OF_TOKENS, dropout=dropout, precision=precision)
        task = VocabularyHead(found.backbone, found.preprocessor, compile=False)
        task.assign_head(read_vocabulary_head(folder))
        check_finite(task, folder)
        longest = longest_text(folder)
        if longest is not None:
            task.preprocessor.sequence_length = min(longest, task.preprocessor.sequence_length)
        return cls(task, pretraining=Pretraining(trained_pooler=has_pooler(folder)))

    def assign_sentence_head(self, folder: Path) -> None:
        """Gives the sentence head the weights of a folder that was trained for the same task."""
        if self.sentence_head is None:
            return
        if huggingface.is_huggingface(folder):
            task = self.pretraining.sentence_task
            tensors = read_sentence_head(folder, self.backbone, task) or {}
            for variable in self.sentence_head.weights if tensors else ():
                variable.assign(tensors[variable.name])
            return
        file = folder / SENTENCE_WEIGHTS
        same = Pretraining.load(folder).sentence_task == self.pretraining.sentence_task
        if not same or not file.is_file():
            return
        try:
            tensors = safetensors.numpy.load_file(file)
            for variable in self.sentence_head.weights:
                variable.assign(tensors[variable.name])
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            raise PresetError(
                f"the head of pairs of texts cannot be read: {error}",
                where=str(file),
                fix="copy all files from the original run",
            ) from error


def _at(states, positions):
    """Returns the states of some tokens of each row, `[rows, positions, width]`."""
    if keras.config.backend() == "jax":
        return ops.take_along_axis(states, positions[..., None], axis=1)
    # One operation, where Keras flattens the rows.
    return tf.gather(states, positions, batch_dims=1)


def _hits(logits, targets):
    """Returns 1 where the most probable class is the target, else 0."""
    return ops.cast(ops.argmax(logits, -1) == targets, "float32")


def has_head(folder: Path) -> bool:
    """Tells whether a folder holds a masked language model with its head."""
    if huggingface.is_huggingface(folder):
        return has_vocabulary_head(folder)
    file = folder / "task.json"
    try:
        return "MaskedLM" in str(read_json_file(file).get("registered_name"))
    except (OSError, ValueError, AttributeError):
        return False


def trained_head(preset: str | Path) -> dict[str, np.ndarray] | None:
    """Returns the weights of the head of a preset, by the names of `VocabularyHead`.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.

    Returns:
        The weights; `None` where the preset has no such head.
    """
    folder = presets.resolve(preset)
    if not isinstance(folder, Path) or not has_head(folder):
        return None
    if huggingface.is_huggingface(folder):
        return read_vocabulary_head(folder)
    with reading(folder, "a masked language model"):
        task = keras_hub.models.MaskedLM.from_preset(str(folder), compile=False, dtype="float32")
    return head_of(task)
