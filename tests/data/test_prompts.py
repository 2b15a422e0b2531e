"""Prompts to try a model on: the questions of conversations of any shape, paragraphs of texts."""

import json
from types import SimpleNamespace

import pytest

from kerasllm.data.prompts import prompts_of
from kerasllm.recipe import load
from tests.data.chat.test_conversations import CHATML, TOY, said

MODEL = SimpleNamespace(tokenizer=TOY, chat_template=CHATML, max_length=None)
ASKED = CHATML.render(said("Where is it?"), add_generation_prompt=True)


@pytest.mark.parametrize(
    ("row", "noun"),
    [
        ({"question": "Where is it?", "answer": "Here."}, "conversation"),
        ({"messages": said("Where is it?", "Here.")}, "conversation"),
        ({"prompt": "Where is it?", "chosen": "Here.", "rejected": "There."}, "pair"),
        ({"text": "A paragraph that is long enough.\n\nshort"}, "paragraph"),
        ({"text": "A paragraph that is long enough.", "question": "a", "answer": "b"}, "paragraph"),
    ],
)
def test_prompts_are_what_comes_before_the_answer(tmp_path, row, noun):
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(row) + "\n") * 2 + '{"messages": []}\n' * (noun != "paragraph"))
    texts, files, found = prompts_of(str(path), "train", None, MODEL)
    assert found == noun and files == (str(path),)
    expected = "A paragraph that is long enough." if noun == "paragraph" else ASKED
    assert list(texts) == [expected] * 2


def test_prompts_are_read_as_the_recipe_says(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("title,body,text\nWhere is it?,Here.,x\n")
    named = ["data.prompt=title", "data.response=body", f"data.train={path}"]
    texts, _, noun = prompts_of(str(path), "train", load("gpt_sft_lora", named).data, MODEL)
    assert list(texts) == [ASKED] and noun == "conversation"
