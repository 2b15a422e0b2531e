"""One reader: training, generation from files and from Python, and the server agree on messages."""

import json
from collections import Counter

import numpy as np
import pytest

from kerasllm.data.chat.format_rows import read_row
from kerasllm.data.chat.messages import FROM_STRING, BadRow, to_answer, without_mark
from kerasllm.data.chat.templates import own
from kerasllm.errors import DataError
from kerasllm.serving.openai_request import parse_chat
from kerasllm.serving.refusal import Refusal
from kerasllm.workflows.prompt_rows import files_of_prompts, prompt_rows

USER = {"role": "user", "content": "Q"}
HI = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
CALL = {"role": "assistant", "content": "x", "tool_calls": [{"id": "1", "type": "function"}]}
ACCEPTED = {
    "plain": ([USER], [USER]),
    "parts": ([{"role": "user", "content": [{"type": "text", "text": "Q"}]}], [USER]),
    "several parts": (
        [{"role": "user", "content": [{"type": "text", "text": x} for x in "Qq"]}],
        [{"role": "user", "content": "Qq"}],
    ),
    "developer": (
        [{"role": "developer", "content": "S"}, USER],
        [{"role": "system", "content": "S"}, USER],
    ),
    "capitals": ([{"role": "User", "content": "Q"}], [USER]),
    "empty system": ([{"role": "system", "content": " "}, USER], [USER]),
    "two of a role": ([USER, USER], [{"role": "user", "content": "Q\n\nQ"}]),
    "two systems": (
        [{"role": "system", "content": x} for x in "ST"] + [USER],
        [{"role": "system", "content": "S\n\nT"}, USER],
    ),
    "turns": ([*HI, USER], [*HI, USER]),
    "mark": ([{"role": "user", "content": "\ufeffQ"}], [USER]),
}
REFUSED = {
    "image": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
    "tool": [*HI, {"role": "tool", "content": "4", "tool_call_id": "1"}, USER],
    "tool call": [USER, CALL, USER],
    "assistant first": [HI[1], USER],
    "system later": [*HI, {"role": "system", "content": "S"}, USER],
    "empty user": [{"role": "user", "content": " "}],
    "nobody": [],
    "system alone": [{"role": "system", "content": "S"}],
    "unknown": [{"role": "critic", "content": "S"}, USER],
    "null": [{"role": "user", "content": None}],
    "half a character": [{"role": "user", "content": "\ud83d"}],
}


def trained(messages, tmp_path):
    answer = {"role": "assistant", "content": "A"}
    return read_row({"messages": [*messages, answer]}, "messages")[:-1]


def generated(messages, tmp_path):
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    [content] = read_prompts(tmp_path / "prompts.jsonl")
    return content


def read_prompts(path):
    for row in prompt_rows(files_of_prompts([path])):
        if row.problem:
            what, _, fix = row.problem.partition("; write ")
            raise DataError(what, where=row.where, fix=f"write {fix}")
        yield row.input.content


def written_in_python(messages, tmp_path):
    return to_answer(messages)


def served(messages, tmp_path):
    [content] = parse_chat({"model": "m", "messages": messages}, "m", 20).contents
    return content


READERS = (trained, generated, written_in_python, served)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", ACCEPTED)
def test_what_one_reader_accepts_all_accept(read, case, tmp_path):
    messages, found = ACCEPTED[case]
    assert read(messages, tmp_path) == found


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_one_reader_refuses_all_refuse(read, case, tmp_path):
    with pytest.raises((BadRow, DataError, Refusal)):
        read(REFUSED[case], tmp_path)


def test_an_answer_without_a_word_can_be_continued_but_is_not_learned():
    turns = [HI[0], {"role": "assistant", "content": ""}, USER]
    assert to_answer(turns) == turns
    with pytest.raises(BadRow, match=r"message 2 \(assistant\) is empty"):
        read_row({"messages": [*turns, HI[1]]}, "messages")


def test_the_advice_on_a_refused_conversation_works(tmp_path):
    with pytest.raises(DataError, match="must end with a user message") as error:
        generated(HI, tmp_path)
    shown = error.value.fix.removeprefix("write ").partition("; ")[0].replace(", ...", "")
    assert generated(json.loads(shown), tmp_path) == [{"role": "user", "content": "..."}]


def test_marks_of_files_are_no_part_of_prompts(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    assert list(read_prompts(tmp_path / "a.txt")) == ["one", "two"]
    row = json.dumps({"Prompt": "\ufeffone"}).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + row + b"\n" + row + b"\n")
    assert list(read_prompts(tmp_path / "a.jsonl")) == ["one", "one"]
    assert without_mark("\ufeff\ufeffone") == "one"


def test_marks_of_templates_and_system_messages_are_left_out():
    from tests.data.chat.test_conversations import TOY

    marked = own("\ufeff{{ messages[0].content }}", TOY)
    assert marked.render([USER]) == "Q" and marked.source == "{{ messages[0].content }}"
    asked = read_row({"messages": HI}, "messages", "\ufeffBe brief.")
    assert asked[0] == {"role": "system", "content": "Be brief."}
    assert read_row({"messages": HI}, "messages", "\ufeff ") == HI


def test_keys_that_are_no_strings_make_a_bad_row():
    with pytest.raises(BadRow, match="role of message 1"):
        read_row({"messages": "[{1: 'user', 'content': 'Q'}]"}, "messages")


def test_messages_that_numpy_showed_are_read():
    """As pandas writes in csv what it has read from Parquet."""
    rows = np.array([USER, {"role": "assistant", "content": "a}\n {'b'"}])
    notes = Counter()
    assert read_row({"messages": str(rows)}, "messages", notes=notes) == rows.tolist()
    assert notes == {FROM_STRING: 1}
