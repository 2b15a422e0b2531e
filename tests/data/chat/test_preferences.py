"""Rows of preferences as the common data sets have them."""

import pytest

from kerasllm.data.chat.format_rows import read_row
from kerasllm.data.chat.formats import find_shape
from kerasllm.data.chat.messages import BadRow
from kerasllm.data.chat.preferences import read_transcript

USER, GOOD, BAD = (
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
    {"role": "assistant", "content": "B"},
)
SYSTEM = {"role": "system", "content": "S"}


def read(row):
    found = read_row(row, find_shape(row))
    assert found.chosen[: found.prompt] == found.rejected[: found.prompt]
    return found.chosen, found.rejected


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Q", "chosen": "A", "rejected": "B"},
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
        {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": "A", "rejected": "B"},
        {"conversations": [{"from": "human", "value": "Q"}],
         "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}},
        {"prompt": " Q\n", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ],
)  # fmt: skip
def test_the_prompt_is_found_where_data_sets_have_it(row):
    assert read(row) == ([USER, GOOD], [USER, BAD])


def test_what_an_instruction_is_about_is_read():
    row = {"instruction": "Translate.", "input": "Salut", "chosen": "Hi", "rejected": "Bye"}
    chosen, _ = read(row)
    assert chosen[0]["content"] == "Translate.\n\nSalut"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
        {"prompt": [SYSTEM, USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"system": "S", "prompt": "Q", "chosen": [SYSTEM, USER, GOOD],
         "rejected": [SYSTEM, USER, BAD]},
    ],
)  # fmt: skip
def test_the_system_speaks_once(row):
    assert read(row) == ([SYSTEM, USER, GOOD], [SYSTEM, USER, BAD])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"chosen": "A", "rejected": "B"}, "no prompt"),
        (
            {"messages": [USER, GOOD], "chosen": "A", "rejected": "B"},
            "ends with an assistant message",
        ),
        ({"prompt": "P", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "a different prompt"),
        (
            {
                "prompt": [SYSTEM, USER],
                "chosen": [{**SYSTEM, "content": "T"}, USER, GOOD],
                "rejected": [USER, BAD],
            },
            "a different prompt",
        ),
    ],
)
def test_no_prompt_is_guessed(row, why):
    with pytest.raises(BadRow, match=why):
        read(row)


@pytest.mark.parametrize("text", ["Human: alone", "The Human: says\n\nAssistant: A", ""])
def test_other_texts_are_no_transcripts(text):
    assert read_transcript(text) is None


def test_an_empty_instruction_leaves_what_it_is_about():
    row = {"instruction": "", "input": "Q", "output": "A"}
    assert read_row(row, find_shape(row)) == [USER, GOOD]
