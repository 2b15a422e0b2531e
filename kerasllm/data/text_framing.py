"""The start and the end token around each text, and those that texts hold already."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kerasllm.data.chat.messages import MARKED, without_mark
from kerasllm.data.token_store import row_batch
from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.plurals import counted

if TYPE_CHECKING:
    from kerasllm.data.documents import Document

_UNCUT = 2**31 - 1


class TextFraming:
    """Puts a text between its start and its end token, each once.

    Args:
        tokenizer: The tokenizer, with a token that ends a text.
        special_tokens: See `kerasllm.data.documents.open_documents`.
    """

    def __init__(self, tokenizer: TokenizerJson, special_tokens: str):
        self._tokenizer = tokenizer
        self._mode = special_tokens
        self._begun = tokenizer.start_token_id is not None
        self._first = tokenizer.start_token_id if self._begun else tokenizer.end_of_text_id
        self._start = tokenizer.start_token if self._begun else tokenizer.end_token
        self._special = re.compile("|".join(map(re.escape, tokenizer.special_tokens)) or "(?!)")
        self.begin()

    def begin(self) -> None:
        """Begins to count."""
        self._framed = self._within = self._marks = 0

    @property
    def is_revised(self) -> bool:
        """Whether earlier versions kept a mark, or put a token where one was already."""
        return self._framed > 0 or self._marks > 0

    @property
    def remarks(self) -> list[str]:
        """What a user should know of the special tokens in the texts."""
        found = []
        if self._framed:
            texts = counted(self._framed, "text begins or ends", "texts begin or end")
            found.append(f"{texts} with a special token that is also added; it is not doubled")
        if self._marks:
            found.append(f"{counted(self._marks, MARKED.partition('|')[0])} removed")
        if self._within:
            tokens = counted(self._within, "special token is", "special tokens are")
            read = "letters" if self._mode == "text" else "tokens"
            other = "" if self._mode == "text" else "; as letters: data.special_tokens=text"
            found.append(f"{tokens} written in the texts, read as {read}{other}")
        return found

    def cleaned(self, document: Document) -> Document:
        """Returns a document without the tokens that are put around it."""
        if document.begins and document.text.startswith("\ufeff"):
            self._marks += 1
            document = dataclasses.replace(document, text=without_mark(document.text))
        text = document.text
        if self._mode == "once" and (document.begins or document.ends):
            text = self._without(document)
            if text != document.text:
                self._framed += 1
                document = dataclasses.replace(document, text=text)
        if self._mode != "keep" and self._special.search(text):
            self._within += len(self._special.findall(text))
        return document

    def rows(self, documents: list[Document]) -> pa.RecordBatch:
        """Returns the tokens of documents of one file."""
        tokenizer = self._tokenizer
        ids, offsets = tokenizer.encode([document.text for document in documents], _UNCUT)
        rows = []
        for document, start, end in zip(documents, offsets[:-1], offsets[1:], strict=True):
            row = ids[start + self._begun : end]
            if self._mode == "text" and self._special.search(document.text):
                row = tokenizer.encode_whole(document.text, special=False)
            before = [self._first] if document.begins else []
            after = [tokenizer.end_of_text_id] if document.ends else []
            rows.append(np.concatenate([before, row, after]).astype(np.int32))
        sizes = np.cumsum([0, *map(len, rows)])
        lines = np.array([document.line for document in documents], np.int64)
        return row_batch(np.concatenate(rows), sizes, documents[0].file, lines)

    def _without(self, document: Document) -> str:
        text = document.text
        while document.begins and text.lstrip().startswith(self._start):
            text = text.lstrip()[len(self._start) :]
        while document.ends and text.rstrip().endswith(self._tokenizer.end_token):
            text = text.rstrip()[: -len(self._tokenizer.end_token)]
        # Of nothing but such tokens all are kept.
        return text if text.strip() else document.text
