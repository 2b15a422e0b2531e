"""Documents: plain text files, folders of them, and rows of text, kept apart from each other."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kerasllm.data.readers.faults import Notes
from kerasllm.data.readers.files import DataFile, find_files
from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.text_lines import TextLines
from kerasllm.data.split import split_stratified
from kerasllm.data.text_framing import TextFraming
from kerasllm.data.token_store import SKIPPED_KEPT, TokenStore, open_or_write
from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.errors import DataError

TEXT_FILES = (".txt", ".md")
"""Suffixes of files that are one document each."""

# A longer file is read in parts that end at a line's end, so that it need not fit in memory.
_PART_CHARACTERS = 1 << 22
# So many characters are tokenized together.
_BATCH_CHARACTERS = 1 << 24


@dataclasses.dataclass(frozen=True)
class Document:
    """A text, or a part of one that is too long to be read at once.

    Args:
        text: The text.
        file: The number of its file in `Documents.files`.
        line: The line that it begins in, counted from 1; in a Parquet file the row.
        begins: Whether this is the text's first part. Defaults to `True`.
        ends: Whether this is its last part. Defaults to `True`.
    """

    text: str
    file: int
    line: int
    begins: bool = True
    ends: bool = True


class Documents:
    """Texts in the order of their files, read as they are needed.

    A `.txt` or `.md` file is one document (also compressed), a folder or a zip archive stands for
    all such files in it and below, sorted by name, but for hidden ones; each row of a csv, tsv,
    jsonl or parquet file is a document.
    Rows with an empty text, which corpora have between paragraphs, are left out and counted.

    Args:
        spec: As for `Source`.
        split: `"train"`, `"validation"` or `"test"`, the part that `starter:NAME` means. Defaults
            to `"train"`.
        text: The column of the texts, where files have columns. Defaults to `None`: found by
            common names.
        on_bad_row: As for `Source`. Defaults to `"error"`. Empty texts, and empty files among
            others, are left out in any case.

    Attributes:
        files: The names of the files.
        text_column: The column of the texts; `None` where no file has columns.
        remarks: What a user should know of how they were found, a list.
        notes: After reading, what was left out because it is empty.

    Raises:
        DataError: A file is missing, empty or in no known format.

    Example:

    >>> book = Documents("starter:moby_dick")
    >>> first = next(iter(book))
    >>> first.text[:9], book.files[first.file], first.line
    ('MOBY DICK', 'starter:moby_dick/train', 1)
    """

    def __init__(
        self,
        spec: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        split: str = "train",
        text: str | None = None,
        on_bad_row: str = "error",
    ):
        found = find_files(spec, split, preferred="text")
        self.remarks = found.remarks
        self._on_bad_row = on_bad_row
        # Rows are what a source reads; it checks its own files.
        self._readers = [
            file
            if file.suffix in TEXT_FILES
            else Source(
                file,
                split=split,
                text=text,
                labelled=False,
                on_bad_row=on_bad_row,
                skip_empty=True,
            )
            for file in found
        ]
        columns = [each.text_column for each in self._readers if isinstance(each, Source)]
        self.text_column = next(filter(None, columns), None)
        self.files = tuple(file.name for file in found)
        self.bad_rows: list[tuple[str, int, str]] = []
        self.bad_row_count = 0
        self.bad_row_reasons: Counter[str] = Counter()
        self.notes = Notes()

    @property
    def noted(self) -> dict[str, Any]:
        """What a store keeps of how the texts were read: see `Source.noted`."""
        return {"skipped_reasons": dict(self.bad_row_reasons), "notes": self.notes.lines()}

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the files' bytes in order and what is read of them."""
        import hashlib

        total = hashlib.sha256(b"kerasllm documents 1")
        for reader in self._readers:
            total.update(_digest(reader).encode())
        return total.hexdigest()

    def __iter__(self) -> Iterator[Document]:
        self.bad_rows, self.bad_row_count = [], 0
        self.bad_row_reasons, self.notes = Counter(), Notes()
        for number, reader in enumerate(self._readers):
            if isinstance(reader, DataFile):
                parts = _parts_of(reader, number)
                if (first := next(parts, None)) is None:
                    self._note_empty(reader)
                    continue
                yield first
                yield from parts
                continue
            for batch in reader.batches():
                for text, line in zip(batch.texts, batch.lines, strict=True):
                    yield Document(text, number, int(line))
            self.bad_rows += reader.bad_rows
            self.bad_row_count += reader.bad_row_count
            self.bad_row_reasons += reader.bad_row_reasons
            self.notes.include(reader.notes)

    def cut(
        self, share: float, seed: int = 0
    ) -> tuple[Stretch | Sample, Stretch | Sample | None]:
        """Takes a part of the texts away, to measure on.

        Rows and files are often sorted: of as many texts as give one for the part, a sample is
        taken. Of fewer, such as one book, it is the end of the text, cut at the end of a line.

        Args:
            share: The part to take away: of all texts, or of all characters; 0 to below 1.
            seed: Chooses the sample. Defaults to `0`.

        Returns:
            The rest, and what was taken away; `None` if it would be empty.
        """
        if not share:
            return Stretch(self), None
        total = count = 0
        for document in self:
            total, count = total + len(document.text), count + document.begins
        if count * share >= 1 and count > 1:
            _, chosen = split_stratified(np.zeros(count, np.uint8), share, seed)
            is_held_out = np.zeros(count, bool)
            is_held_out[chosen] = True
            held_out = Sample(self, is_held_out, (share, seed))
            return Sample(self, ~is_held_out, (share, seed, "the rest")), held_out
        target, at = int(total * (1 - share)), 0
        for document in self:
            if at + len(document.text) > target:
                line_end = document.text.find("\n", target - at)
                at += len(document.text) if line_end < 0 else line_end + 1
                break
            at += len(document.text)
        if not 0 < at < total:
            return Stretch(self), None
        return Stretch(self, 0, at), Stretch(self, at)


    def _note_empty(self, file: DataFile) -> None:
        if len(self._readers) == 1:
            raise DataError("The file is empty", where=file.name, fix="give a file with text")
        self.notes.add("empty files left out", file.name)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Some of the texts of documents, each whole.

    Args:
        documents: The documents.
        chosen: bool `[texts]`, which of them.
        made_by: What decides which of them, as JSON values.
    """

    documents: Documents
    chosen: np.ndarray
    made_by: tuple

    @property
    def identity(self) -> list:
        """All that decides what is in it, as JSON values."""
        return [self.documents.fingerprint, self.documents.files, "sample", *self.made_by]

    def __iter__(self) -> Iterator[Document]:
        number = -1
        for document in self.documents:
            number += document.begins
            if self.chosen[number]:
                yield document

    def texts(self) -> Iterator[str]:
        """Yields the texts."""
        return (document.text for document in self)


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Some of the text of documents, counted in characters from the first one's beginning.

    Args:
        documents: The documents.
        first: The first character. Defaults to `0`.
        last: The end, exclusive. Defaults to `None`: the end of the last document.
    """

    documents: Documents
    first: int = 0
    last: int | None = None

    @property
    def identity(self) -> list:
        """All that decides what is in it, as JSON values."""
        return [self.documents.fingerprint, self.documents.files, self.first, self.last]

    def __iter__(self) -> Iterator[Document]:
        at = 0
        for document in self.documents:
            size = len(document.text)
            low = max(self.first - at, 0)
            high = size if self.last is None else min(self.last - at, size)
            at += size
            if high <= 0:
                return
            if low >= size:
                continue
            yield Document(
                document.text[low:high],
                document.file,
                document.line + document.text.count("\n", 0, low),
                begins=document.begins or low > 0,
                ends=document.ends or high < size,
            )

    def texts(self) -> Iterator[str]:
        """Yields the texts."""
        return (document.text for document in self)


def open_documents(
    stretch: Stretch | Sample,
    tokenizer: TokenizerJson,
    *,
    folder: Path,
    special_tokens: str = "once",
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the tokens of documents, from the store if they were read before.

    A document is a row: the start token (the end token, for tokenizers without one), which the
    first word is predicted from, its tokens and the end token. `TokenStore.remarks` holds the bytes
    of all texts in UTF-8, and what a user should know of how they were read.

    Args:
        stretch: The text.
        tokenizer: Turns it into token ids.
        folder: Where stores are kept.
        special_tokens: `"once"`: the start and the end token that a text has are not added again,
            and special tokens within it are tokens; `"text"`: all that are written in a text are
            letters; `"keep"`: all are tokens. Defaults to `"once"`.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: If a file is broken, or there is no text.
    """
    if tokenizer.end_of_text_id is None:
        raise DataError(
            "The tokenizer has no token that ends a text, and documents could not be kept apart",
            fix="use a preset whose tokenizer names an end token (eos_token)",
        )
    documents = stretch.documents
    size = 0
    framing = TextFraming(tokenizer, special_tokens)

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal size
        for together in _together(framing.cleaned(document) for document in stretch):
            size += sum(len(document.text.encode()) for document in together)
            yield framing.rows(together)

    def progress(rows: int) -> None:
        if notify:
            notify(f"tokenizing {', '.join(Path(f).name for f in documents.files[:3])}: {rows:,}")

    store = open_or_write(
        [
            *("documents", stretch.identity, tokenizer.fingerprint),
            *[special_tokens] * (special_tokens != "once"),
        ],
        batches,
        documents.files,
        folder=folder,
        progress=progress,
        remarks=lambda: [
            documents.bad_row_count,
            documents.bad_rows[:SKIPPED_KEPT],
            size,
            {
                **documents.noted,
                "revised": documents.notes.revised or framing.is_revised,
                "notes": documents.notes.lines() + framing.remarks,
            },
        ],
        is_revised=lambda store: store.noted.get("revised"),
    )
    if not len(store):
        raise DataError("There is no text to use", where=", ".join(documents.files))
    store.file_remarks = documents.remarks
    return store


def _digest(reader: DataFile | Source) -> str:
    if isinstance(reader, Source):
        return reader.fingerprint
    return reader.sha256()


def _parts_of(file: DataFile, number: int) -> Iterator[Document]:
    """Reads a text file, in parts if it is long; nothing of an empty one."""
    lines = TextLines(file)
    held, characters, first, line = [], 0, 1, 0
    begins = True
    for line, text in enumerate(lines, start=1):
        if lines.problems:
            place, problem = lines.take_problem()
            raise DataError(
                f"The text cannot be read: {problem}",
                where=f"{file.name}:{place}",
                fix="convert the file to UTF-8, or name its encoding with --set "
                "data.encoding=NAME (evaluate, predict: --encoding NAME)",
            )
        if characters + len(text) > _PART_CHARACTERS and held:
            yield Document("".join(held), number, first, begins=begins, ends=False)
            held, characters, first, begins = [], 0, line, False
        held.append(text)
        characters += len(text)
    text = "".join(held)
    if begins and not text.strip():
        return
    yield Document(text, number, first, begins=begins, ends=True)


def _together(stretch: Iterable[Document]) -> Iterator[list[Document]]:
    """Yields documents of one file, about as many as are tokenized at once."""
    held, characters = [], 0
    for document in stretch:
        if held and (document.file != held[0].file or characters >= _BATCH_CHARACTERS):
            yield held
            held, characters = [], 0
        held.append(document)
        characters += len(document.text)
    if held:
        yield held
