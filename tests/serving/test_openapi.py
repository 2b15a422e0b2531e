"""The description of an API and its page: what validates is what is described."""

import html
import json
import re
from typing import Annotated

import jsonschema
import pytest
from pydantic import Field

from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.text import TextGenerator
from kerasllm.serving.app import build_app
from kerasllm.serving.batching import Batcher
from kerasllm.serving.docs_page import page_of
from kerasllm.serving.generation_worker import Writer
from kerasllm.serving.limits import Limits
from kerasllm.serving.metrics import Metrics
from kerasllm.serving.openai_api import OpenAiApi
from kerasllm.serving.predict_api import PredictApi
from kerasllm.tasks.task import Api, InputText, Instance
from tests.generation.conftest import writer  # noqa: F401
from tests.serving.running import running

LIMITS = Limits(tokens=24, batch=4, instances=5)


@pytest.fixture(scope="module")
def language_model(writer):
    generator, metrics = TextGenerator(writer, GenerationSettings()), Metrics()
    worker = Writer(generator, metrics, most_answers=4, most_waiting=9)
    api = OpenAiApi("tiny", generator, worker, LIMITS)
    with running(build_app(api, worker, metrics), worker) as client:
        yield client


class Words(Instance):
    text: InputText
    most: Annotated[int, Field(ge=1, description="of <words> & more"), "a number"] = 3


@pytest.fixture(scope="module")
def classifier():
    api = Api(
        Instance=Words,
        outputs={"count": ("DT_INT64", (-1,))},
        predict=lambda some: [{"count": min(len(one.text.split()), one.most)} for one in some],
        example="it's <b>so</b>",
    )
    metrics = Metrics()
    worker = Batcher(api.predict, metrics, most_instances=4, most_waiting=9)
    endpoints = PredictApi("words", api, worker, LIMITS)
    with running(build_app(endpoints, worker, metrics, key="secret"), worker) as client:
        yield client


def schema_of(client, path: str, *, answer: bool = False) -> dict:
    """Returns the schema of the body of a POST request, or of its answer."""
    description = client.get("/openapi.json").json
    operation = description["paths"][path]["post"]
    place = operation["responses"]["200"] if answer else operation["requestBody"]
    schema = place["content"]["application/json"]["schema"]
    return {**schema, "components": description["components"]}


def is_described(body, schema: dict) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(body)


USER = [{"role": "user", "content": "word1"}]
BODIES = [
    {"messages": USER},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "word1"}]}]},
    {"messages": [{"role": "developer", "content": "word2"}, *USER], "stop": ["word9"]},
    {"messages": USER, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "max_tokens": 2},
    {"messages": USER, "n": 1, "user": "me", "tools": []},
    {"messages": USER, "n": 2},
    {"messages": USER, "tools": [{"type": "function"}]},
    {"messages": USER, "temperature": 3},
    {"messages": USER, "top_k": -2},
    {"messages": USER, "repetition_penalty": 0},
    {"messages": USER, "max_tokens": 25},
    {"messages": USER, "other": 1},
    {"messages": USER, "stop": [""]},
    {"messages": [{"role": "tool", "content": "a"}]},
    {"messages": []},
    {"prompt": "word1"},
    {},
]


@pytest.mark.parametrize("body", BODIES, ids=json.dumps)
def test_what_is_described_is_what_is_answered(language_model, body):
    path = "/v1/chat/completions"
    answer = language_model.post(path, body)
    assert (answer.status == 200) is is_described(body, schema_of(language_model, path))
    if answer.status == 200:
        assert is_described(answer.json, schema_of(language_model, path, answer=True))
    else:
        description = language_model.get("/openapi.json").json
        assert is_described(answer.json, description["components"]["schemas"]["Error"])


PROMPTS = ["word1", ["word1", "word2"], [1, 2], [[1], [2, 3]], "", [], ["a", ""], [1, "a"], 3, [-1]]


@pytest.mark.parametrize("prompt", PROMPTS, ids=json.dumps)
def test_prompts_are_described(language_model, prompt):
    path, body = "/v1/completions", {"prompt": prompt, "max_tokens": 1}
    answer = language_model.post(path, body)
    assert (answer.status == 200) is is_described(body, schema_of(language_model, path))
    if answer.status == 200:
        assert is_described(answer.json, schema_of(language_model, path, answer=True))


INSTANCES = [
    {"instances": ["a b"]},
    {"instances": [{"text": "a b", "most": 1}]},
    {"inputs": {"text": ["a", "b"]}},
    {"instances": [{"text": "a", "most": 0}]},
    {"instances": [{"words": "a"}]},
    {"instances": []},
    {"instances": ["a"] * 6},
]


@pytest.mark.parametrize("body", INSTANCES, ids=json.dumps)
def test_instances_are_described(classifier, body):
    path = "/v1/models/words:predict"
    answer = classifier.post(path, body, Authorization="Bearer secret")
    assert (answer.status == 200) is is_described(body, schema_of(classifier, path))
    if answer.status == 200:
        assert is_described(answer.json, schema_of(classifier, path, answer=True))


@pytest.mark.parametrize("served", ["language_model", "classifier"])
def test_all_addresses_are_described_and_the_examples_work(served, request):
    client = request.getfixturevalue(served)
    description = client.get("/openapi.json").json
    assert description["openapi"] == "3.1.0"
    key = {"Authorization": "Bearer secret"}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            answer = client.ask(method.upper(), path, media.get("example"), **key)
            assert answer.status == 200, (path, answer.body)
            # What needs the key says so.
            kept = served == "classifier" and "security" in operation
            bare = client.ask(method.upper(), path, media.get("example"))
            assert bare.status == (401 if kept else 200)


def test_a_model_without_a_template_is_described_without_chat(writer):
    bare = type(writer)(**{**vars(writer), "chat_template": None})
    api = OpenAiApi("tiny", TextGenerator(bare, GenerationSettings()), None, LIMITS)
    assert "/v1/chat/completions" not in {one.path for one in api.operations}


@pytest.mark.parametrize("served", ["language_model", "classifier"])
def test_the_page_needs_no_network_and_no_key(served, request):
    client = request.getfixturevalue(served)
    page = client.get("/docs")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    text = page.body.decode()
    assert not re.search(r"<script|<link|<img|src=|@import", text)
    for path in client.get("/openapi.json").json["paths"]:
        assert path in html.unescape(text)
    if served == "classifier":
        assert "of &lt;words&gt; &amp; more" in text or "&lt;b&gt;so&lt;/b&gt;" in text
        assert "<b>so</b>" not in text and "Authorization: Bearer KEY" in text
    else:
        for field in ("top_k", "min_p", "repetition_penalty", "tools"):
            assert f"<code>{field}</code>" in text


def test_whatever_is_in_a_description_is_escaped():
    evil = "</title><script>alert(1)</script>\"'"
    media = {"schema": {"$ref": "#/components/schemas/B"}, "example": evil}
    operation = {"summary": evil, "requestBody": {"content": {"application/json": media}}}
    field = {"description": evil, "default": evil, "enum": [evil]}
    described = {
        "info": {"title": evil, "version": evil},
        "paths": {evil: {"post": operation}},
        "components": {"schemas": {"B": {"properties": {evil: field}, "required": []}}},
    }
    page = page_of(described, evil)
    assert "<script" not in page and page.count("</title>") == 1
