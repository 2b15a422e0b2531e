"""What the page is told of texts that are tried: an answer, or one readable message."""

import json
from types import SimpleNamespace

import pytest

from kerasllm.errors import CommandError
from kerasllm.serving.refusal import Refusal
from kerasllm.tasks.task import InputText, Instance
from kerasllm.watch import trial


class Pair(Instance):
    text: InputText
    text_pair: InputText


def tried(texts: list, predict=lambda instances: [{"label": "same"}]) -> dict:
    made = trial._Trial.__new__(trial._Trial)
    made.fields, made._explains = ["text", "text_pair"], False
    made._api = SimpleNamespace(generator=None, Instance=Pair, predict=predict)
    return trial._answer(made, json.dumps({"texts": texts}))


def test_texts_are_predicted():
    assert tried(["a", "b"]) == {"outputs": {"label": "same"}}


@pytest.mark.parametrize("texts", [["a", ""], ["a", " "], ["", "b"], ["a", "\ud800"]])
def test_a_field_without_a_text_is_named_in_a_sentence(texts):
    [message] = tried(texts).values()
    assert "text" in message and "\n" not in message and "pydantic" not in message
    assert "Error" not in message


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Refusal(400, "The text is too long"), "The text is too long"),
        (CommandError("It reads no word", fix="give it some"), "It reads no word: give it some"),
        (ZeroDivisionError("x"), "ZeroDivisionError: x"),
    ],
)
def test_what_the_model_refuses_is_told_and_the_process_stays(error, told):
    def predict(instances):
        raise error

    assert tried(["a", "b"], predict) == {"error": told}


def test_texts_without_end_are_refused():
    assert "longer than 20,000" in tried(["a" * 20_001, "b"])["error"]
