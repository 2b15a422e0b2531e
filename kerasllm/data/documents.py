"""Documents: plain text files, folders of them, and rows of text, separated from each other."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from kerasllm.data import shards
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.fasttext import is_fasttext
from kerasllm.data.readers.faults import Notes
from kerasllm.data.readers.files import Spec, find_files
from kerasllm.data.readers.misnamed import refuse_rows_in_text
from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.text_lines import TextLines
from kerasllm.data.split import split_stratified
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.text_framing import TextFraming
from kerasllm.data.token_store import SKIPPED_KEPT, open_or_write
from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.errors import DataError

TEXT_FILES = (".txt", ".md")
"""Suffixes of files that are one document each."""

_NOTHING: list = [0, [], {}]
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
        spec: Spec,
        *,
        split: str = "train",
        text: str | None = None,
        on_bad_row: str = "error",
    ):
        found = find_files(spec, split, preferred="text")
        for file in found:
            if file.suffix == ".txt" and not is_fasttext(file):
                refuse_rows_in_text(file)
        self.remarks = found.remarks
        self._on_bad_row = on_bad_row
        # Rows are what a source reads; it checks its own files.
        self._readers = [
            file
            if file.suffix in TEXT_FILES and not is_fasttext(file)
            else Source(
                file, split=split, text=text, labelled=False, on_bad_row=on_bad_row, skip_empty=True
            )
            for file in found
        ]
        columns = [each.text_column for each in self._readers if isinstance(each, Source)]
        self.text_column = next(filter(None, columns), None)
        self.files = tuple(file.name for file in found)
        self.bad_rows: list[tuple[str, int, str]] = []
        self.bad_row_count = 0
        # Characters and texts of files that were read to their end.
        self._sizes: dict[int, tuple[int, int]] = {}
        self.bad_row_reasons: Counter[str] = Counter()
        self.notes = Notes()

    @property
    def left_out(self) -> list:
        """After reading: the number of bad rows, the first of them, and as `Source.noted`."""
        noted = {"skipped_reasons": dict(self.bad_row_reasons), "notes": self.notes.lines()}
        return [self.bad_row_count, self.bad_rows[:SKIPPED_KEPT], noted]

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the files' bytes in order and what is read of them."""
        import hashlib

        total = hashlib.sha256(b"kerasllm documents 1")
        for reader in self._readers:
            total.update(_digest(reader).encode())
        return total.hexdigest()

    def __iter__(self) -> Iterator[Document]:
        self._begin()
        for number in range(len(self._readers)):
            yield from self._file(number)

    def _begin(self) -> None:
        self.bad_rows, self.bad_row_count = [], 0
        self.bad_row_reasons, self.notes = Counter(), Notes()

    def _file(self, number: int) -> Iterator[Document]:
        reader, characters, texts = self._readers[number], 0, 0
        if isinstance(reader, DataFile):
            for document in _parts_of(reader, number):
                characters, texts = characters + len(document.text), 1
                yield document
            if not texts:
                self._note_empty(reader)
        else:
            for batch in reader.batches():
                for text, line in zip(batch.texts, batch.lines, strict=True):
                    characters, texts = characters + len(text), texts + 1
                    yield Document(text, number, int(line))
            self.bad_rows += reader.bad_rows
            self.bad_row_count += reader.bad_row_count
            self.bad_row_reasons += reader.bad_row_reasons
            self.notes.include(reader.notes)
        self._sizes[number] = characters, texts

    def _note_empty(self, file: DataFile) -> None:
        if len(self._readers) == 1:
            raise DataError("The file is empty", where=file.name, fix="give a file with text")
        self.notes.add("empty files left out", file.name)

    def with_offsets(self) -> Iterator[tuple[int, int, Document]]:
        """Yields documents with the number of characters before each, and its own number.

        Files without a shard are left out, see `kerasllm.data.shards`.
        """
        self._begin()
        at, texts, mine = 0, 0, shards.mine()
        for number in range(len(self._readers)):
            if mine is not None and number != mine:
                if number not in self._sizes:
                    for _ in self._file(number):
                        pass
                at, texts = at + self._sizes[number][0], texts + self._sizes[number][1]
                continue
            if mine is not None:
                # What was noted of other files is not of this one.
                self._begin()
            for document in self._file(number):
                texts += document.begins
                yield at, texts - 1, document
                at += len(document.text)
            if mine is not None:
                return

    def cut(self, share: float, seed: int = 0) -> tuple[Stretch | Sample, Stretch | Sample | None]:
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
        left_out = self.left_out
        if count * share >= 1 and count > 1:
            _, chosen = split_stratified(np.zeros(count, np.uint8), share, seed)
            is_held_out = np.zeros(count, bool)
            is_held_out[chosen] = True
            rest = Sample(self, ~is_held_out, (share, seed, "the rest"), left_out)
            return rest, Sample(self, is_held_out, (share, seed), _NOTHING)
        target, at = int(total * (1 - share)), 0
        for document in self:
            if at + len(document.text) > target:
                line_end = document.text.find("\n", target - at)
                at += len(document.text) if line_end < 0 else line_end + 1
                break
            at += len(document.text)
        if not 0 < at < total:
            return Stretch(self), None
        # The beginning does not reach the end of the files; what they lack is told once.
        return Stretch(self, 0, at, left_out), Stretch(self, at, None, _NOTHING)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Some of the texts of documents, each whole.

    Args:
        documents: The documents.
        chosen: bool `[texts]`, which of them.
        made_by: What decides which of them, as JSON values.
        left_out: As for `Stretch`. Defaults to `None`.
    """

    documents: Documents
    chosen: np.ndarray
    made_by: tuple
    left_out: list | None = None

    @property
    def identity(self) -> list:
        """All that decides what is in it, as JSON values."""
        return [self.documents.fingerprint, self.documents.files, "sample", *self.made_by]

    def __iter__(self) -> Iterator[Document]:
        for _, number, document in self.documents.with_offsets():
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
        left_out: What to tell of rows that were left out, as `Documents.left_out`. Defaults to
            `None`: what the documents have noted once they are read.
    """

    documents: Documents
    first: int = 0
    last: int | None = None
    left_out: list | None = None

    @property
    def identity(self) -> list:
        """All that decides what is in it, as JSON values."""
        return [self.documents.fingerprint, self.documents.files, self.first, self.last]

    def __iter__(self) -> Iterator[Document]:
        for at, _, document in self.documents.with_offsets():
            size = len(document.text)
            low = max(self.first - at, 0)
            high = size if self.last is None else min(self.last - at, size)
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
            "The tokenizer has no end-of-text token to separate documents with",
            fix="use a preset whose tokenizer has an eos_token",
        )
    documents = stretch.documents
    size = 0
    framing = TextFraming(tokenizer, special_tokens)

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal size
        size = 0
        framing.begin()
        for together in batched_documents(framing.cleaned(document) for document in stretch):
            size += sum(len(document.text.encode()) for document in together)
            yield framing.rows(together)

    def remarks() -> list:
        count, rows, noted = stretch.left_out or documents.left_out
        notes = [*noted.get("notes", ()), *framing.remarks]
        revised = documents.notes.revised or framing.is_revised
        return [count, rows, size, {**noted, "revised": revised, "notes": notes}]

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
        remarks=remarks,
        is_revised=lambda store: store.noted.get("revised"),
    )
    if not len(store):
        raise DataError("The files contain no text", where=", ".join(documents.files))
    # Of what is held out the files are the same.
    store.file_remarks = () if stretch.left_out is _NOTHING else documents.remarks
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
                "data.encoding=NAME (evaluate, predict, data: --encoding NAME)",
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


def batched_documents(stretch: Iterable[Document]) -> Iterator[list[Document]]:
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
