"""Texts that are given in Python, for models that read one or two."""

from types import SimpleNamespace

import numpy as np
import pytest

from kerasllm.errors import CommandError, DataError
from kerasllm.tasks.task import PredictOptions
from kerasllm.workflows.python_inputs import checked_prompt, inputs_of


def read(texts, count, **options):
    task = SimpleNamespace(predicts=True, head=lambda model: SimpleNamespace(texts=(None,) * count))
    trained = SimpleNamespace(task=task, open=lambda: None)
    return inputs_of(trained, texts, PredictOptions(**options))


def test_texts_come_in_many_forms():
    for texts in (
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        (text for text in "ab"),
        [("a",), "b"],
    ):
        found = read(texts, 1)
        assert found == ["a", "b"] and {type(text) for text in found} == {str}
    assert read("a", 1) == ["a"] and read([], 1) == []


def test_pairs_are_tuples_of_two():
    assert read([("a", "b"), ["c", "d"]], 2) == [("a", "b"), ("c", "d")]
    for texts in (["a"], "a", [("a", "b", "c")], [("a",)]):
        with pytest.raises(DataError, match="reads 2 texts at a time") as caught:
            read(texts, 2)
        assert "tuples" in caught.value.fix


@pytest.mark.parametrize("texts", [3, None, [None], [float("nan")], [""], [b"a"], [("a", None)]])
def test_what_is_no_text_is_refused(texts):
    with pytest.raises(DataError, match="not a text|not texts"):
        read(texts, 1)


def test_columns_are_for_tables():
    with pytest.raises(CommandError, match="the texts have no columns"):
        read(["a"], 1, text="review")


def test_a_prompt_is_a_text_or_a_conversation():
    assert checked_prompt("Hi", "prompt 0").content == "Hi"
    messages = [{"role": "user", "content": "Hi"}]
    assert checked_prompt(messages, "prompt 0").content == messages
    for prompt in ("", 3, [], [{"role": "user"}], [{"role": "assistant", "content": "Hi"}]):
        with pytest.raises((CommandError, DataError)) as caught:
            checked_prompt(prompt, "prompt 7")
        assert caught.value.where == "prompt 7"
