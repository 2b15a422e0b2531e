"""Whatever JSON a client sends is read or refused: no other error comes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.serving.openai_request import parse_chat, parse_completion
from kerasllm.serving.predict_request import parse_predict
from kerasllm.serving.refusal import Refusal
from kerasllm.tasks.task import InputText, Instance

_FIELDS = (
    "instances inputs signature_name text b64 messages role content type prompt max_tokens stop "
    "max_completion_tokens temperature top_p seed stream stream_options include_usage n logprobs "
    "tools response_format user model other text_pair words top_k min_p repetition_penalty \ud800"
).split()
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["user", "assistant", "text", "serving_default", "tiny", "\ud800", "YQ=="]),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    ),
    max_leaves=12,
)
_BODIES = st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=5)


class _Instance(Instance):
    text: InputText
    text_pair: InputText | None = None
    words: list[InputText] = []


@pytest.mark.parametrize(
    "parse",
    [
        lambda body: parse_predict(body, _Instance, 3),
        lambda body: parse_chat(body, "tiny", 20),
        lambda body: parse_completion(body, "tiny", 20),
    ],
)
@given(body=_BODIES)
def test_a_body_is_read_or_refused(parse, body):
    try:
        parse(body)
    except Refusal as refusal:
        assert 400 <= refusal.status < 500 and refusal.message
        refusal.message.encode()


@given(
    # A message without a word is refused, as in training.
    text=st.text().map("a{}".format),
    tokens=st.integers(1, 20),
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    seed=st.integers(-(2**63), 2**63 - 1),
    top_k=st.integers(-1),
    min_p=st.floats(0, 1),
    penalty=st.floats(0, exclude_min=True, allow_infinity=False),
)
def test_what_is_in_range_is_taken(text, tokens, temperature, top_p, seed, top_k, min_p, penalty):
    how = {"max_tokens": tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    how |= {"top_k": top_k, "min_p": min_p, "repetition_penalty": penalty}
    messages = [{"role": "user", "content": text}]
    settings = parse_chat({"messages": messages, **how}, "tiny", 20).settings
    assert settings.max_new_tokens == tokens and settings.samples == (temperature > 0)
    assert settings == parse_completion({"prompt": text, **how}, "tiny", 20).settings
