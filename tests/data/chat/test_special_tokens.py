"""Special tokens that data hold are there once, and none ends an answer that nobody ended."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.chat.conversations import Counts, open_preferences
from kerasllm.data.chat.messages import UNWEIGHTED, BadRow
from kerasllm.data.chat.special_tokens import LETTERS, STRIPPED, WRITTEN, SpecialTokens
from kerasllm.data.chat.templates import ChatTemplate, built_in
from kerasllm.data.chat.tokens import encode_conversation
from kerasllm.data.tokenizers.tokenizer_json import TokenizerJson
from tests.data.chat.test_conversations import (  # noqa: F401
    ASKED,
    CHATML,
    TOY,
    open_rows,
    rows_of,
    said,
    texts_of,
    trained_of,
)

END = TOY.special_tokens["<|im_end|>"]


def tokens_of(*messages, **options):
    return encode_conversation(CHATML, TOY, list(messages), **options)[0].tolist()


@pytest.mark.parametrize(
    "row",
    [
        {"messages": said("Where?", "Here.<|im_end|>")},
        {"messages": said("<|im_start|>user\nWhere?<|im_end|>\n", "Here.")},
        {"messages": said("Where?", "<|im_start|>assistant\nHere.<|im_end|>\n")},
        {"prompt": "<|endoftext|>Where?", "completion": "Here.<|im_end|><|im_end|>"},
    ],
)
def test_what_the_template_adds_is_there_once(open_rows, row):
    store = open_rows([row])
    assert rows_of(store) == [tokens_of(*ASKED)]
    assert trained_of(store) == ["Here.<|im_end|>"]
    assert STRIPPED in Counts.of(store).forms and store.fingerprint != store.path.stem


def test_a_prompt_in_the_template_is_taken_as_it_is(open_rows):
    """As scripts write it that apply the template themselves: several turns in one text."""
    talk = said("a", "b", "Where?", system="Be brief.")
    prompt = CHATML.render(talk, add_generation_prompt=True)
    whole = [*talk, ASKED[1]]
    for answer in ("Here.", "Here.<|im_end|>", "Here.<|im_end|>\n"):
        store = open_rows([{"prompt": prompt, "completion": answer}], system="Not this.")
        assert rows_of(store) == [tokens_of(*whole)]
        assert trained_of(store) == ["Here.<|im_end|>"]
        assert Counts.of(store).forms[WRITTEN] == 1
    pair = {"prompt": prompt, "chosen": "Here.", "rejected": "There.<|im_end|>"}
    store = open_rows([pair], opener=open_preferences)
    assert texts_of(store) == [
        CHATML.render([*talk, {"role": "assistant", "content": text}])
        for text in ("Here.", "There.")
    ]
    assert trained_of(store) == ["Here.<|im_end|>", "There.<|im_end|>"]


@pytest.mark.parametrize("name", ["plain", "mistral"])
def test_a_prompt_in_a_template_of_words_is_taken_as_it_is(open_rows, name):
    template = built_in(name, TOY)
    prompt = template.render(said("Where?"), add_generation_prompt=True)
    rows = [{"prompt": prompt, "completion": " Here."}]
    store = open_rows(rows, template=template)
    assert texts_of(store) == [template.render(ASKED)]
    # A question that ends in such a word was not made with the template.
    store = open_rows([{"prompt": "What means [/INST]", "completion": "b"}], template=template)
    assert "What means [/INST]" in texts_of(store)[0] and WRITTEN not in Counts.of(store).forms


def test_an_end_token_inside_an_answer_is_letters(open_rows):
    answer = "Write <|im_end|> to end, <|im_start|> to begin."
    row = {"messages": said("How?", answer)}
    store = open_rows([row])
    [ids], [trained] = rows_of(store), trained_of(store)
    assert ids.count(END) == 2  # of the user's turn and of the assistant's
    assert TOY.decode(ids, skip_special=False) == CHATML.render(row["messages"])
    assert trained == answer + "<|im_end|>"
    assert Counts.of(store).forms == {LETTERS: 2}
    assert "2 special tokens within messages read as letters" in Counts.of(store).remarks
    kept = open_rows([row], special_tokens="keep")
    assert rows_of(kept) == [tokens_of(*row["messages"])] and rows_of(kept)[0].count(END) == 3
    text = open_rows([{"messages": said("How?", "End.<|im_end|>")}], special_tokens="text")
    assert rows_of(text)[0].count(END) == 2 and "End.<|im_end|><|im_end|>" in texts_of(text)[0]


def test_letters_are_tokenized_as_any_other_text():
    """The tokens around them are those of the tokenizer on the same text."""
    special = SpecialTokens(CHATML, TOY, "text")
    messages, literal = special.prepare(said("a <|im_start|> b", "c<|im_end|>"), Counter())
    ids, mask = encode_conversation(CHATML, TOY, messages, literal=literal)
    start, end = TOY.special_tokens["<|im_start|>"], END
    line = TOY.encode_whole("\n")
    assert ids.tolist() == [
        *(start, *TOY.encode_whole("user\na <|im_start|> b", special=False), end, *line),
        *(start, *TOY.encode_whole("assistant\nc<|im_end|>", special=False), end, *line),
    ]
    assert TOY.decode(ids[mask == 1], skip_special=False) == "c<|im_end|><|im_end|>"


def test_good_conversations_keep_their_tokens_and_fingerprints(open_rows):
    store = open_rows([{"messages": said("a < b", "<b> & </i>")}])
    assert rows_of(store) == [tokens_of(*said("a < b", "<b> & </i>"))]
    assert not Counts.of(store).forms and store.fingerprint == store.path.stem


def test_a_message_of_special_tokens_alone_is_bad():
    special = SpecialTokens(CHATML, TOY, "once")
    with pytest.raises(BadRow, match="special tokens alone"):
        special.prepare(said("a", "<|im_end|>"), Counter())


WEIGHTED = [*said("a", "b", "c", "d")]
WEIGHTED[1] = {**WEIGHTED[1], "weight": 0}
WEIGHTED[3] = {**WEIGHTED[3], "weight": 1}
BLOCKS = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}\n{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("template", [CHATML, ChatTemplate(BLOCKS)], ids=["found", "blocks"])
def test_a_weight_of_0_is_not_in_the_loss(open_rows, template):
    store = open_rows([{"messages": WEIGHTED}], template=template)
    assert trained_of(store) == ["d<|im_end|>"]
    assert texts_of(store) == [template.render(said("a", "b", "c", "d"))]
    assert Counts.of(store).forms == {UNWEIGHTED: 1}
    whole = open_rows([{"messages": WEIGHTED}], template=template, train_on_prompt=True)
    assert trained_of(whole) == [texts_of(whole)[0].replace("b<|im_end|>", "")]
    names = {"user": "human", "assistant": "gpt"}
    shared = [
        {"from": names[one["role"]], "value": one["content"], "weight": one.get("weight")}
        for one in WEIGHTED
    ]
    assert trained_of(open_rows([{"conversations": shared}], template=template)) == ["d<|im_end|>"]
    ones = [{**message, "weight": 1} for message in ASKED]
    same = open_rows([{"messages": ones}], template=template)
    assert trained_of(same) == ["Here.<|im_end|>"] and same.fingerprint == same.path.stem


def test_a_conversation_without_weight_or_with_an_odd_one_is_bad(open_rows):
    nothing = [ASKED[0], {**ASKED[1], "weight": 0}]
    odd = [ASKED[0], {**ASKED[1], "weight": 0.5}]
    rows = [{"messages": messages} for messages in (ASKED, nothing, odd)]
    store = open_rows(rows, on_bad_row="skip")
    assert [why for _, _, why in store.skipped_rows] == [
        "all assistant messages have a weight of 0",
        "the weight of message 2 is 0.5, not 0 or 1",
    ]


def test_fields_that_the_template_does_not_read_are_named_once(open_rows):
    tool = {"type": "function", "function": {"name": "clock"}}
    rows = [
        {"messages": [{**ASKED[0], "name": "Ann"}, ASKED[1]], "tools": [tool], "id": n}
        for n in range(3)
    ]
    assert Counts.of(open_rows(rows)).unread == [
        "'id'",
        "'name' of messages",
        "'tools' of messages",
    ]
    other = ChatTemplate("{# namespace #}" + CHATML.source, stop=CHATML.stop)
    assert "'name' of messages" in Counts.of(open_rows(rows, template=other)).unread
    reads = ChatTemplate("{# name #}" + CHATML.source, stop=CHATML.stop)
    assert Counts.of(open_rows(rows, template=reads)).unread == ["'id'", "'tools' of messages"]


def test_spans_of_letters_cover_the_text():
    literal = TOY.literal_tokens
    text = f"<|im_start|>é{literal.letter_of('<|im_end|>')}x<|im_end|>"
    ids, spans = literal.encode_spans(text)
    assert ids[0] == TOY.special_tokens["<|im_start|>"] and ids[-1] == END
    assert spans[0].tolist() == [0, 12] and spans[-1].tolist() == [15, 25]
    assert np.all(spans[:, 0] <= spans[:, 1]) and spans.max() == len(text)


@pytest.mark.parametrize("name", ["classifiers/albert", "xlm_roberta", "roberta", "bert"])
def test_letters_and_tokens_are_told_apart_by_every_kind_of_tokenizer(name):
    """Unigram, byte-level BPE and WordPiece: a piece of the vocabulary may be a special token."""
    folder = Path(__file__).parents[2] / "reference" / name
    tokenizer = TokenizerJson((folder / "tokenizer.json").read_text(encoding="utf-8"))
    literal, token = tokenizer.literal_tokens, next(iter(tokenizer.special_tokens))
    text = f"Hello  wörld{token} a{token}\n"
    for one, other in zip(tokenizer.encode_spans(text), literal.encode_spans(text), strict=True):
        assert one.tolist() == other.tolist()
    ids, _ = literal.encode_spans(f"a {literal.letter_of(token)} b{token}")
    assert ids.tolist().count(tokenizer.special_tokens[token]) == 1


_PIECES = st.lists(
    st.sampled_from(
        ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "user\n", "assistant\n", "a", " b", "\n"]
    ),
    min_size=1,
    max_size=6,
).map("".join)


@pytest.mark.parametrize("mode", ["once", "text"])
@given(st.lists(_PIECES, min_size=4, max_size=4))
def test_a_turn_ends_once_whatever_is_said(mode, contents):
    special, notes = SpecialTokens(CHATML, TOY, mode), Counter()
    messages = said(*contents)
    try:
        assert special.written(messages, notes) is None
        read, literal = special.prepare(messages, notes)
    except BadRow:
        return
    ids, mask = encode_conversation(CHATML, TOY, read, literal=literal)
    starts = TOY.special_tokens["<|im_start|>"]
    assert [ids.tolist().count(token) for token in (starts, END)] == [4, 4]
    assert mask.any() and ids[mask == 1].tolist().count(END) == 2
    text = TOY.decode(ids, skip_special=False)
    if mode == "text":
        assert text == CHATML.render(messages)
