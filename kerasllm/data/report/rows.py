"""The rows that a data report reads: texts, a label, and their location."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.fasttext import is_fasttext
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.misnamed import refuse_rows_in_text
from kerasllm.data.readers.text_lines import TextLines
from kerasllm.errors import DataError, cut

if TYPE_CHECKING:
    from kerasllm.data.chat.formats import UnclearShape
    from kerasllm.data.readers.sources import Source

TEXT_FILES = (".txt", ".md")
"""Suffixes of files of plain text, whose rows are passages."""

Label = str | tuple[str, ...] | float | None

_TABLES = (".csv", ".tsv")
_PREFERENCE, _TEXT = "preference", "text"
# A column beside these, such as `category`, is no label of a text.
_UNMISTAKABLE = ("alpaca", _PREFERENCE)
_MOST_UNREAD = 8
_CHUNK = 4096
_CHUNK_CHARACTERS = 1 << 22
_BAD_KEPT = 1000


class ReportRow(NamedTuple):
    """A row, as a report sees it.

    Attributes:
        texts: Its texts: one, two of a pair, or what each message of a conversation says.
        label: A class, several classes, a score, or `None`.
        file: The number of its file in `ReportRows.files`.
        line: The line that it begins in, or its number in a Parquet file.
    """

    texts: tuple[str, ...]
    label: Label
    file: int
    line: int


class BadRow(NamedTuple):
    """A row that cannot be used: its file, its line, and why."""

    file: str
    line: int
    why: str


@dataclasses.dataclass(eq=False)
class ReportRows:
    """The rows of a part of the data, read again each time that they are iterated.

    Args:
        files: The names of the files.
        read_as: What is read of them, in words.
        read: Yields the rows; what it cannot use it gives to the function that it is called with.
        noun: What a row is, such as `"conversation"`. Defaults to `"row"`.
        problem: What the labels are: `"single_label"`, `"multi_label"`, `"regression"`, or `None`
            where there are none. Defaults to `None`.
        remarks: Returns what a user should know of how the rows were read, a sentence each.
            Defaults to nothing.

    Attributes:
        bad: After reading, the first 1,000 rows that cannot be used.
        bad_count: After reading, how many cannot be used.

    Example:

    >>> rows = labelled_rows(Source("starter:movie_reviews", split="test"))
    >>> next(iter(rows)).label
    '1'
    """

    files: Sequence[str]
    read_as: str
    read: Callable[[Callable[[str, int, str], None]], Iterator[ReportRow]]
    noun: str = "row"
    problem: str | None = None
    remarks: Callable[[], Sequence[str]] = tuple
    bad: list[BadRow] = dataclasses.field(default_factory=list)
    bad_count: int = 0

    def __iter__(self) -> Iterator[ReportRow]:
        self.bad, self.bad_count = [], 0
        return self.read(self._note)

    def chunks(self) -> Iterator[list[ReportRow]]:
        """Yields the rows, thousands at a time; fewer where they are long."""
        held: list[ReportRow] = []
        characters = 0
        for row in self:
            held.append(row)
            characters += sum(map(len, row.texts))
            if len(held) >= _CHUNK or characters >= _CHUNK_CHARACTERS:
                yield held
                held, characters = [], 0
        if held:
            yield held

    def _note(self, file: str, line: int, why: str) -> None:
        self.bad_count += 1
        if len(self.bad) < _BAD_KEPT:
            self.bad.append(BadRow(file, line, why))


def labelled_rows(source: Source) -> ReportRows:
    """Returns the rows of a source of texts, with or without labels.

    Args:
        source: Read with `on_bad_row="skip"`, so that bad rows are counted.
    """

    def rows() -> Iterator[ReportRow]:
        for batch in source.batches():
            texts = zip(batch.texts) if batch.pairs is None else zip(batch.texts, batch.pairs)
            targets = itertools.repeat(None) if batch.targets is None else batch.targets
            for text, target, line in zip(texts, targets, batch.lines.tolist()):
                yield ReportRow(text, target, batch.file, line)

    problem = source.problem.kind if source.problem else None
    read_as = source.description() + _in_words(_unread(source))

    def remarks() -> list[str]:
        return [*source.remarks, *source.notes.lines()]

    read = counting_bad_rows(source, rows)
    return ReportRows(source.files, read_as, read, problem=problem, remarks=remarks)


def counting_bad_rows(
    source: Any, rows: Callable[[], Iterator[ReportRow]]
) -> Callable[[Callable[[str, int, str], None]], Iterator[ReportRow]]:
    """Returns what `ReportRows.read` is, of a source that keeps its bad rows.

    Args:
        source: Read with `on_bad_row="skip"`; has `bad_rows`, the first of them, and
            `bad_row_count`.
        rows: Reads the source, and yields its rows.
    """

    def read(bad: Callable[[str, int, str], None]) -> Iterator[ReportRow]:
        yield from rows()
        for place in source.bad_rows:
            bad(*place)
        for _ in range(source.bad_row_count - len(source.bad_rows)):
            bad("", 0, "")

    return read


def _in_words(unread: Sequence[str]) -> str:
    """Returns what follows a description where columns are not read."""
    more = f" and {len(unread) - _MOST_UNREAD} more" if len(unread) > _MOST_UNREAD else ""
    named = ", ".join(map(repr, unread[:_MOST_UNREAD]))
    return cut(f"; not read: {named}{more}") if unread else ""


def _unread(source: Source) -> list[str]:
    """Returns the columns of the first file that are neither text nor label."""
    file, form, columns = source.readings[0]
    if source.headerless or form.columns is None:
        return []
    used = {*columns.texts, *columns.labels}
    return [name for name in form.columns(file) if name not in used]


def record_rows(
    spec: Any,
    split: str,
    *,
    format: str = "auto",
    system: str | None = None,
    prompt: str | None = None,
    response: str | None = None,
    preferences: bool = False,
) -> ReportRows:
    """Returns conversations or preferences, with what each message says as the texts.

    Args:
        spec: The files.
        split: The part that `starter:NAME` means.
        format: The shape of the rows. Defaults to `"auto"`: told by their columns.
        system: What the system says where it says nothing. Defaults to `None`.
        prompt: The column of what is asked. Defaults to `None`: found.
        response: The column of what is answered. Defaults to `None`: found.
        preferences: Whether each row has a chosen and a rejected answer. Defaults to `False`.

    Raises:
        DataError: If a file holds no such rows.
    """
    from kerasllm.data.chat.conversation_files import ConversationFiles

    files = ConversationFiles(
        spec, split, format, system, "skip",
        prompt=prompt, response=response, preferences=preferences,
    )  # fmt: skip

    def read(bad: Callable[[str, int, str], None]) -> Iterator[ReportRow]:
        for number, line, found, problem in files.rows():
            if problem is None:
                yield ReportRow(_said(found), None, number, line)
            else:
                bad(files.files[number], line, problem)

    noun = "pair" if preferences else "conversation"
    read_as = f"{noun}s: {files.description()}{_in_words(files.unread_columns)}"
    return ReportRows(files.files, read_as, read, noun=noun, remarks=lambda: files.file_remarks)


def _said(found: Any) -> tuple[str, ...]:
    """Returns what is said in a conversation; of a preference both endings."""
    if not hasattr(found, "chosen"):
        return tuple(str(message["content"]) for message in found)
    ends = [*found.chosen, *found.rejected[found.prompt :]]
    return tuple(str(message["content"]) for message in ends)


def passage_rows(spec: Any, split: str) -> ReportRows:
    """Returns the passages of plain text files: what stands between blank lines.

    Args:
        spec: The files, of `TEXT_FILES`.
        split: The part that `starter:NAME` means.
    """
    files = find_files(spec, split)
    for file in files:
        if file.suffix == ".txt":
            refuse_rows_in_text(file)

    def read(bad: Callable[[str, int, str], None]) -> Iterator[ReportRow]:
        for number, file in enumerate(files):
            held: list[str] = []
            first, size = 1, 0
            lines = TextLines(file)
            for line, text in enumerate(itertools.chain(lines, ("",)), start=1):
                if lines.problems:
                    bad(file.name, *lines.take_problem())
                    continue
                # A text without blank lines is cut too.
                if text.strip() and size < _CHUNK_CHARACTERS:
                    first = first if held else line
                    held.append(text)
                    size += len(text)
                elif held:
                    yield ReportRow(("".join(held).strip(),), None, number, first)
                    held, size = [text] if text.strip() else [], 0
                    first = line

    return ReportRows([file.name for file in files], "passages of plain text", read, noun="passage")


def text_rows(spec: Any, split: str, *, text: str | None = None) -> ReportRows:
    """Returns plain texts: the passages of text files, of a folder too, or a column of a table.

    Args:
        spec: The files.
        split: The part that `starter:NAME` means.
        text: The column of the texts, in files that have columns. Defaults to `None`: found by
            common names.
    """
    from kerasllm.data.readers.sources import Source

    files = find_files(spec, split, preferred="text")
    if all(file.suffix in TEXT_FILES and not is_fasttext(file) for file in files):
        return passage_rows(files, split)
    return labelled_rows(Source(files, split=split, text=text, labelled=False, on_bad_row="skip"))


def rows_of_files(
    spec: Any,
    split: str = "train",
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: Any = None,
    like: ReportRows | None = None,
) -> ReportRows:
    """Returns the rows of files whose content no recipe describes.

    Conversations and preferences are told by their keys; files of plain text are read in passages,
    unless they lie in a folder for each class; any other file is a table of texts, with labels
    where there is a column of them.

    Args:
        spec: The files.
        split: The part that `starter:NAME` means. Defaults to `"train"`.
        text: The column of the texts. Defaults to `None`: found by common names.
        text_pair: The column of the second texts. Defaults to `None`: found.
        label: The column of the labels, or several. Defaults to `None`: found, if there is one.
        like: The training data, whose kind of labels the others have. Defaults to `None`.

    Raises:
        DataError: If a file is missing, or no text is found in it.
    """
    from kerasllm.data.readers.sources import Source

    # A folder of texts for each class has labels too.
    files = find_files(spec, split, preferred="text", classes=True)
    labelled = any(map(_has_labels, files))
    if not labelled and all(file.suffix in TEXT_FILES for file in files):
        return passage_rows(files, split)
    named = text or text_pair or label or labelled
    shape, unclear = (None, None) if named else _shape_of(files, split)
    if shape and (shape in _UNMISTAKABLE or files[0].suffix not in _TABLES):
        return record_rows(files, split, preferences=shape == _PREFERENCE)
    options = {
        "split": split,
        "text": text,
        "text_pair": text_pair or (None if text else "auto"),
        "on_bad_row": "skip",
    }
    if like is None or like.problem is not None:
        try:
            problem = like.problem if like and like.problem else "auto"
            return labelled_rows(Source(files, label=label, problem=problem, **options))
        except DataError as error:
            no_text = shape and "No text column" in str(error)
            if label or not (no_text or "No label column" in str(error)):
                raise
    # A table of questions and answers has no labels either.
    if shape:
        return record_rows(files, split, preferences=shape == _PREFERENCE)
    if unclear and not text:
        raise DataError(
            f"The rows look like conversations, but {unclear}",
            where=files[0].name,
            fix=f"name it for a recipe: --recipe gpt_sft_lora {unclear.fix.partition(': ')[2]}; or "
            "read one column as texts: --text COLUMN",
        )
    return labelled_rows(Source(files, labelled=False, **options))


def _has_labels(file: DataFile) -> bool:
    """Whether texts have labels: those of fastText, in folders that name a column or a class."""
    if file.members:
        return True
    return file.suffix == ".txt" and (bool(file.partitions) or is_fasttext(file))


def _shape_of(files: Sequence[Any], split: str) -> tuple[str | None, UnclearShape | None]:
    """Returns the shape of the conversations that the first rows of files are, if they are any.

    Or why it is not clear which column is which.
    """
    from kerasllm.data.chat.formats import UnclearShape, find_shape
    from kerasllm.data.readers.records import first_rows

    unclear = None
    for keys in dict.fromkeys(first_rows([files[0]], split)):
        try:
            shape = find_shape(keys)
        except UnclearShape as error:
            # A column that is called text is the text, regardless of other columns.
            unclear = unclear if _TEXT in map(str.lower, keys) else unclear or error
            continue
        if shape:
            return shape.name, None
    return None, unclear
