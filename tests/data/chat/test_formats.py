"""Rows in the shapes in which people have conversations are told by their columns."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.chat.conversations import holds_conversations, kind_of_rows
from kerasllm.data.chat.format_rows import read_row
from kerasllm.data.chat.formats import UnclearShape, find_shape
from kerasllm.data.chat.messages import (
    EMPTY_SYSTEM,
    FROM_STRING,
    JOINED,
    JOINED_TEXTS,
    MARKED,
    NUMBER,
    ROLES,
    TURNS,
    BadRow,
)
from kerasllm.data.chat.templates import ChatTemplate
from kerasllm.errors import DataError


def said(*contents, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)
    ]


def read(row, **options):
    return read_row(row, find_shape(row, **options))


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q", "answer": "A"},  # GSM8K
        {"prompt": "Q", "response": "A"},
        {"prompt": "Q", "completion": "A"},
        {"Prompt": "Q", "Response": "A"},
        {"INSTRUCTION": "Q", "OUTPUT": "A"},
        {"input": "Q", "output": "A"},
        {"query": "Q", "answer": "A"},
        {"query": "Q", "response": "A", "original_question": "q"},  # MetaMath
        {"problem": "Q", "solution": "A"},  # MATH
        {"message": "Q", "reply": "A"},
        {"user": "Q", "assistant": "A"},
        {"inputs": "Q", "targets": "A"},  # FLAN
        {"Context": "Q", "Response": "A"},
        {"instruction": "Q", "context": "", "response": "A", "category": "qa"},  # Dolly
        {"instruction": "Q", "input": "", "output": "A", "text": "Below is..."},  # Alpaca
        {"conversation": said("Q", "A")},
        {"Messages": [{"Role": "User", "Content": "Q"}, {"Role": "Assistant", "Content": "A"}]},
        {"messages": json.dumps(said("Q", "A"))},
        {"messages": repr(said("Q", "A"))},
        {"prompt": said("Q"), "completion": said("Q", "A")[1:]},
        {"prompt": json.dumps(said("Q")), "completion": "A"},
        {"conversations": [{"from": "Human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    ],
    ids=lambda row: "-".join(row),
)
def test_common_shapes_are_conversations(row):
    assert read(row) == said("Q", "A")


def test_system_and_context_are_read_where_they_are():
    orca = {"id": "1", "system_prompt": "S", "question": "Q", "response": "A"}
    assert read(orca) == said("Q", "A", system="S")
    assert str(find_shape(orca)) == (
        "system 'system_prompt', user 'question', assistant 'response'"
    )
    dolly = {"instruction": "Q", "context": "C", "response": "A"}
    assert read(dolly) == said("Q\n\nC", "A")
    assert read({"system": "S", "messages": said("Q", "A")}) == said("Q", "A", system="S")
    assert read({"System Prompt": "", "question": "Q", "answer": "A"}) == said("Q", "A")


@pytest.mark.parametrize(
    "keys",
    [
        ["title", "content"],
        ["content"],
        ["message"],
        ["title", "body"],
        ["text", "label"],
        ["question", "choices", "answer"],
        ["sentence1", "sentence2"],
        ["answer"],
    ],
)
def test_other_columns_tell_no_conversation(keys):
    assert find_shape(keys) is None


def test_two_columns_for_one_role_are_not_guessed_between():
    with pytest.raises(UnclearShape, match="'answer' and 'solution' could each be the response"):
        find_shape(["question", "answer", "solution"])
    found = find_shape(["question", "answer", "solution"], response="answer")
    assert str(found) == "user 'question', assistant 'answer'"


@pytest.mark.parametrize(
    ("messages", "found", "note"),
    [
        ([{"role": "system", "content": ""}, *said("Q", "A")], said("Q", "A"), EMPTY_SYSTEM),
        ([{"role": "system", "content": " "}, *said("Q", "A")], said("Q", "A"), None),
        ([*said("Q"), *said("R"), *said("", "A")[1:]], said("Q\n\nR", "A"), JOINED),
        ([*said("Q", "A"), *said("", "B")[1:]], said("Q", "A\n\nB"), JOINED),
        ([{"role": "developer", "content": "S"}, *said("Q", "A")],
         said("Q", "A", system="S"), None),
        (said("\ufeffQ", "A"), said("Q", "A"), MARKED),
        (json.dumps(said("Q", "A")), said("Q", "A"), FROM_STRING),
    ],
)  # fmt: skip
def test_messages_are_read_in_the_forms_that_people_have(messages, found, note):
    notes = Counter()
    assert read_row({"messages": messages}, "messages", notes=notes) == found
    assert note is None or notes == {note: 1}


def test_numbers_are_texts():
    notes = Counter()
    row = {"prompt": 3, "completion": 4.5}
    assert read_row(row, find_shape(row), notes=notes) == said("3", "4.5")
    assert notes == {NUMBER: 2}
    row = {"question": "Is it?", "answer": True}
    assert read(row) == said("Is it?", "true")
    with pytest.raises(BadRow, match="no 'completion'"):
        read({"prompt": "a", "completion": float("nan")})
    with pytest.raises(BadRow, match="no 'completion'"):
        read({"prompt": "a", "completion": None})


def test_a_text_column_is_the_text_where_other_names_mean_little(tmp_path):
    def written(row):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n")
        return path

    assert holds_conversations(written({"question": "a", "answer": "b"}))
    assert not holds_conversations(written({"question": "a", "answer": "b", "text": "c"}))
    assert holds_conversations(written({"instruction": "a", "output": "b", "text": "c"}))
    assert kind_of_rows(written({"chosen": "a", "rejected": "b"})) == "pair"
    with pytest.raises(DataError, match="could each be the response") as error:
        holds_conversations(written({"question": "a", "answer": "b", "solution": "c"}))
    assert "--set data.response=answer, or solution" in error.value.fix
    (tmp_path / "rows.csv").write_text("question,answer\na,b\n")
    assert holds_conversations(tmp_path / "rows.csv")


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["[", "[{", '[{"role": "user", "content": "a"}]', "[1]", "user", "system"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "weight", "type", "text", "Role"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
_KEYS = st.sampled_from(
    ["messages", "conversations", "prompt", "Question", "answer", "response", "instruction",
     "input", "output", "chosen", "rejected", "system", "context", "text"]
)  # fmt: skip


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_any_row_is_read_or_bad(row):
    """Whatever is in it, the reason is told in words."""
    try:
        shape = find_shape([key for key, value in row.items() if value is not None])
        found = shape and read_row(row, shape)
    except (BadRow, UnclearShape) as error:
        assert str(error)
    else:
        for message in found if isinstance(found, list) else ():
            assert message["content"].strip() and message["role"] in ROLES


# Lists of texts, other names of preferences, exports of chat sites, tools


@pytest.mark.parametrize("key", ["data", "conversation", "dialog"])
def test_lists_of_texts_are_turns(key):
    row = {"id": "7", key: ["Q", "A", "Q2", "A2"]}
    notes = Counter()
    assert read_row(row, find_shape(row), notes=notes) == said("Q", "A", "Q2", "A2")
    assert notes == {TURNS: 1}
    with pytest.raises(BadRow, match="ends with a user message"):
        read({**row, key: ["Q", "A", "Q2"]})


def test_a_list_of_messages_that_are_json():
    assert read({"messages": [json.dumps(one) for one in said("Q", "A")]}) == said("Q", "A")


def test_data_beside_other_columns_are_no_turns():
    assert find_shape(["id", "data", "annotations"]) is None


def test_preferences_as_openai_names_them():
    row = {
        "input": {"messages": said("Q"), "tools": [], "parallel_tool_calls": True},
        "preferred_output": [{"role": "assistant", "content": "A"}],
        "non_preferred_output": [{"role": "assistant", "content": "B"}],
    }
    found = read(row)
    assert (found.chosen, found.rejected, found.prompt) == (said("Q", "A"), said("Q", "B"), 1)
    assert read({"input": "Q", "chosen": "A", "rejected": "B"}).chosen == said("Q", "A")


def node(name, parent, role, content, **more):
    kind = more.pop("kind", "text")
    message = {"author": {"role": role}, "content": {"content_type": kind, "parts": [content]}}
    return {"id": name, "parent": parent, "message": {**message, **more}}


def exported(*nodes):
    mapping = {each["id"]: each for each in [{"id": "root", "parent": None}, *nodes]}
    return {"title": "T", "mapping": mapping, "current_node": nodes[-1]["id"]}


def test_conversations_that_chatgpt_exports():
    row = exported(
        node("s", "root", "system", ""),
        node("h", "s", "user", "about me", metadata={"is_visually_hidden_from_conversation": True}),
        node("q", "h", "user", "Q"),
        node("old", "q", "assistant", "written again"),
        node("t", "q", "assistant", "hm", kind="thoughts"),
        node("a", "t", "assistant", "A"),
    )
    assert read(row) == said("Q", "A")
    row["mapping"]["a"]["message"]["content"] = {"content_type": "code", "text": "x"}
    with pytest.raises(BadRow, match="holds code, where text is expected"):
        read(row)
    row["mapping"]["a"]["parent"] = "lost"
    with pytest.raises(BadRow, match="'lost' is missing"):
        read(row)


def test_conversations_that_claude_exports():
    messages = [{"sender": "human", "text": "Q"}, {"sender": "assistant", "text": "A"}]
    row = {"uuid": "1", "name": "T", "chat_messages": messages}
    assert read(row) == said("Q", "A")
    messages[0]["attachments"] = [{"file_name": "x.pdf"}]
    with pytest.raises(BadRow, match="contains more than text"):
        read(row)


TOOL = {"type": "function", "function": {"name": "search", "parameters": {}}}


@pytest.mark.parametrize(
    "tools",
    [
        {"tools": [TOOL]},
        {"tools": json.dumps([TOOL])},
        {"Tools": TOOL},
        {"functions": [TOOL["function"]]},
    ],
)
@pytest.mark.parametrize("system", [None, "S"])
def test_tools_beside_messages_go_to_the_template(tools, system):
    found = read({"messages": said("Q", "A"), **tools})
    assert found[0]["tools"] == [TOOL] and "tools" not in found[1]
    messages = said("Q", "A", system=system)
    found = read({"messages": messages, **tools})
    template = ChatTemplate("{% for tool in tools or [] %}[{{ tool.function.name }}]{% endfor %}")
    assert template.render(found) == "[search]" and template.render(messages) == ""


def test_tools_that_are_none():
    for nothing in ([], "", None, "[]"):
        assert read({"messages": said("Q", "A"), "tools": nothing}) == said("Q", "A")
    with pytest.raises(BadRow, match="'tools' is a string, where a list of objects"):
        read({"messages": said("Q", "A"), "tools": "search"})


def test_documents_that_a_prompt_is_about_are_no_turns():
    row = {"question": "Q", "context": ["one", "two"], "answer": "A"}
    notes = Counter()
    assert read_row(row, find_shape(row), notes=notes) == said("Q\n\none\n\ntwo", "A")
    assert notes == {JOINED_TEXTS: 1}
    with pytest.raises(BadRow, match="'answer' is a list of texts"):
        read({"question": "Q", "answer": ["A", "B"]})
    with pytest.raises(BadRow, match="'context' is a list of messages"):
        read({"question": "Q", "context": said("x", "y"), "answer": "A"})


@pytest.mark.parametrize("history", [[["q", "a"]], '[["q", "a"]]'])
def test_exchanges_before_the_prompt(history):
    row = {"instruction": "Q", "input": "", "output": "A", "history": history, "system": "S"}
    assert read(row) == said("q", "a", "Q", "A", system="S")
    assert read({**row, "history": []}) == said("Q", "A", system="S")
    assert read({"prompt": "Q", "response": "A", "history": history}) == said("q", "a", "Q", "A")
    with pytest.raises(BadRow, match="'history' is not a list of exchanges"):
        read({**row, "history": ["q", "a"]})


def test_turns_of_input_and_output():
    turns = [{"input": "Q", "output": "A"}, {"input": "Q2", "output": "A2"}]
    assert read({"conversation": turns}) == said("Q", "A", "Q2", "A2")


def test_answers_that_were_rejected_are_not_learned():
    row = {"prompt": "Q", "completion": "A", "label": True}
    assert read(row) == said("Q", "A")
    with pytest.raises(BadRow, match="the answer was rejected"):
        read({**row, "label": False})
