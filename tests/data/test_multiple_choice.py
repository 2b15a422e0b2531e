"""Questions with choices: how they are written, and what is refused with its place."""

import json

import pytest

from kerasllm.data.multiple_choice import read_questions
from kerasllm.errors import DataError


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def row(answer=0, question="Which?", choices=("one", "two", "B")):
    return {"question": question, "choices": choices, "answer": answer}


@pytest.mark.parametrize(
    ("answer", "number"), [(0, 0), (2, 2), ("two", 1), ("A", 0), ("c", 2), ("B", 2), (" one ", 0)]
)
def test_an_answer_is_a_number_a_text_or_a_letter(tmp_path, answer, number):
    # "B" is the text of the third choice, which comes before letters.
    found = read_questions(write(tmp_path / "quiz.jsonl", row(answer)))
    assert [question.answer for question in found] == [number]
    assert found[0].choices == ("one", "two", "B") and found[0].line == 1


def test_a_list_in_a_json_file(tmp_path):
    (tmp_path / "quiz.json").write_text(json.dumps([row(), row(1)]))
    assert [question.answer for question in read_questions(tmp_path / "quiz.json")] == [0, 1]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"question": "Which?", "choices": ["a", "b"]}, "no 'answer'"),
        ({"choices": ["a", "b"]}, "no 'question' and no 'answer'"),
        (row(3), "the answer 3 is not one of the 3 choices"),
        (row(-1), "the answer -1 is not one of the 3 choices"),
        (row(True), "the answer True is not one of the 3 choices"),
        (row("four"), "the answer 'four' is not one of the 3 choices"),
        (row("D"), "the answer 'D' is not one of the 3 choices"),
        (row(question="  "), "the question is empty"),
        (row(question=7), "the question is a number, where a string is expected"),
        (row(choices=["one", " "]), "choice 2 is empty"),
        (row(choices=["one", 2]), "choice 2 is a number"),
        (row(choices=["one"]), "'choices' has 1, where two or more are expected"),
        (row(choices="one, two"), "'choices' is a string, where a list is expected"),
        ("[1, 2]", "a list"),
        ('{"question": ', "JSON"),
    ],
)
def test_bad_rows_are_refused_with_their_line(tmp_path, bad, words):
    file = write(tmp_path / "quiz.jsonl", row(), bad)
    with pytest.raises(DataError, match="1 row is not a multiple-choice question") as error:
        read_questions(file)
    assert f"{file}:2: " in error.value.where and words in error.value.where
