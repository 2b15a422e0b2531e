"""Tests of files of questions on contexts, in every layout."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.readers.question_source import QuestionSource
from kerasllm.errors import DataError

CONTEXT = "Ada Lovelace was born in London in 1815. London 🏙 is large; so is Ada's fame."
LONDON, FAME = CONTEXT.index("London"), CONTEXT.index("fame")


def squad(*questions, context=CONTEXT, **more):
    paragraph = {"context": context, "qas": [{"id": f"q{n}", **q} for n, q in enumerate(questions)]}
    return json.dumps(
        {"version": "1.1", "data": [{"title": "A", "paragraphs": [paragraph]}], **more}
    )


def write(path, content, encoding="utf-8"):
    data = content if isinstance(content, bytes) else content.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(spec, **options):
    return list(QuestionSource(spec, **options).questions())


WHERE = {"question": "Where?", "answers": [{"text": "London", "answer_start": LONDON}]}


@pytest.mark.parametrize("name", ["train.json", "train.json.gz", "train.jsonl"])
def test_squad_1_keeps_all_answers(tmp_path, name):
    several = {
        "question": "What?",
        "answers": [
            {"text": "fame", "answer_start": FAME},
            {"text": "Ada's fame", "answer_start": FAME - 6},
        ],
    }
    found = read(write(tmp_path / name, squad(WHERE, several)))
    assert [one.id for one in found] == ["q0", "q1"]
    assert found[0].answers == (("London", LONDON),)
    assert [text for text, _ in found[1].answers] == ["fame", "Ada's fame"]
    for one in found:
        assert all(one.context.startswith(*answer) for answer in one.answers)


def test_squad_2_has_questions_without_an_answer(tmp_path):
    none = {
        "question": "When did she fly?",
        "answers": [],
        "is_impossible": True,
        "plausible_answers": [{"text": "1815", "answer_start": 35}],
    }
    found = read(write(tmp_path / "a.json", squad({**WHERE, "is_impossible": False}, none)))
    assert [len(one.answers) for one in found] == [1, 0]


def flat(**more):
    return {"question": "Where?", "context": CONTEXT, "id": 7, **more}


FLAT = [
    {"answers": {"text": ["London"], "answer_start": [LONDON]}},
    {"answers": [{"text": "London", "answer_start": LONDON}]},
    {"answers": ["London"], "answer_start": [LONDON]},
    {"answer": "London", "answer_start": LONDON},
    {"answer": "London"},
]


@pytest.mark.parametrize("answers", FLAT)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_flat_records_have_answers_in_many_forms(tmp_path, name, answers):
    row = flat(**answers)
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
    else:
        write(tmp_path / name, json.dumps(row if name == "a.jsonl" else [row]))
    (found,) = read(tmp_path / name)
    assert found.id == "7"
    assert found.answers == (("London", LONDON),)


def test_tables_have_answers_as_text_or_as_lists(tmp_path):
    text = json.dumps(CONTEXT).replace('\\"', '""').replace("\\ud83c\\udfd9", "🏙")
    lines = [
        "question,context,answer,answer_start,is_impossible",
        f"Where?,{text},London,{LONDON},false",
        f'Where?,{text},"[""London"", ""in London""]",,false',
        f"Where?,{text},\"{{'text': ['London'], 'answer_start': [{LONDON}]}}\",,false",
        f"Why?,{text},,,true",
    ]
    found = read(write(tmp_path / "a.csv", "\n".join(lines)))
    assert [len(one.answers) for one in found] == [1, 2, 1, 0]
    assert {one.answers[0] for one in found[:3]} == {("London", LONDON)}
    assert [one.id for one in found] == ["1", "2", "3", "4"]


def test_other_keys_are_named(tmp_path):
    row = {"q": "Where?", "p": CONTEXT, "gold": "London"}
    file = write(tmp_path / "a.jsonl", json.dumps(row))
    with pytest.raises(DataError, match="No answer was found"):
        read(file, question="q", context="p")
    with pytest.raises(DataError, match="No question and no context and no answer was") as caught:
        read(file)
    fix = "--set data.question=KEY --set data.context=KEY --set data.answer=KEY"
    assert fix in caught.value.fix
    with pytest.raises(DataError, match="no key 'y' and no key 'z'"):
        read(file, question="y", context="z")
    with pytest.raises(DataError, match="no key 'z'"):
        read(file, question="z")
    (found,) = read(file, question="q", context="p", answer="gold")
    assert found.answers == (("London", LONDON),)


def test_files_without_answers_are_read_to_predict(tmp_path):
    (found,) = read(write(tmp_path / "a.jsonl", json.dumps(flat())), answered=False)
    assert (found.question, found.context, found.answers) == ("Where?", CONTEXT, ())


def test_positions_in_utf_16_are_converted_and_noted(tmp_path):
    answer = {"text": "fame", "answer_start": FAME + 1}
    source = QuestionSource(
        write(tmp_path / "a.json", squad({"question": "What?", "answers": [answer]}))
    )
    (found,) = source.questions()
    assert found.answers == (("fame", FAME),)
    assert "UTF-16 units" in source.notes.lines()[0]


def test_the_first_of_several_matches_is_noted(tmp_path):
    source = QuestionSource(write(tmp_path / "a.jsonl", json.dumps(flat(answer="London"))))
    assert len(list(source.questions())) == 1
    assert "occur several times" in source.notes.lines()[0]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"text": "London", "answer_start": 3},
            f"at character 3 of its context; it is at {LONDON}",
        ),
        ({"text": "london", "answer_start": 25}, f"the nearest is 'London' at {LONDON}"),
        ({"text": "born in  London", "answer_start": 17}, "the nearest is 'born in London "),
        ({"text": "Zzyzx", "answer_start": 3}, "nor anything similar"),
        ({"text": "fame", "answer_start": "x"}, "not a whole number"),
        ({"text": "", "answer_start": 3}, "an answer is empty"),
        ({"text": 5, "answer_start": 3}, "an answer is a number"),
        ({"text": "fame", "answer_start": -5}, f"it is at {FAME}"),
    ],
)
def test_a_misplaced_answer_is_refused_with_place_and_nearest_match(tmp_path, answer, told):
    file = write(tmp_path / "a.json", squad(WHERE, {"question": "Q?", "answers": [answer]}))
    with pytest.raises(DataError) as refused:
        read(file)
    shown = str(refused.value)
    assert "1 question is bad" in shown and told in shown
    assert f"{file}:1: q1" in shown and "data.on_bad_row=skip" in shown


def test_bad_questions_are_skipped_and_counted(tmp_path):
    rows = [
        flat(answer="London"),
        flat(answer="Paris"),
        {"question": " ", "context": CONTEXT, "answer": "London"},
        {"question": "Where?", "context": None, "answer": "London"},
        {"question": "Where?", "context": "\ud83d", "answer": "London"},
        flat(answer="", is_impossible=False),
        flat(answer="London", is_impossible=True),
    ]
    content = "\n".join([*map(json.dumps, rows), "{", "[]"])
    file = write(tmp_path / "a.jsonl", content)
    with pytest.raises(DataError) as refused:
        read(file)
    assert "8 questions are bad" in str(refused.value)
    source = QuestionSource(file, on_bad_row="skip")
    assert len(list(source.questions())) == 1
    assert source.bad_row_count == 8
    assert [line for _, line, _ in source.bad_rows] == list(range(2, 10))
    assert source.bad_row_reasons["answers that are not in their context"] == 1


def test_what_is_no_question_is_refused(tmp_path):
    with pytest.raises(DataError, match="not read from a '.txt' file"):
        read(write(tmp_path / "a.txt", "Where?\n"))
    with pytest.raises(DataError, match="no readable record"):
        read(write(tmp_path / "a.jsonl", ""))
    bad = write(tmp_path / "b.jsonl", json.dumps({"paragraphs": [{"context": "a"}]}))
    with pytest.raises(DataError, match="no list 'qas'"):
        read(bad)


def test_the_fingerprint_tells_files_and_keys_apart(tmp_path):
    one = write(tmp_path / "a.jsonl", json.dumps(flat(answer="London", other="Ada")))
    same = QuestionSource(one).fingerprint
    assert QuestionSource(one).fingerprint == same
    assert QuestionSource(one, answer="other").fingerprint != same
    assert QuestionSource(one, answered=False).fingerprint != same
