"""What is exported: a model, and real texts of its run that the exported files are checked on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import tensorflow as tf

from kerasllm.data.rows import TokensInMemory
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.classify import predict_logits, probabilities
from kerasllm.models.decoder_forward import hidden_states, logits
from kerasllm.models.text_classifier import TextClassifier

# So many rows of a language model are computed together: their logits are large.
_ROWS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Source:
    """A model to export.

    Args:
        task: `"text_classification"` or `"causal_lm"`.
        model: The model in float32, adapters merged.
        name: What it is called; a plain word, with which files may be named.
        max_length: The most tokens of a text that it reads, special tokens included.
        rows: Real texts of its run, for parity and warm-up. Those of a language model are short
            (what a prompt is), and written as the model reads them, behind the chat template.
        rows_from: What the rows are, in words: `"the first 256 rows of reviews.csv (test)"`.
        facts: What the card tells of how the model was made. It holds no path. Keys, each of
            which may be missing: `recipe` (YAML), `metrics` (as in `metrics.json`), `data` (part to
            `{"files": [...], "fingerprint": ..., "rows": ...}`), `base` (the preset), `licence`
            (of its weights), `seed`, `versions`. Defaults to nothing.
    """

    task: str
    model: TextClassifier | CausalLM
    name: str
    max_length: int
    rows: list[str]
    rows_from: str = ""
    facts: dict = field(default_factory=dict)

    @property
    def is_classifier(self) -> bool:
        """Whether the model gives labels."""
        return self.task == "text_classification"

    @property
    def family(self) -> str:
        """The class of the model's backbone in KerasHub: `"BertBackbone"`, `"LlamaBackbone"`."""
        return type(self.model.task.backbone).__name__

    @cached_property
    def token_ids(self) -> list[np.ndarray]:
        """The ids of each row as the model reads it, int32: special tokens included, cut."""
        ids, offsets = self.model.tokenizer.encode(self.rows, self.max_length)
        return [ids[start:end] for start, end in zip(offsets, offsets[1:])]

    def padded(self, length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows' ids and the mask of real tokens, both int32 `[rows, length]`.

        Args:
            length: What rows are filled up to, at their ends. Defaults to `None`: the longest row.
        """
        length = length or max(map(len, self.token_ids))
        ids = np.full((len(self.rows), length), self.model.tokenizer.pad_token_id, np.int32)
        mask = np.zeros_like(ids)
        for number, row in enumerate(self.token_ids):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return ids, mask

    @cached_property
    def expected(self) -> np.ndarray:
        """What the model itself says of each row; see `Format.predict`."""
        if self.is_classifier:
            lengths = [len(row) for row in self.token_ids]
            offsets = np.cumsum([0, *lengths])
            tokens = TokensInMemory(np.concatenate(self.token_ids), offsets)
            # By another road than what is written, which may be packed.
            found = predict_logits(self.model, tokens, packed=False)
            return probabilities(found)
        return np.concatenate(list(self._last_logits()))

    def _last_logits(self) -> Iterator[np.ndarray]:
        ids, mask = self.padded()
        backbone = self.model.backbone
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            # A row attends to nothing behind it: what fills it up changes nothing.
            hidden = hidden_states(backbone, ids[part])
            last = tf.gather(hidden, mask[part].sum(axis=1) - 1, batch_dims=1)
            yield np.asarray(logits(backbone, last))
