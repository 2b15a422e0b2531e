"""Conversations of every shape become the tokens that the template makes of them."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from kerasllm.data.chat.conversations import Counts, open_conversations, open_preferences
from kerasllm.data.chat.format_rows import read_row
from kerasllm.data.chat.formats import shape_of
from kerasllm.data.chat.messages import BadRow
from kerasllm.data.chat.templates import ChatTemplate, built_in
from kerasllm.data.chat.tokens import encode_conversation
from kerasllm.data.loading import remarks
from kerasllm.data.tokenizers import from_folder
from kerasllm.errors import DataError

TOY = from_folder(Path(__file__).parents[2] / "reference" / "chat")
CHATML = built_in("chatml", TOY)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def said(*contents, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)
    ]


ASKED = said("Where?", "Here.")
SHAPES = {
    "messages": {"messages": ASKED, "topic": "place"},
    "prompt_completion": {"prompt": "Where?", "completion": "Here."},
    "alpaca": {"instruction": "Where?", "input": "", "output": "Here."},
    "sharegpt": {"conversations": [{"from": "human", "value": "Where?"},
                                   {"from": "gpt", "value": "Here."}]},
}  # fmt: skip


@pytest.fixture
def open_rows(tmp_path):
    """Opens rows written to a jsonl file."""

    def open_(rows, *, opener=open_conversations, name="chat.jsonl", **settings):
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        settings = {"max_length": 512, "folder": tmp_path / "tokens", **settings}
        return opener(path, TOY, settings.pop("template", CHATML), **settings)

    return open_


def rows_of(store):
    return [store.gather([i], n, 0)[0].tolist() for i, n in enumerate(store.lengths)]


def masks_of(store):
    one = np.array([1])
    return [
        store.trained(np.array([i]), 0 * one, n * one).tolist() for i, n in enumerate(store.lengths)
    ]


def texts_of(store):
    return [TOY.decode(row, skip_special=False) for row in rows_of(store)]


def trained_of(store):
    pairs = zip(rows_of(store), masks_of(store))
    return [
        TOY.decode([id for id, flag in zip(*pair) if flag], skip_special=False) for pair in pairs
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_told_by_its_keys_and_gives_the_same_tokens(open_rows, shape):
    assert shape_of(SHAPES[shape]) == shape
    for format in ("auto", shape):
        store = open_rows([SHAPES[shape]], format=format)
        ids, mask = encode_conversation(CHATML, TOY, ASKED)
        assert rows_of(store) == [ids.tolist()]
        assert masks_of(store) == [mask.tolist()]
        assert store.has_trained and store.where(0)[1] == 1


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1), st.none() | TEXT)
def test_shapes_hold_what_was_said_as_it_was_said(turns, system):
    contents = [text for turn in turns for text in turn]
    messages = said(*contents, system=system)
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    shared = [{"from": names[m["role"]], "value": m["content"]} for m in messages]
    assert read_row({"messages": messages}, "messages") == messages
    assert read_row({"conversations": shared}, "sharegpt") == messages
    prompt, answer = messages[:-1], messages[-1:]
    row = {"prompt": prompt, "completion": answer}
    assert read_row(row, "prompt_completion") == messages


def test_an_input_of_alpaca_follows_the_instruction():
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "Count."}
    assert read_row(row, "alpaca") == said("Add.\n\n1 2", "3", system="Count.")


def test_a_system_message_is_added_where_there_is_none():
    assert read_row({"messages": ASKED}, "messages", "Hey") == said("Where?", "Here.", system="Hey")
    own = said("a", "b", system="own")
    assert read_row({"messages": own}, "messages", "Hey") == own


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": said("a")}, "ends with a user message"),
        ({"messages": said("a", "b", "c")}, "ends with a user message"),
        ({"messages": []}, "empty"),
        ({"messages": [{"role": "system", "content": "a"}]}, "assistant has no message"),
        ({"messages": said("a", "b")[::-1]}, "message 1 is the assistant's"),
        ({"messages": [*ASKED, {"role": "system", "content": "x"}]}, "message 3 is the system's"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "role of message 1 is 'bot'"),
        ({"messages": [{"content": "a"}]}, "role of message 1 is None"),
        ({"messages": said("a", " \n")}, r"message 2 \(assistant\) is empty"),
        ({"messages": [{"role": "user", "content": 3}]}, "content of message 1 is a number"),
        ({"messages": [{"role": "user"}]}, "content of message 1 is null"),
        ({"messages": "hello"}, "'messages' is a string"),
        ({"messages": ["hello"]}, "message 1 is a string"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "more than text"),
        ({"messages": said("a", "\ud83d")}, "half a character"),
        ({"prompts": "a"}, r"no 'messages' \(available keys: 'prompts'\)"),
    ],
)
def test_what_is_no_conversation_is_refused(row, why):
    with pytest.raises(BadRow, match=why):
        read_row(row, "messages")


def test_tool_calls_and_unknown_speakers_are_refused():
    call = {"role": "assistant", "content": "x", "tool_calls": [{"name": "f"}]}
    with pytest.raises(BadRow, match="message 2 calls tools"):
        read_row({"messages": [*said("a"), call]}, "messages")
    with pytest.raises(BadRow, match="from 'alien'"):
        read_row({"conversations": [{"from": "alien", "value": "a"}]}, "sharegpt")


def test_text_in_parts_is_read():
    parts = [{"type": "text", "text": "He"}, {"type": "text", "text": "re."}]
    row = {"messages": [said("Where?")[0], {"role": "assistant", "content": parts}]}
    assert read_row(row, "messages") == ASKED


def test_bad_rows_are_refused_together_with_their_lines(open_rows):
    good = SHAPES["messages"]
    rows = [good, {"messages": said("a")}, "{", good, *[{"messages": []}] * 4]
    with pytest.raises(DataError) as error:
        open_rows(rows)
    assert error.value.what.startswith("6 rows are bad in")
    assert ": 4 x the conversation is empty, 1 x the conversation ends with" in error.value.what
    places = error.value.where.split("\n")
    assert "chat.jsonl:2: the conversation ends with a user message" in places[0]
    assert "chat.jsonl:3: not JSON" in places[1]
    assert len(places) == 6 and places[-1].strip() == "and 1 more"
    assert "skip" in error.value.fix


def test_bad_rows_are_skipped_and_counted_if_wanted(open_rows):
    rows = [SHAPES["messages"], {"messages": said("a")}, "3"]
    for _ in range(2):
        store = open_rows(rows, on_bad_row="skip")
        assert len(store) == 1 and store.skipped == 2
        assert Counts.of(store) == Counts(read=1, skipped=2)
        assert [(line, why[:16]) for _, line, why in store.skipped_rows] == [
            (2, "the conversation"), (3, "a number, where "),
        ]  # fmt: skip
    assert store.reused
    with pytest.raises(DataError, match="No conversation can be used"):
        open_rows(rows[1:2], on_bad_row="skip", name="bad.jsonl")


def test_a_template_that_fails_names_the_line_and_what_it_said(open_rows):
    source = "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
    template = ChatTemplate(source + CHATML.source, stop=CHATML.stop)
    with pytest.raises(DataError, match="1 row is bad") as error:
        open_rows([{"messages": ASKED}, {"messages": ASKED * 2}], template=template)
    assert "chat.jsonl:2: The chat template rejects" in error.value.where
    assert "one turn only" in error.value.where


def test_rows_in_no_known_shape_are_refused_by_their_keys(open_rows):
    with pytest.raises(DataError, match="'topic', 'remark'") as error:
        open_rows([{"topic": "a", "remark": "b"}])
    assert "alpaca: instruction, output" in error.value.fix
    assert "data.prompt=COLUMN" in error.value.fix and "data.format=text" in error.value.fix
    with pytest.raises(DataError, match="format 'preference'"):
        open_rows([{"chosen": "a", "rejected": "b"}])
    with pytest.raises(DataError, match="file is empty"):
        open_rows([])
    with pytest.raises(DataError, match="no row in the file's first lines"):
        open_rows(["[]"])
    with pytest.raises(DataError, match="file is empty"):
        open_rows(["prompt,completion"], name="chat.csv")
    with pytest.raises(DataError, match=r"A '\.txt' file holds no conversations") as error:
        open_rows(["prompt,completion"], name="chat.txt")
    assert "data.format=text" in error.value.fix


def test_every_format_holds_conversations(tmp_path):
    rows = [{"Question": 'a "b"', "Answer": "1\n2"}, {"Question": "c", "Answer": "d"}]
    said_there = [said('a "b"', "1\n2"), said("c", "d")]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text('Question,Answer\n"a ""b""","1\n2"\nc,d\n')
    (tmp_path / "a.tsv").write_text('Question\tAnswer\n"a ""b"""\t"1\n2"\nc\td\n')
    for suffix in ("json", "jsonl", "parquet", "csv", "tsv"):
        store = open_conversations(
            tmp_path / f"a.{suffix}", TOY, CHATML, max_length=99, folder=tmp_path / "tokens"
        )
        assert texts_of(store) == [CHATML.render(messages) for messages in said_there], suffix
        assert Counts.of(store).shapes == {"user 'Question', assistant 'Answer'": 2}


def test_columns_are_named_where_names_do_not_tell(open_rows):
    rows = [{"topic": "a", "remark": "b", "id": 1}]
    store = open_rows(rows, prompt="topic", response="remark")
    assert texts_of(store) == [CHATML.render(said("a", "b"))]
    assert Counts.of(store).unread == ["'id'"]
    with pytest.raises(DataError, match="no prompt column 'topik'") as error:
        open_rows(rows, prompt="topik", response="remark")
    assert "data.prompt=topic" in error.value.fix
    rows = [{"question": "a", "answer": "b", "solution": "c"}]
    with pytest.raises(DataError, match="'answer' and 'solution' could each be the response"):
        open_rows(rows)
    store = open_rows(rows, response="solution")
    assert texts_of(store) == [CHATML.render(said("a", "c"))]


def test_rows_of_several_shapes_are_read_each_by_its_own(open_rows, tmp_path):
    rows = [SHAPES["messages"], {"question": "Where?", "answer": "Here."}, *SHAPES.values()]
    store = open_rows(rows)
    assert texts_of(store) == [CHATML.render(ASKED)] * 6
    assert sum(Counts.of(store).shapes.values()) == 6 and len(Counts.of(store).shapes) == 5
    assert any("in a different format" in remark for remark in Counts.of(store).remarks)
    parquet.write_table(pa.Table.from_pylist(rows[1:3]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="1 row is bad") as error:
        open_rows([*rows, {"title": "a", "body": "b"}], name="other.jsonl")
    assert "other.jsonl:7" in error.value.where and "'title', 'body'" in error.value.where


def test_bad_rows_are_counted_by_reason(open_rows):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    rows = [SHAPES["messages"], {"messages": said("a")}, {"messages": [*said("a"), call]}]
    rows.append({"messages": [*said("a", "b", "c"), {"role": "tool", "content": "3"}]})
    rows.append({"messages": said("a", "b", "c")})
    store = open_rows(rows, on_bad_row="skip")
    assert Counts.of(store).skipped_reasons == {
        "the conversation ends with a user message, so there is no answer to train on": 2,
        "message N calls tools, which is not supported": 1,
        "message N is from a tool, which is not supported": 1,
    }
    assert "(2 the conversation ends with a user message" in remarks(store)[0]


def test_only_rows_that_are_read_in_a_new_way_have_a_new_fingerprint(open_rows, tmp_path):
    """An unfinished run tells its data by it."""
    plain = open_rows([SHAPES["messages"]])
    assert plain.fingerprint == plain.path.stem and not plain.reused
    assert open_rows([SHAPES["messages"]]).reused
    changed = open_rows([{"messages": [{"role": "system", "content": ""}, *ASKED]}])
    assert changed.fingerprint != changed.path.stem
    again = open_rows([{"messages": [{"role": "system", "content": ""}, *ASKED]}])
    assert again.reused and again.fingerprint == changed.fingerprint


def test_files_may_be_json_gzip_or_parquet(tmp_path):
    rows = [SHAPES["messages"], {"messages": said("a", "b"), "topic": None}]
    listed = json.dumps(rows, indent=1)
    (tmp_path / "a.json").write_text(listed)
    (tmp_path / "b.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    )
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    found = []
    for name in ("a.json", "b.jsonl.gz", "c.parquet"):
        store = open_conversations(
            tmp_path / name, TOY, CHATML, max_length=99, folder=tmp_path / "tokens"
        )
        found.append((texts_of(store), store.where(1)[1]))
    second = listed[: listed.index("\n {", 2 + listed.index("\n {")) + 1].count("\n") + 1
    assert [texts for texts, _ in found] == [found[0][0]] * 3
    assert [line for _, line in found] == [second, 2, 2]


@pytest.mark.parametrize(
    ("content", "why"),
    [('[{"messages": []}, {', "not JSON from here"), ('[{"messages": []}', "is not closed")],
)
def test_a_json_file_that_is_cut_short_is_refused(tmp_path, content, why):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=why) as error:
        open_conversations(tmp_path / "a.json", TOY, CHATML, max_length=9, folder=tmp_path)
    assert error.value.where.endswith("a.json:1")


def test_the_bundled_conversations_are_read(tmp_path):
    for split, rows in (("train", 834), ("test", 65)):
        store = open_conversations(
            "starter:chat", TOY, CHATML, max_length=2048, folder=tmp_path, split=split
        )
        assert len(store) == rows and Counts.of(store) == Counts(read=rows)
    again = open_conversations(
        "starter:chat", TOY, CHATML, max_length=2048, folder=tmp_path, split="test"
    )
    assert again.reused and again.fingerprint == store.fingerprint


def test_each_setting_makes_a_store_of_its_own(open_rows):
    rows = [SHAPES["messages"]]
    settings = [
        {}, {"max_length": 100}, {"too_long": "drop"}, {"train_on_prompt": True},
        {"system": "x"}, {"on_bad_row": "skip"}, {"template": built_in("plain", TOY)},
    ]  # fmt: skip
    stores = [open_rows(rows, **one) for one in settings]
    assert len({store.fingerprint for store in stores}) == len(settings)
    assert not any(store.reused for store in stores)
    with pytest.raises(ValueError, match="too_long='shrink'"):
        open_rows(rows, too_long="shrink")


def test_everything_is_trained_on_if_wanted(open_rows):
    assert all(map(all, masks_of(open_rows([SHAPES["messages"]], train_on_prompt=True))))


LONG = said("one", "first", "two", "second", "three", "third " * 3, system="S")


def test_a_conversation_that_is_too_long_is_cut_at_its_end(open_rows):
    whole = encode_conversation(CHATML, TOY, LONG)[0]
    store = open_rows([{"messages": LONG}, SHAPES["messages"]], max_length=len(whole) - 3)
    assert rows_of(store)[0] == whole[:-3].tolist()
    assert Counts.of(store) == Counts(read=2, cut=1)
    assert str(Counts.of(store)) == "2 conversations, 1 cut"


def test_a_conversation_of_which_nothing_to_learn_is_left_is_dropped(open_rows):
    rows = [{"messages": said("long " * 50, "b")}, SHAPES["messages"]]
    for too_long in ("cut", "drop", "split"):
        store = open_rows(rows, max_length=60, too_long=too_long)
        assert len(store) == 1 and store.where(0)[1] == 2
        assert Counts.of(store) == Counts(read=2, dropped=1)
    with pytest.raises(DataError, match="too long: 1"):
        open_rows(rows[:1], max_length=60, name="long.jsonl")


def test_a_conversation_that_is_too_long_is_split_between_turns(open_rows):
    sizes = [len(encode_conversation(CHATML, TOY, LONG[:n])[0]) for n in (3, 5, 7)]
    store = open_rows([{"messages": LONG}], max_length=sizes[1], too_long="split")
    assert texts_of(store) == [
        CHATML.render(LONG[:5]),
        CHATML.render([LONG[0], *LONG[5:]]),
    ]
    assert trained_of(store) == [
        "first<|im_end|>second<|im_end|>",
        f"{LONG[6]['content']}<|im_end|>",
    ]
    assert Counts.of(store) == Counts(read=1, split=1, pieces=2)
    assert max(store.lengths) <= sizes[1]


def preferences(*rows):
    return [{"prompt": "Q", "chosen": "good", "rejected": "bad"}, *rows]


def test_preferences_are_rows_in_pairs_with_the_answers_to_learn(open_rows):
    talk = said("a", "b", "c")
    rows = preferences(
        {"prompt": talk, "chosen": said("", "yes")[1:], "rejected": said("", "no")[1:]},
        {"chosen": said("x", "1"), "rejected": said("x", "2")},
        {"prompt": "x", "chosen": said("x", "1"), "rejected": said("x", "2")},
    )
    store = open_rows(rows, opener=open_preferences)
    assert len(store) == 8
    assert texts_of(store)[:2] == [
        CHATML.render(said("Q", "good")),
        CHATML.render(said("Q", "bad")),
    ]
    assert texts_of(store)[2] == CHATML.render([*talk, *said("", "yes")[1:]])
    assert [text.removesuffix("<|im_end|>") for text in trained_of(store)] == [
        "good",
        "bad",
        "yes",
        "no",
        "1",
        "2",
        "1",
        "2",
    ]
    assert [store.where(i)[1] for i in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_pair_is_dropped_as_a_whole(open_rows):
    rows = preferences({"prompt": "Q", "chosen": "good " * 40, "rejected": "bad"})
    store = open_rows(rows, opener=open_preferences, max_length=60, too_long="drop")
    assert len(store) == 2 and Counts.of(store) == Counts(read=2, dropped=1)
    store = open_rows(rows, opener=open_preferences, max_length=60)
    assert len(store) == 4 and Counts.of(store) == Counts(read=2, cut=1)
    assert max(store.lengths) == 60


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Q", "chosen": "a", "rejected": "a"}, "are the same"),
        ({"prompt": "Q", "chosen": "a"}, "no 'rejected'"),
        ({"chosen": said("x", "a"), "rejected": said("y", "b")}, "the same prompt"),
        (
            {"prompt": "z", "chosen": said("x", "a"), "rejected": said("x", "b")},
            "a different prompt",
        ),
        ({"prompt": "Q", "chosen": "", "rejected": "b"}, "message 2 (assistant) is empty"),
        ({"prompt": "Q", "chosen": 3, "rejected": "b"}, "'chosen' is a number"),
    ],
)
def test_what_is_no_preference_is_refused(open_rows, row, why):
    with pytest.raises(DataError) as error:
        open_rows(preferences(row), opener=open_preferences)
    assert "chat.jsonl:2: " in error.value.where and why in error.value.where


def test_conversations_are_no_preferences(open_rows):
    with pytest.raises(DataError, match="format 'messages'"):
        open_rows([SHAPES["messages"]], opener=open_preferences)


def test_tools_that_the_template_does_not_show_are_said_once(open_rows):
    rows = [{"messages": said("Hi", f"Hello {n}"), "tools": [{"name": "search"}]} for n in range(3)]
    store = open_rows(rows)
    assert Counts.of(store).unread == ["'tools' of messages"]
    assert "search" not in texts_of(store)[0]
    template = ChatTemplate("{{ tools | tojson }}" + CHATML.source, variables=CHATML._variables)
    store = open_rows(rows, template=template)
    assert Counts.of(store).unread == [] and "search" in texts_of(store)[0]
    assert all("search" not in text for text in trained_of(store))
