"""Questions on contexts in records of json, jsonl, csv, tsv and Parquet files.

Known are articles with paragraphs and questions (SQuAD 1.1 and 2.0), and flat records with a
question, a context and answers, as `datasets` writes them.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kerasllm.data.readers.answer_positions import Place, place_of
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import EMPTY_TEXT, LABEL, MISSING_KEY, TEXT_TYPE, Fault
from kerasllm.data.readers.json_files import first_objects, json_kind, json_records
from kerasllm.data.readers.records import records
from kerasllm.data.readers.row_checks import surrogate_problem
from kerasllm.errors import DataError

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
"""The suffixes of files that hold questions."""

# Names of keys, in turn.
_QUESTIONS = ("question", "query", "question_text")
_CONTEXTS = ("context", "passage", "paragraph", "document", "text", "context_text")
_ANSWERS = ("answers", "answer", "answer_text", "answer_texts")
_STARTS = ("answer_start", "answer_starts", "start", "answer_offset")
_IDS = ("id", "qid", "question_id", "_id")
_IMPOSSIBLE = ("is_impossible", "impossible", "unanswerable")
_JSON = (".json", ".jsonl", ".ndjson")


class AnswerAt(NamedTuple):
    """An answer, and the character of its context that it begins at."""

    text: str
    start: int


class QuestionRecord(NamedTuple):
    """A question on a context; or what is wrong with it.

    Attributes:
        line: The line or row that it is in; of an article the line that this begins in.
        id: What the file calls it, or `None`.
        question: The question.
        context: The text that may hold the answer.
        answers: The answers; the first one is trained on; none where the context has none.
        notes: What a user should know of how the answers were found.
        problem: Why it cannot be used, or `None`.
    """

    line: int
    id: str | None = None
    question: str = ""
    context: str = ""
    answers: tuple[AnswerAt, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None


class QuestionKeys(NamedTuple):
    """The keys of flat records that are read; `None` for one that there is not.

    Attributes:
        question: The key of the questions.
        context: The key of the contexts.
        answer: The key of the answers.
        start: The key of where they begin, where answers are plain texts.
        id: The key of what a question is called.
        impossible: The key of whether a question has no answer.
    """

    question: str
    context: str
    answer: str | None = None
    start: str | None = None
    id: str | None = None
    impossible: str | None = None

    def __str__(self) -> str:
        answer = f"answer '{self.answer}'" if self.answer else "no answers"
        return f"question '{self.question}', context '{self.context}', {answer}"


class _Articles(NamedTuple):
    """Files of articles with paragraphs have the keys of SQuAD."""

    def __str__(self) -> str:
        return "articles of SQuAD"


ARTICLES = _Articles()
"""Instead of keys: the file has articles."""

Keys = QuestionKeys | _Articles


def find_keys(
    file: DataFile,
    question: str | None = None,
    context: str | None = None,
    answer: str | None = None,
    *,
    answered: bool = True,
) -> Keys:
    """Returns which keys of a file's records are read.

    Args:
        file: The file.
        question: The key of the questions. Defaults to `None`: the first common name.
        context: The key of the contexts. Defaults to `None`: the first common name.
        answer: The key of the answers. Defaults to `None`: the first common name.
        answered: Whether there must be answers. Defaults to `True`.

    Raises:
        DataError: If the file has no records, or no keys that fit.
    """
    if file.members or file.suffix not in SUFFIXES:
        what = "a folder of classes" if file.members else f"a '{file.suffix}' file"
        raise DataError(
            f"Questions are not read from {what}",
            where=file.name,
            fix=f"give SQuAD JSON, or records with question, context and answer: "
            f"{', '.join(SUFFIXES)}",
        )
    first = first_objects(
        _records(file),
        file,
        'write one object a line: {"question": "...", "context": "...", "answer": "..."}',
    )
    if any(_is_article(record) for record in first):
        return ARTICLES
    there = list(dict.fromkeys(key for record in first for key in record))

    def common(names: Sequence[str]) -> str | None:
        return next((key for key in names if key in there), None)

    wanted = {"question": (question, _QUESTIONS), "context": (context, _CONTEXTS)}
    if answered:
        wanted["answer"] = (answer, _ANSWERS)
    wrong = {role: name for role, (name, _) in wanted.items() if name and name not in there}
    if wrong:
        raise DataError(
            f"There is no key {' and no key '.join(map(repr, wrong.values()))}",
            where=f"{', '.join(f'data.{role}' for role in wrong)}; {file.name}",
            fix=f"available keys: {', '.join(map(repr, there))}",
        )
    found = {role: name or common(names) for role, (name, names) in wanted.items()}
    missing = [role for role, key in found.items() if key is None]
    if missing:
        known = "; ".join(f"{role}: {', '.join(wanted[role][1][:4])}" for role in missing)
        raise DataError(
            f"No {' and no '.join(missing)} was found",
            where=f"{file.name}, keys: {', '.join(map(repr, there))}",
            fix=f"name the key: {' '.join(f'--set data.{role}=KEY' for role in missing)}; common "
            f"names are found ({known})",
        )
    answers = found.get("answer")
    return QuestionKeys(
        found["question"],
        found["context"],
        answers,
        common(_STARTS) if answers else None,
        common(_IDS),
        common(_IMPOSSIBLE),
    )


def read_questions(
    file: DataFile, keys: Keys, *, answered: bool = True
) -> Iterator[QuestionRecord]:
    """Yields the questions of a file.

    Args:
        file: The file.
        keys: What `find_keys` gave.
        answered: Whether answers are read. Defaults to `True`.

    Raises:
        DataError: The file cannot be read on.
    """
    for line, record, problem in _records(file):
        if problem is not None:
            yield QuestionRecord(line, problem=problem)
        elif isinstance(keys, QuestionKeys):
            yield _of_record(line, record, keys, answered)
        else:
            yield from _of_article(line, record, answered)


class _Refused(Exception):
    def __init__(self, what: str, reason: str):
        self.fault = Fault(what, reason)
        super().__init__(what)


def _records(file: DataFile) -> Iterator[tuple[int, dict | None, str | None]]:
    if file.suffix in _JSON and not file.partitions:
        return json_records(file, nested=True)
    return records(file)


def _is_article(record: Mapping[str, Any]) -> bool:
    return any(isinstance(record.get(key), list) for key in ("paragraphs", "qas"))


def _of_article(line: int, record: Mapping[str, Any], answered: bool) -> Iterator[QuestionRecord]:
    """The questions of an article, or of a paragraph that stands alone."""
    paragraphs = record.get("paragraphs", [record])
    if not isinstance(paragraphs, list) or not all(isinstance(one, dict) for one in paragraphs):
        problem = Fault("'paragraphs' is not a list of objects", MISSING_KEY)
        yield QuestionRecord(line, problem=problem)
        return
    for paragraph in paragraphs:
        questions = paragraph.get("qas")
        if not isinstance(questions, list) or not all(isinstance(q, dict) for q in questions):
            problem = Fault("a paragraph has no list 'qas' of questions", MISSING_KEY)
            yield QuestionRecord(line, problem=problem)
            continue
        for one in questions:
            flat = {**one, "context": paragraph.get("context")}
            yield _of_record(line, flat, _OF_ARTICLE, answered)


_OF_ARTICLE = QuestionKeys("question", "context", "answers", None, "id", "is_impossible")


def _of_record(
    line: int, record: Mapping[str, Any], keys: QuestionKeys, answered: bool
) -> QuestionRecord:
    id = record.get(keys.id) if keys.id else None
    id = None if id is None or id == "" else str(id)
    try:
        question = _text("question", record.get(keys.question))
        context = _text("context", record.get(keys.context))
        if not answered or keys.answer is None:
            return QuestionRecord(line, id, question, context)
        told = _answers(record.get(keys.answer), record.get(keys.start) if keys.start else None)
        _check_impossible(record.get(keys.impossible) if keys.impossible else None, told)
        answers, notes = [], []
        for text, start in told:
            if problem := surrogate_problem("answer", text):
                return QuestionRecord(line, id, problem=_named(id, problem))
            found = place_of(context, text, start)
            if not isinstance(found, Place):
                return QuestionRecord(line, id, problem=_named(id, found))
            answers.append(AnswerAt(text, found.start))
            if found.note:
                notes.append(found.note)
    except _Refused as error:
        return QuestionRecord(line, id, problem=_named(id, error.fault))
    return QuestionRecord(line, id, question, context, tuple(answers), tuple(notes))


def _named(id: str | None, problem: str) -> Fault:
    """A problem with the id of its question, which tells more than a line of many."""
    reason = getattr(problem, "reason", LABEL)
    return Fault(f"{id}: {problem}" if id else str(problem), reason)


def _text(role: str, value: Any) -> str:
    if value is None:
        raise _Refused(f"it has no {role}", MISSING_KEY)
    if not isinstance(value, str):
        raise _Refused(f"the {role} is {json_kind(value)}, where a string is expected", TEXT_TYPE)
    if not value.strip():
        raise _Refused(f"the {role} is empty", EMPTY_TEXT)
    if problem := surrogate_problem(role, value):
        raise _Refused(problem, problem.reason)
    return value


def _answers(value: Any, starts: Any) -> list[tuple[str, int | None]]:
    """Returns the answers of a record with their positions, in any supported form."""
    if isinstance(value, str):
        value = _of_cell(value)
    if value is None or value == "":
        return []
    if isinstance(value, dict):
        starts = next((value[key] for key in _STARTS if value.get(key) is not None), None)
        value = value.get("text")
        if value is None:
            raise _Refused("the answers have no 'text'", MISSING_KEY)
    listed = value if isinstance(value, list) else [value]
    if any(isinstance(one, dict) for one in listed):
        found = []
        for one in listed:
            if not isinstance(one, dict):
                raise _Refused(f"an answer is {json_kind(one)}, another an object", LABEL)
            start = next((one[key] for key in _STARTS if one.get(key) is not None), None)
            found.append((_answer(one.get("text")), _start(start)))
        return found
    if isinstance(starts, str):
        starts = _of_cell(starts)
    places = starts if isinstance(starts, list) else [starts]
    if places in ([], [None], [""]):
        places = [None] * len(listed)
    if len(places) != len(listed):
        raise _Refused(f"{len(listed)} answers, and {len(places)} positions of answers", LABEL)
    return [(_answer(text), _start(place)) for text, place in zip(listed, places, strict=True)]


def _answer(text: Any) -> str:
    if not isinstance(text, str):
        raise _Refused(f"an answer is {json_kind(text)}, where a string is expected", TEXT_TYPE)
    if not text.strip():
        raise _Refused("an answer is empty", EMPTY_TEXT)
    return text


def _start(place: Any) -> int | None:
    if isinstance(place, str):
        place = place.strip()
        if place.removeprefix("-").isdecimal():
            place = int(place)
        elif not place:
            place = None
    if isinstance(place, float) and place.is_integer():
        place = int(place)
    if place is None or place == -1:
        return None
    if type(place) is not int:
        raise _Refused(f"the position of an answer is {place!r}, not a whole number", LABEL)
    return place


def _of_cell(text: str) -> Any:
    """Returns what a cell of a table holds: a list or an object as JSON or Python, or its text."""
    begun = text.lstrip()[:1]
    for read in (json.loads, ast.literal_eval) if begun in ("[", "{") else ():
        try:
            with warnings.catch_warnings():
                # Of escapes that a text is free to hold.
                warnings.simplefilter("ignore")
                found = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return found if "text" in found else text
        return found if all(isinstance(one, (str, dict, int)) for one in found) else text
    return text


def _check_impossible(told: Any, answers: Sequence) -> None:
    """Refuses a question that says both that it has an answer and that it has none."""
    if isinstance(told, str):
        told = {"true": True, "1": True, "false": False, "0": False}.get(told.strip().lower())
    if told is None:
        return
    if bool(told) and answers:
        raise _Refused("it has an answer but is marked as impossible", LABEL)
    if not told and not answers:
        raise _Refused("it has no answer but is not marked as impossible", LABEL)
