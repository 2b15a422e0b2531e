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


def tried(texts: list, predict=lambda instances: [{"label": "same"}], explains=False) -> dict:
    made = trial._Trial.__new__(trial._Trial)
    made.fields, made._explains = ["text", "text_pair"], explains
    made._trained = made._explainer = None
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


@pytest.mark.parametrize("entities", [1, 8, 20])
def test_each_entity_is_explained_up_to_some(monkeypatch, entities):
    def explain(trained, inputs, *, explainer):
        words = [SimpleNamespace(word="Ada", score=0.5), SimpleNamespace(word="x", score=None)]
        for number in range(entities):
            yield SimpleNamespace(
                target=f"Ada {number} [PER]", method="occlusion", words=words, relative_error=None
            )

    monkeypatch.setattr("kerasllm.workflows.explain.explain", explain)
    found = tried(["a", "b"], explains=True)
    assert [one["target"] for one in found["explained"]] == [
        f"Ada {number} [PER]" for number in range(min(entities, 8))
    ]
    assert found["explained"][0]["words"] == [["Ada", 0.5]]
    assert found.get("more", False) == (entities > 8)
