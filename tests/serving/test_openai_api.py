"""A language model behind HTTP: OpenAI's shapes, streams, and whatever a client sends."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import openai
import pytest

from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.text import TextGenerator
from kerasllm.serving.app import build_app
from kerasllm.serving.generation_worker import Writer
from kerasllm.serving.limits import Limits
from kerasllm.serving.metrics import Metrics
from kerasllm.serving.openai_api import OpenAiApi
from tests.generation.conftest import writer  # noqa: F401
from tests.serving.running import running, until

CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"
LIMITS = Limits(body=20_000, tokens=24, batch=4, queue=100)


def asked(text: str, **more) -> dict:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}


@contextmanager
def serving(model, limits: Limits = LIMITS, key: str | None = None):
    """Gives a client of a server with a model, and what writes its answers."""
    generator = TextGenerator(model, GenerationSettings())
    metrics = Metrics()
    one = Writer(generator, metrics, most_answers=limits.batch, most_waiting=limits.queue)
    api = OpenAiApi("tiny", generator, one, limits)
    with running(build_app(api, one, metrics, key), one) as client:
        yield client, one


@pytest.fixture(scope="module")
def served(writer):
    with serving(writer) as both:
        both[1].warm_up()
        yield both


@pytest.fixture(scope="module")
def server(served):
    return served[0]


@pytest.fixture(scope="module")
def sdk(server):
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def alone(writer):
    """Answers a message without a server."""
    generator = TextGenerator(writer, GenerationSettings())

    def answer(content: str, **settings):
        generator.settings = GenerationSettings(**settings)
        prompt = generator.encode_chat([{"role": "user", "content": content}])
        return generator.generate([prompt], chat=True)[0]

    return answer


def test_an_answer_is_the_one_that_chat_gives(sdk, alone):
    wanted = alone("word1 word2", max_new_tokens=8)
    found = sdk.chat.completions.create(model="tiny", max_tokens=8, **asked("word1 word2"))
    choice = found.choices[0]
    assert choice.message.content == wanted.text and choice.message.role == "assistant"
    assert choice.finish_reason == wanted.finish_reason
    assert found.usage.completion_tokens == len(wanted.tokens)
    assert found.usage.prompt_tokens == 4 and found.object == "chat.completion"


def test_a_seed_gives_the_draw_that_generate_gives(sdk, alone):
    how = {"temperature": 1.5, "top_p": 0.9, "seed": 7}
    wanted = alone("word3", max_new_tokens=6, **how).text
    for named in ("max_tokens", "max_completion_tokens"):
        body = {**asked("word3"), **how, named: 6}
        found = sdk.chat.completions.create(model="tiny", **body)
        assert found.choices[0].message.content == wanted


def test_a_stream_gives_the_answer_in_pieces(sdk, alone):
    wanted = alone("word5", max_new_tokens=10)
    chunks = list(
        sdk.chat.completions.create(
            model="tiny",
            max_tokens=10,
            stream=True,
            stream_options={"include_usage": True},
            **asked("word5"),
        )
    )
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(deltas) == wanted.text and len([d for d in deltas if d]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == wanted.finish_reason
    assert chunks[-1].usage.completion_tokens == len(wanted.tokens) and not chunks[-1].choices
    assert len({chunk.id for chunk in chunks}) == 1


def test_completions_whole_and_streamed(sdk, server):
    how = {"prompt": "word1 word2", "temperature": 0, "max_tokens": 7}
    whole = sdk.completions.create(model="tiny", **how)
    pieces = sdk.completions.create(model="tiny", stream=True, **how)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text != ""
    body = server.post(COMPLETE, {"prompt": ["word1 word2"], "temperature": 0, "stream": True}).body
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_stop_text_ends_an_answer(sdk, alone):
    text = alone("word1", max_new_tokens=12).text
    stop = text.split()[3]
    create = sdk.chat.completions.create
    found = create(model="tiny", max_tokens=12, stop=[stop, "never"], **asked("word1"))
    assert found.choices[0].message.content == text[: text.index(stop)]
    assert found.choices[0].finish_reason == "stop"


def test_what_is_harmless_or_says_nothing_is_ignored(sdk, server):
    body = asked("word1", user="me", metadata={}, n=1, tools=[], logprobs=False, stop=None)
    body |= {"max_tokens": 2, "presence_penalty": 0, "response_format": {"type": "text"}}
    assert sdk.chat.completions.create(model="tiny", **body).choices
    parts = [{"type": "text", "text": "word"}, {"type": "text", "text": "1"}]
    messages = [{"role": "developer", "content": "word2"}, {"role": "user", "content": parts}]
    found = server.post(CHAT, {**body, "messages": messages})
    plain = [{"role": "system", "content": "word2"}, {"role": "user", "content": "word1"}]
    again = server.post(CHAT, {**body, "messages": plain})
    assert found.json["choices"] == again.json["choices"]


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": "gpt-4"}, 404, "model", "model_not_found"),
        ({"model": 4}, 400, "model", None),
        ({"n": 2}, 400, "n", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "unsupported_parameter"),
        ({"logprobs": True}, 400, "logprobs", "unsupported_parameter"),
        ({"top_logprobs": 0}, 400, "top_logprobs", "unsupported_parameter"),
        ({"presence_penalty": 0.5}, 400, "presence_penalty", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format", None),
        ({"top_kk": 3}, 400, "top_kk", "unknown_parameter"),
        ({"top_k": -2}, 400, "top_k", None),
        ({"top_k": 1.5}, 400, "top_k", None),
        ({"min_p": 1.1}, 400, "min_p", None),
        ({"repetition_penalty": 0}, 400, "repetition_penalty", None),
        ({"\ud800": 3}, 400, None, None),
        ({"messages": None}, 400, "messages", None),
        ({"messages": []}, 400, "messages", None),
        ({"messages": "hello"}, 400, "messages", None),
        ({"messages": ["hello"]}, 400, "messages[0]", None),
        ({"messages": [{"role": "tool", "content": "a"}]}, 400, "messages[0].role", None),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content", None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages[0].content[0]",
            None,
        ),
        (
            {"messages": [{"role": "user", "content": "a", "tool_calls": [1]}]},
            400,
            "messages[0]",
            "unsupported_parameter",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "messages", None),
        (
            {"messages": [{"role": "user", "content": "w " * 50}]},
            400,
            "messages",
            "context_length_exceeded",
        ),
        ({"max_tokens": 0}, 400, "max_tokens", None),
        ({"max_tokens": 25}, 400, "max_tokens", None),
        ({"max_tokens": True}, 400, "max_tokens", None),
        ({"max_tokens": 2.5}, 400, "max_tokens", None),
        ({"max_tokens": 2, "max_completion_tokens": 2}, 400, "max_tokens", None),
        ({"temperature": -0.1}, 400, "temperature", None),
        ({"temperature": "warm"}, 400, "temperature", None),
        ({"top_p": 1.1}, 400, "top_p", None),
        ({"seed": 1.5}, 400, "seed", None),
        ({"stop": ["a"] * 5}, 400, "stop", None),
        ({"stop": [""]}, 400, "stop", None),
        ({"stop": ["a", "\ud800"]}, 400, "stop", None),
        ({"stream": "yes"}, 400, "stream", None),
        ({"stream": True, "stream_options": 3}, 400, "stream_options", None),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", None),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(server, change, status, param, code):
    answer = server.post(CHAT, {**asked("word1"), **change})
    error = answer.json["error"]
    assert (answer.status, error["param"]) == (status, param) and error["message"]
    assert error["type"] == "invalid_request_error" and code in (None, error["code"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        (b'{"messages": [{"role": "user", "content": "a", "\\ud800": 1}]}', 400),
        (b'{"messages": [{"role": "\\ud800", "content": "a"}]}', 400),
        (b'{"messages": [{"\\ud800": {"\\udfff": 1}}]}', 400),
        (b'{"stream": true, "stream_options": {"\\ud800": true}}', 400),
        (b'{"tools": {"\\ud800": []}, "model": "\\ud800"}', 400),
        (b'{"temperature": NaN}', 400),
        (b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (asked("word1 " * 5000), 413),
        (asked(" ".join(["word1"] * 2000)), 400),
    ],
)
def test_a_bad_body_is_refused_and_the_server_continues(server, body, status):
    answer = server.post(CHAT, body)
    assert answer.status == status and set(answer.json["error"]) == {
        "message",
        "type",
        "param",
        "code",
    }
    assert server.post(CHAT, asked("word1", max_tokens=1)).status == 200


@pytest.mark.parametrize(
    "prompt",
    [None, "", 3, "\ud800", [], ["a", ""], ["a", 1], [1, 99], [1, -1], [[1], []], ["w " * 50, "a"]],
)
def test_a_bad_prompt_is_refused(server, prompt):
    answer = server.post(COMPLETE, {"prompt": prompt})
    assert answer.status == 400 and answer.json["error"]["param"] == "prompt"


def test_too_many_prompts_are_refused(server):
    answer = server.post(COMPLETE, {"prompt": ["a"] * (LIMITS.instances + 1)})
    assert answer.status == 413 and answer.json["error"]["param"] == "prompt"


def test_the_fields_of_other_servers_choose_as_generate_does(sdk, alone):
    filters = {"top_k": 4, "min_p": 0.05, "repetition_penalty": 1.6}
    how = {"temperature": 1.5, "seed": 3}
    wanted = alone("word3 word4", max_new_tokens=9, **how, **filters).text
    assert wanted != alone("word3 word4", max_new_tokens=9, **how).text
    body = {**asked("word3 word4"), **how, "max_tokens": 9, "extra_body": filters}
    found = sdk.chat.completions.create(model="tiny", **body)
    assert found.choices[0].message.content == wanted
    greedy = {"repetition_penalty": 2.5, "top_k": -1, "min_p": 0}
    body = {**asked("word1"), "max_tokens": 9, "extra_body": greedy}
    found = sdk.chat.completions.create(model="tiny", **body)
    wanted = alone("word1", max_new_tokens=9, repetition_penalty=2.5).text
    assert found.choices[0].message.content == wanted


PROMPTS = ["word1 word2", "word3", "word1 word2 word7 word8", "word3"]


def test_each_of_a_list_of_prompts_has_a_choice(sdk, writer):
    how = {"model": "tiny", "temperature": 0, "max_tokens": 7}
    single = [sdk.completions.create(prompt=prompt, **how) for prompt in PROMPTS]
    found = sdk.completions.create(prompt=PROMPTS, **how)
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    for choice, one in zip(found.choices, single, strict=True):
        assert choice.text == one.choices[0].text
        assert choice.finish_reason == one.choices[0].finish_reason
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(found.usage, count) == sum(getattr(one.usage, count) for one in single)
    # As token ids they are what they are: no start token comes before them.
    tokens = [[0, *writer.tokenizer.encode_whole(prompt)] for prompt in PROMPTS]
    again = sdk.completions.create(prompt=tokens, **how)
    assert [choice.text for choice in again.choices] == [choice.text for choice in found.choices]
    alone_again = sdk.completions.create(prompt=tokens[0], **how)
    assert alone_again.choices[0].text == found.choices[0].text


def test_equal_prompts_of_a_list_are_drawn_apart(sdk):
    how = {"model": "tiny", "temperature": 1.8, "max_tokens": 10, "seed": 11}
    both = sdk.completions.create(prompt=["word1", "word1"], **how).choices
    assert both[0].text != both[1].text
    assert both[0].text == sdk.completions.create(prompt="word1", **how).choices[0].text


def test_a_list_of_prompts_is_streamed_by_index(sdk):
    how = {"model": "tiny", "prompt": PROMPTS, "temperature": 0, "max_tokens": 7}
    whole = sdk.completions.create(**how)
    stream = sdk.completions.create(stream=True, stream_options={"include_usage": True}, **how)
    texts, reasons, chunks = [""] * 4, [[] for _ in PROMPTS], list(stream)
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        assert not reasons[choice.index]  # Nothing comes after the end.
        texts[choice.index] += choice.text
        reasons[choice.index] += [choice.finish_reason] if choice.finish_reason else []
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [[choice.finish_reason] for choice in whole.choices]
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    # They are written side by side, not one after another.
    order = [chunk.choices[0].index for chunk in chunks[:-1]]
    assert order != sorted(order)


def test_a_request_of_many_prompts_does_not_hold_up_one(server, steps):
    ended = []

    def ask(name: str, prompts: list[str]) -> None:
        server.post(COMPLETE, {"prompt": prompts, "max_tokens": 6, "temperature": 0})
        ended.append(name)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(ask, "many", ["word5"] * 5 * LIMITS.batch)
        until(lambda: steps)
        pool.submit(ask, "one", ["word6"])
    assert ended == ["one", "many"]


def test_models_are_listed_and_the_rest_is_not_there(server, sdk):
    assert [model.id for model in sdk.models.list()] == ["tiny"]
    assert sdk.models.retrieve("tiny").owned_by == "kerasllm"
    assert server.get(CHAT).status == 405
    for path in ("/v1/models/other", "/v1/embeddings"):
        assert server.get(path).json["error"]["type"] == "invalid_request_error"


def test_many_at_once_each_get_what_they_would_get_alone(server, alone):
    plans = [(f"word{i % 9} word{i % 5}", 3 + i % 13, i % 3) for i in range(40)]

    def settings(number: int) -> dict:
        return [{}, {"temperature": 0.7}, {"temperature": 1.0, "top_p": 0.8}][number]

    def ask(plan) -> tuple:
        text, tokens, how = plan
        body = asked(text, max_tokens=tokens, seed=5, stream=how == 1) | settings(how)
        answer = server.post(CHAT, body)
        if how != 1:
            return answer.json["choices"][0]["message"]["content"]
        events = [line[6:] for line in answer.body.decode().split("\n\n") if line]
        return "".join(json.loads(e)["choices"][0]["delta"].get("content", "") for e in events[:-1])

    wanted = [alone(t, max_new_tokens=n, seed=5, **settings(how)).text for t, n, how in plans]
    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(ask, plans)) == wanted
    rows = server.metric("kerasllm_batch_rows_sum") / server.metric("kerasllm_batch_rows_count")
    assert 1 < rows <= LIMITS.batch
    assert server.metric('kerasllm_tokens_total{kind="generated"}') > 40


@pytest.fixture
def steps(served, monkeypatch):
    """Lets each step of the model take a while; gives how many were made."""
    decoding, made = served[1]._decoding, []
    step = decoding.step

    def slowly():
        time.sleep(0.03)
        made.append(len(decoding._rows))
        return step()

    monkeypatch.setattr(decoding, "step", slowly)
    return made


def test_a_short_answer_does_not_wait_for_a_long_one(server, steps):
    ended = []

    def ask(name: str, tokens: int) -> None:
        server.post(CHAT, asked("word5", max_tokens=tokens))
        ended.append(name)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(ask, "long", 24)
        until(lambda: steps)
        pool.submit(ask, "short", 2)
    assert ended == ["short", "long"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_its_place(server, served, steps, stream):
    body = json.dumps(asked("word5", max_tokens=24, stream=stream)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with closing(server.connect()) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: len(steps) > 2)
    until(lambda: not served[1]._open)
    assert len(steps) < 20
    assert server.post(CHAT, asked("word1", max_tokens=1)).status == 200
    assert server.metric('kerasllm_requests_total{endpoint="chat",status="499"}') >= 1 - stream


def test_a_step_that_fails_ends_the_open_answers_only(server, served, monkeypatch):
    with monkeypatch.context() as patch:

        def fail():
            raise ValueError("out of memory")

        patch.setattr(served[1]._decoding, "step", fail)
        assert server.post(CHAT, asked("word1")).json["error"]["type"] == "server_error"
        body = server.post(CHAT, asked("word1", stream=True)).body
        assert b"server_error" in body and b"[DONE]" not in body
    assert server.post(CHAT, asked("word1", max_tokens=3)).status == 200


def test_a_full_queue_and_the_end_of_a_server(writer):
    with serving(writer, Limits(batch=1, queue=1, tokens=20), key="secret") as (client, one):
        go, step = threading.Event(), one._decoding.step
        one._decoding.step = lambda: go.wait(30) and step()
        key = {"Authorization": "Bearer secret"}
        assert client.post(CHAT, asked("word1")).json["error"]["code"] == "invalid_api_key"
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(client.post, CHAT, asked("word1"), **key)
            until(lambda: one._open)
            second = pool.submit(client.post, CHAT, asked("word2"), **key)
            until(lambda: one.waiting)
            refused = client.post(CHAT, asked("word3"), **key)
            assert refused.status == 503 and refused.json["error"]["code"] == "queue_full"
            threading.Timer(0.2, go.set).start()
            one.close()
            assert first.result().status == second.result().status == 200


def test_a_model_without_a_template_completes_only(writer):
    bare = type(writer)(**{**vars(writer), "chat_template": None})
    with serving(bare) as (client, _):
        assert "/v1/completions" in client.post(CHAT, asked("word1")).json["error"]["message"]
        assert client.post(COMPLETE, {"prompt": "word1"}).status == 200
