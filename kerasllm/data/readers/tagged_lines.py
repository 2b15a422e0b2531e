"""Sentences of tagged words in text files: one word per line with columns (CoNLL), or word/tag
(Brown).

Which of the two a file is, and what separates its columns, is told by its first lines.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import EMPTY_LABEL, FIELDS, Fault, Notes
from kerasllm.data.readers.text_lines import TextLines
from kerasllm.errors import DataError

DOCUMENT = "-DOCSTART-"
"""The word of a line that begins a document, and is no word."""

_LINES_LOOKED_AT = 2000
# So many of the words of a line have a tag after this, where the lines are sentences.
_TAGGED = 0.9
_SEPARATORS = ("/", "_", "|")
_CONLL_U = 10
_WORD, _UPOS = 1, 3
_COMMENT = re.compile(r"#\s?\S+\s*=|#\s?(?:newdoc|newpar)\b|#\s*$")
# Of CoNLL-U: a range of words that are one in the text, or a word that the text has not.
_NO_WORD = re.compile(r"\d+[-.]\d+")


class TaggedSentence(NamedTuple):
    """A sentence of a file: good, or with what is wrong with it.

    Attributes:
        line: The line that it begins in, from 1; if it cannot be used, the line that is wrong.
        words: Its words.
        tags: Their tags.
        problem: Why it cannot be used, or `None`.
    """

    line: int
    words: list[str]
    tags: list[str]
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a text file of tagged words is laid out.

    Attributes:
        kind: `"columns"`, one word per line; or `"sentences"`, one sentence per line.
        separator: What is between columns (`None`: any white space), or a word and its tag.
        columns: The number of columns. Defaults to `2`.
        word: The number of the column of the words, from 0. Defaults to `0`.
        tag: That of the tags. Defaults to `1`.
    """

    kind: str
    separator: str | None
    columns: int = 2
    word: int = 0
    tag: int = 1

    def __str__(self) -> str:
        if self.kind == "sentences":
            return f"one sentence per line, word{self.separator}tag"
        what = "tabs" if self.separator == "\t" else "white space"
        return (
            f"one word per line, {self.columns} columns separated by {what}: word in column "
            f"{self.word}, tag in column {self.tag}"
        )


def find_layout(file: DataFile, tag_column: int | None = None) -> Layout:
    """Returns how a file is laid out.

    Args:
        file: The file.
        tag_column: The number of the column of the tags, from 0; below 0, from the last one.
            Defaults to `None`: the last one; of CoNLL-U the parts of speech.

    Raises:
        DataError: If it holds no tagged words, or has no such column.
    """
    lines = [line.strip("\r\n") for line in itertools.islice(TextLines(file), _LINES_LOOKED_AT)]
    filled = [line for line in lines if line.strip()]
    if not filled:
        raise DataError("The file is empty", where=file.name, fix="give a file with tagged words")
    for separator in _SEPARATORS:
        if _is_tagged_text(filled, separator):
            if tag_column is not None:
                raise DataError(
                    f"The file has one sentence per line, word{separator}tag, and no columns",
                    where=f"data.tag_column={tag_column}; {file.name}",
                    fix="leave data.tag_column out",
                )
            return Layout("sentences", separator)
    words = [line for line in filled if not line.startswith((DOCUMENT, "#"))] or filled
    separator = "\t" if 2 * sum("\t" in line.strip() for line in words) >= len(words) else None
    counts = Counter(len(_fields(line, separator)) for line in words)
    columns = counts.most_common(1)[0][0]
    if columns < 2:
        raise DataError(
            "The file holds no tagged words: its lines have one column",
            where=f"{file.name}:1: {filled[0][:60]}",
            fix="write a word and its tag a line, separated by a tab or a space, and an empty line "
            "after each sentence; or one sentence per line, as word/tag",
        )
    conll_u = columns == _CONLL_U and sum(_is_number(line, separator) for line in words) > (
        0.9 * len(words)
    )
    word, last = (_WORD, _UPOS) if conll_u else (0, columns - 1)
    tag = last if tag_column is None else tag_column % columns if tag_column < 0 else tag_column
    if not 0 <= tag < columns or tag == word or (tag_column or 0) < -columns:
        raise DataError(
            f"There is no column {tag_column} of tags: the file has {columns} columns, and its "
            f"words are in column {word}",
            where=f"data.tag_column={tag_column}; {file.name}",
            fix=f"give a number from {1 - word} to {columns - 1}, or -1 for the last column",
        )
    return Layout("columns", separator, columns, word, tag)


def read_sentences(
    file: DataFile, layout: Layout, notes: Notes | None = None
) -> Iterator[TaggedSentence]:
    """Yields the sentences of a file.

    Args:
        file: The file.
        layout: What `find_layout` gave of it.
        notes: Takes what is met that is not a fault. Defaults to `None`: it is not counted.

    Raises:
        DataError: The file cannot be read on.
    """
    notes = notes or Notes()
    if layout.kind == "sentences":
        return _of_tagged_text(file, layout)
    return _of_columns(file, layout, notes)


def _of_tagged_text(file: DataFile, layout: Layout) -> Iterator[TaggedSentence]:
    lines = TextLines(file)
    for number, line in enumerate(lines, start=1):
        if lines.problems:
            yield TaggedSentence(number, [], [], lines.take_problem()[1])
            continue
        words, tags, problem = [], [], None
        for each in line.split():
            word, separator, tag = each.rpartition(layout.separator)
            if not (separator and word and tag):
                what = f"{each[:40]!r} has no tag after a {layout.separator!r}"
                problem = problem or Fault(what, EMPTY_LABEL)
            words.append(word)
            tags.append(tag)
        if words:
            yield TaggedSentence(number, words, tags, problem)


def _of_columns(file: DataFile, layout: Layout, notes: Notes) -> Iterator[TaggedSentence]:
    lines = TextLines(file)
    first, words, tags, problem = 0, [], [], None
    for number, raw in enumerate(lines, start=1):
        line = raw.strip("\r\n")
        broken = lines.take_problem()[1] if lines.problems else None
        if not line.strip():
            if words or problem:
                yield TaggedSentence(first, words, tags, problem)
            first, words, tags, problem = 0, [], [], None
            continue
        fields = _fields(line, layout.separator)
        if fields[0].startswith(DOCUMENT):
            if words or problem:
                yield TaggedSentence(first, words, tags, problem)
            first, words, tags, problem = 0, [], [], None
            notes.add(
                f"{DOCUMENT} lines, which start a document and are not words",
                f"{file.name}:{number}",
            )
            continue
        if _COMMENT.match(line) and (len(fields) != layout.columns or layout.word == _WORD):
            continue
        if layout.word == _WORD and _NO_WORD.fullmatch(fields[0]):
            continue
        if problem is not None:
            continue
        if broken is not None:
            problem = broken
        elif len(fields) != layout.columns:
            are = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            problem = Fault(f"{are}, where other lines have {layout.columns}", FIELDS)
        elif not fields[layout.tag]:
            problem = Fault("the tag is empty", EMPTY_LABEL)
        else:
            words.append(fields[layout.word])
            tags.append(fields[layout.tag])
        # The line of the fault is the place of a sentence that has one.
        first = number if problem else first or number
    if words or problem:
        yield TaggedSentence(first, words, tags, problem)


def _fields(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    return [field.strip(" ") for field in line.split(separator)]


def _is_number(line: str, separator: str | None) -> bool:
    return _fields(line, separator)[0].partition("-")[0].partition(".")[0].isdigit()


def _is_tagged_text(lines: list[str], separator: str) -> bool:
    """Tells whether lines are sentences whose words have tags."""
    words = [word for line in lines for word in line.split()]
    tagged = sum(0 < word.rfind(separator) < len(word) - 1 for word in words)
    # A column of words or of tags may hold it as well; a line has several words then, all with it.
    return len(words) > 0 and tagged >= _TAGGED * len(words)
