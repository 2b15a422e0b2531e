"""Tagged words and spans of characters in records of jsonl, json and Parquet files.

Known are lists of words and of their tags (as of `datasets`), and texts with spans of characters,
as Label Studio, doccano, Prodigy and spaCy export them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kerasllm.data.readers.class_labels import ClassLabels
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import (
    EMPTY_LABEL,
    EMPTY_TEXT,
    FIELDS,
    LABEL,
    MISSING_KEY,
    TEXT_TYPE,
    Fault,
)
from kerasllm.data.readers.json_files import first_objects, json_kind, json_records
from kerasllm.data.readers.parquet import parquet_class_labels, parquet_records
from kerasllm.errors import DataError

SPANS = "spans that overlap or are misaligned"
"""The kind of fault that spans have."""

_TOKENS = ("tokens", "words", "token", "sentence_tokens")
_TAGS = ("tags", "ner_tags", "pos_tags", "ner", "pos", "tag", "labels", "label", "upos", "xpos")
_TEXTS = ("text", "sentence", "content")
_ENTITIES = ("entities", "ents", "spans", "label", "labels", "annotations")
# Names of what a span says, in turn.
_START, _END = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
_LABEL = ("label", "type", "entity", "tag", "labels", "category", "entity_group")


class Span(NamedTuple):
    """Some characters of a text with a label."""

    start: int
    end: int
    label: str


class TaggedRecord(NamedTuple):
    """A record: words with tags, or a text with spans; or what is wrong with it.

    Attributes:
        line: Its line, or its row in a Parquet file.
        words: Its words, or `None` where it is a text with spans.
        tags: The tags of the words.
        text: Its text, where it has spans.
        spans: The spans, in order.
        problem: Why it cannot be used, or `None`.
    """

    line: int
    words: list[str] | None = None
    tags: list[str] = []
    text: str = ""
    spans: list[Span] = []
    problem: str | None = None


class RecordColumns(NamedTuple):
    """The keys of records that are read.

    Attributes:
        text: The key of the words, or of the text.
        label: The key of the tags, or of the spans; `""` in an export of Label Studio.
        spans: Whether they are spans.
        names: The names of numbers that are tags, by number as text. Defaults to none.
    """

    text: str
    label: str
    spans: bool
    names: Mapping[str, str] = {}

    def __str__(self) -> str:
        if not self.label:
            return "tasks of Label Studio"
        what = "text, spans of characters" if self.spans else "words, tags"
        first, second = what.split(", ")
        return f"{first} '{self.text}', {second} '{self.label}'"


def find_columns(
    file: DataFile,
    text: str | None = None,
    label: str | None = None,
    label_names: Mapping[str, str] | None = None,
) -> RecordColumns:
    """Returns which keys of a file's records are read.

    Args:
        file: The file.
        text: The key of the words or the text. Defaults to `None`: the first common name.
        label: The key of the tags or the spans. Defaults to `None`: the first common name.
        label_names: The names of numbers that are tags. Defaults to `None`: those that the file's
            schema has.

    Raises:
        DataError: If the file has no records, or no keys that fit.
    """
    records = first_objects(
        _records(file), file, 'write one object a line: {"tokens": ["..."], "tags": ["..."]}'
    )
    there = list(dict.fromkeys(key for record in records for key in record))
    if text is None and "data" in there and {"annotations", "completions"} & set(there):
        return RecordColumns("data", "", True)
    for name, role in ((text, "text"), (label, "label")):
        if name is not None and name not in there:
            raise DataError(
                f"There is no key '{name}'",
                where=f"data.{role}; {file.name}",
                fix=f"available keys: {', '.join(map(repr, there))}",
            )

    def held(key: str) -> list:
        return [record[key] for record in records if record.get(key) is not None]

    def is_words(key: str) -> bool:
        return any(_is_words(value) for value in held(key))

    def is_text(key: str) -> bool:
        return any(isinstance(value, str) for value in held(key))

    def is_tags(key: str) -> bool:
        return any(_is_tags(value) for value in held(key))

    def is_spans(key: str) -> bool:
        return all(_is_spans(value) for value in held(key)) and bool(held(key))

    def first(keys: Sequence[str], fits: Callable[[str], bool]) -> str | None:
        return next((key for key in keys if key in there and fits(key)), None)

    words = first([text] if text else _TOKENS, is_words)
    if words is not None:
        candidates: Sequence[str] = (
            [label] if label else [*_TAGS, *(key for key in there if "tag" in key)]
        )
        tags = first(candidates, lambda key: key != words and is_tags(key))
        if tags is not None:
            names = label_names or _names_in(file, tags)
            return RecordColumns(words, tags, False, names or {})
    read = first([text] if text else _TEXTS, is_text)
    if read is not None:
        candidates = [label] if label else _ENTITIES
        spans = first(candidates, lambda key: key != read and is_spans(key))
        if spans is not None:
            return RecordColumns(read, spans, True)
    raise DataError(
        "Neither words with their tags nor a text with spans was found",
        where=f"{file.name}, keys: {', '.join(map(repr, there))}",
        fix='write {"tokens": [...], "tags": [...]} or {"text": "...", "entities": [{"start": 0, '
        '"end": 4, "label": "..."}]}; other keys are named with data.text and data.label',
    )


def read_records(file: DataFile, columns: RecordColumns) -> Iterator[TaggedRecord]:
    """Yields the records of a file.

    Args:
        file: The file.
        columns: What `find_columns` gave.

    Raises:
        DataError: The file cannot be read on.
    """
    for line, record, problem in _records(file):
        if problem is not None:
            yield TaggedRecord(line, problem=problem)
            continue
        try:
            if not columns.label:
                yield _label_studio(line, record)
            elif columns.spans:
                yield _with_spans(line, record, columns)
            else:
                yield _with_tags(line, record, columns)
        except _Refused as error:
            yield TaggedRecord(line, problem=error.fault)


class _Refused(Exception):
    def __init__(self, what: str, reason: str):
        self.fault = Fault(what, reason)
        super().__init__(what)


def _records(file: DataFile) -> Iterator[tuple[int, dict | None, str | None]]:
    return parquet_records(file) if file.suffix == ".parquet" else json_records(file)


def _value(record: Mapping[str, Any], key: str) -> Any:
    if key not in record:
        there = ", ".join(map(repr, list(record)[:10])) or "none"
        raise _Refused(f"no key '{key}' (available keys: {there})", MISSING_KEY)
    return record[key]


def _with_tags(line: int, record: Mapping[str, Any], columns: RecordColumns) -> TaggedRecord:
    words, tags = _value(record, columns.text), _value(record, columns.label)
    if not _is_words(words):
        kind = "an empty list" if words == [] else f"{json_kind(words)}"
        raise _Refused(f"the words are {kind}, where a list of strings is expected", EMPTY_TEXT)
    if not isinstance(tags, list):
        raise _Refused(f"the tags are {json_kind(tags)}, where a list is expected", LABEL)
    if len(tags) != len(words):
        raise _Refused(f"{len(words)} words and {len(tags)} tags", FIELDS)
    named = []
    for tag in tags:
        if isinstance(tag, bool) or tag is None or not isinstance(tag, (str, int)):
            raise _Refused(f"a tag is {json_kind(tag)}", LABEL)
        if isinstance(tag, int):
            if not columns.names:
                raise _Refused(
                    f"the tags are numbers ({tag}), whose names the file does not have; give them "
                    "with data.label_names",
                    LABEL,
                )
            if str(tag) not in columns.names:
                raise _Refused(f"no name is known for the tag {tag}", LABEL)
            tag = columns.names[str(tag)]
        if not tag:
            raise _Refused("a tag is empty", EMPTY_LABEL)
        named.append(tag)
    return TaggedRecord(line, list(words), named)


def _with_spans(line: int, record: Mapping[str, Any], columns: RecordColumns) -> TaggedRecord:
    text = _text(_value(record, columns.text))
    found = record.get(columns.label)
    if found is not None and not isinstance(found, list):
        raise _Refused(f"the spans are {json_kind(found)}, where a list is expected", LABEL)
    return TaggedRecord(line, text=text, spans=_spans(text, [_span(one) for one in found or ()]))


def _label_studio(line: int, record: Mapping[str, Any]) -> TaggedRecord:
    """Reads a task: the first annotation that was not cancelled."""
    data = _value(record, "data")
    annotations = record.get("annotations") or record.get("completions") or []
    kept = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    if not isinstance(data, dict) or not kept:
        raise _Refused("the task has no annotation", EMPTY_LABEL)
    results = [one for one in kept[0].get("result") or () if one.get("type") in ("labels", None)]
    names = {one.get("to_name") for one in results}
    texts = [key for key in (*names, *_TEXTS) if isinstance(data.get(key), str)]
    texts = texts or [key for key, value in data.items() if isinstance(value, str)]
    if not texts:
        raise _Refused("the task has no text", EMPTY_TEXT)
    text = _text(data[texts[0]])
    return TaggedRecord(
        line, text=text, spans=_spans(text, [_span(one.get("value")) for one in results])
    )


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise _Refused(f"the text is {json_kind(text)}, where a string is expected", TEXT_TYPE)
    if not text.strip():
        raise _Refused("the text is empty", EMPTY_TEXT)
    return text


def _span(found: Any) -> tuple[int, int, str, str | None]:
    """Returns start, end, label and, where it is told, the text of a span as an export has it."""
    if isinstance(found, (list, tuple)) and len(found) == 3:
        start, end, label = found
        told = None
    elif isinstance(found, dict):
        start, end, label = (
            next((found[key] for key in keys if found.get(key) is not None), None)
            for keys in (_START, _END, _LABEL)
        )
        told = found.get("text")
    else:
        raise _Refused(f"a span is {json_kind(found)}", LABEL)
    if isinstance(label, list):
        if len(label) != 1:
            raise _Refused(f"a span has {len(label)} labels, where one is expected", LABEL)
        label = label[0]
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in (start, end)):
        raise _Refused("a span has no start and end that are whole numbers", LABEL)
    if not isinstance(label, str) or not label:
        raise _Refused(f"the span {start}-{end} has no label", EMPTY_LABEL)
    return start, end, label, told if isinstance(told, str) else None


def _spans(text: str, found: Sequence[tuple[int, int, str, str | None]]) -> list[Span]:
    """Returns spans in order, in characters and without white space around them."""
    if any(told is not None and text[start:end] != told for start, end, _, told in found):
        found = _of_utf_16(text, found)
    spans = []
    for start, end, label, _ in sorted(found, key=lambda one: one[:2]):
        if not 0 <= start < end <= len(text):
            raise _Refused(
                f"the span {start}-{end} ({label}) is not within the text, which has "
                f"{len(text)} characters",
                SPANS,
            )
        inner = text[start:end]
        start, end = end - len(inner.lstrip()), start + len(inner.rstrip())
        if start >= end:
            raise _Refused(f"a span ({label}) holds nothing but white space", SPANS)
        if spans and start < spans[-1].end:
            other = spans[-1]
            if other == (start, end, label):
                continue
            raise _Refused(
                f"the spans {other.start}-{other.end} ({other.label}) and {start}-{end} ({label}) "
                "overlap",
                SPANS,
            )
        spans.append(Span(start, end, label))
    return spans


def _of_utf_16(text: str, found: Sequence[tuple]) -> list[tuple]:
    """Returns spans in characters that a program in JavaScript counted in units of UTF-16."""
    units = text.encode("utf-16-le", "surrogatepass")

    def characters(place: int) -> int:
        return len(units[: 2 * max(place, 0)].decode("utf-16-le", "ignore"))

    moved = []
    for start, end, label, told in found:
        inner = (characters(start), characters(end))
        if told is not None and text[slice(*inner)] != told:
            raise _Refused(
                f"the span {start}-{end} ({label}) is {text[start:end][:40]!r} in the text, and "
                f"{told[:40]!r} in the file",
                SPANS,
            )
        moved.append((*inner, label, told))
    return moved


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _is_tags(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, (str, int)) and not isinstance(one, bool) for one in value
    )


def _is_spans(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict)
        or (isinstance(one, list) and len(one) == 3 and isinstance(one[0], int))
        for one in value
    )


def _names_in(file: DataFile, column: str) -> dict[str, str] | None:
    if file.suffix != ".parquet":
        return None
    found: ClassLabels | None = parquet_class_labels(file, column)
    return found.by_label if found else None
