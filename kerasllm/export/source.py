"""The model to export, and real texts of its run for the parity check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import tensorflow as tf

from kerasllm.export.target_logits import target_logits
from kerasllm.export.token_graph import forward_pass, run_pass
from kerasllm.export.token_rows import LONGEST_FIRST, TokenRows
from kerasllm.models.decoder_forward import hidden_states, logits
from kerasllm.tasks.task import Head, Task
from kerasllm.training.fit import FineTunedModel

# So many rows of a language model are computed together: their logits are large.
_ROWS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Source:
    """A model to export.

    Args:
        task: The task of the model.
        model: The model in float32, adapters merged.
        name: What it is called; a plain word, with which files may be named.
        max_length: The maximum number of tokens of a row that it reads, special tokens included.
        rows: Real inputs of its run, for parity and warm-up: texts, or tuples of texts where a row
            has several. Those of a language model are short (what a prompt is), and written as the
            model reads them, after the chat template.
        rows_from: What the rows are, in words: `"the first 256 rows of reviews.csv (test)"`.
        facts: What the card tells of how the model was made. It holds no path. Keys, each of
            which may be missing: `recipe` (YAML), `metrics` (as in `metrics.json`), `data` (part to
            `{"files": [...], "fingerprint": ..., "rows": ..., "contents": ...}`, the last in words
            such as `"57 conversations"`), `base` (the preset), `licence`
            (of its weights), `seed`, `versions`. Defaults to nothing.
    """

    task: Task
    model: FineTunedModel
    name: str
    max_length: int
    rows: Sequence[str | tuple[str, ...]]
    rows_from: str = ""
    facts: dict = field(default_factory=dict)

    @cached_property
    def head(self) -> Head:
        """The model's head: its inputs, its outputs, and how these compare."""
        return self.task.head(self.model)

    @property
    def generates(self) -> bool:
        """Whether the model is a decoder that writes text, and not an encoder with a head."""
        return self.task.generates

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model reads a text and writes another."""
        return self.task.preset_kind == "encoder_decoder"

    @property
    def family(self) -> str:
        """The class of the model's backbone in KerasHub: `"BertBackbone"`, `"LlamaBackbone"`."""
        return type(self.model.task.backbone).__name__

    @property
    def input_names(self) -> tuple[str, ...]:
        """What a graph on token ids takes, of `token_ids`, `padding_mask` and `segment_ids`."""
        return ("token_ids",) if self.generates else tuple(self.model.task.input)

    @property
    def truncation(self) -> str:
        """How a pair of texts that is too long is cut: `"longest_first"`, `"only_second"`."""
        return getattr(self.model, "truncation", LONGEST_FIRST)

    @property
    def columns(self) -> list[list[str]]:
        """The texts of all rows by input, in the order of `Head.texts`."""
        rows = [(row,) if isinstance(row, str) else row for row in self.rows]
        return [[row[place] for row in rows] for place in range(len(self.head.texts))]

    @property
    def prefixed(self) -> list[str]:
        """The rows of an encoder-decoder, with what it is used with before each source."""
        return [self.model.prefix + row for row in self.rows]

    @cached_property
    def tokens(self) -> TokenRows:
        """The rows as the model reads them: special tokens included, cut to the length."""
        return TokenRows.of(self.model.tokenizer, self.columns, self.max_length, self.truncation)

    @cached_property
    def expected(self) -> np.ndarray:
        """What the model itself gives for each row; see `Format.predict`."""
        if self.generates:
            return np.concatenate(list(self._last_logits()))
        if self.is_encoder_decoder:
            return target_logits(self.model.parts, self.prefixed, self.max_length)
        return run_pass(self, self.tokens, forward_pass(self))

    def compared_in(self, found: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """Returns what is compared of each row of a padded batch, with a first axis of its own.

        Args:
            found: The output `Head.compared` of some rows, or of all tokens of some rows.
            lengths: The number of tokens of each row, int `[rows]`.
        """
        if self.head.per_token:
            return [row[:length] for row, length in zip(found, lengths, strict=True)]
        if self.generates:
            # A graph on token ids gives the logits of all tokens.
            return [row[length - 1 : length] for row, length in zip(found, lengths, strict=True)]
        return [row[None] for row in np.asarray(found)]

    def _last_logits(self) -> Iterator[np.ndarray]:
        backbone = self.model.backbone
        for start in range(0, len(self.rows), _ROWS_AT_ONCE):
            rows = range(len(self.rows))[start : start + _ROWS_AT_ONCE]
            inputs = self.tokens.inputs(rows)
            # A token attends to nothing after it: padding changes nothing.
            hidden = hidden_states(backbone, inputs["token_ids"])
            last = tf.gather(hidden, inputs["padding_mask"].sum(axis=1) - 1, batch_dims=1)
            yield np.asarray(logits(backbone, last))
