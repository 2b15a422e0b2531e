"""A model behind HTTP in TensorFlow Serving's shapes, and requests that are refused."""

import base64
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kerasllm.serving import requests
from kerasllm.serving.app import build_app
from kerasllm.serving.batching import Batcher
from kerasllm.serving.limits import Limits
from kerasllm.serving.metrics import Metrics
from kerasllm.serving.predict_api import PredictApi, columns
from kerasllm.workflows.predict import predict
from kerasllm.workflows.serve import endpoints_of
from kerasllm.workflows.trained import open_run
from tests.serving.running import running, until
from tests.toy import toy_rows

PREDICT = "/v1/models/toy:predict"
# The last one is longer than the model reads: it is cut, as in training.
TEXTS = [*(text for text, _ in toy_rows(30, seed=5)), "good " * 100]
LIMITS = Limits(body=20_000, instances=40, queue=150, batch=8)


@pytest.fixture(scope="module")
def api(toy_run):
    trained = open_run(toy_run)
    return trained.task.api(trained.open(), LIMITS)


@pytest.fixture(scope="module")
def server(api):
    metrics = Metrics()
    endpoints, batcher = endpoints_of(api, "toy", LIMITS, metrics)
    with running(build_app(endpoints, batcher, metrics), batcher) as client:
        yield client


@pytest.fixture(scope="module")
def expected(toy_run):
    return list(predict(toy_run, TEXTS))


def same(found: dict, wanted: dict) -> bool:
    chances = wanted["probabilities"]
    return found["label"] == wanted["label"] and all(
        math.isclose(found["probabilities"][name], chances[name], abs_tol=1e-5) for name in chances
    )


@pytest.mark.parametrize("row", [lambda t: t, lambda t: {"text": t}])
def test_rows_are_answered_as_predict_answers_them(server, expected, row):
    answer = server.post(PREDICT, {"instances": [row(text) for text in TEXTS]})
    assert answer.status == 200 and list(answer.json) == ["predictions"]
    assert all(map(same, answer.json["predictions"], expected))


@pytest.mark.parametrize("column", [lambda t: t, lambda t: {"text": t}])
def test_columns_are_answered_in_columns(server, expected, column):
    answer = server.post(PREDICT, {"inputs": column(TEXTS), "signature_name": "serving_default"})
    outputs = answer.json["outputs"]
    assert outputs["label"] == [each["label"] for each in expected]
    assert all(len(column) == len(TEXTS) for column in outputs["probabilities"].values())


def test_one_text_may_stand_alone_and_in_base64(server, expected):
    inner = {"b64": base64.b64encode(TEXTS[0].encode()).decode()}
    for value in (TEXTS[0], inner, {"text": inner}):
        outputs = server.post(PREDICT, {"inputs": value}).json["outputs"]
        assert outputs["label"] == [expected[0]["label"]]
    answer = server.post("/v1/models/toy/versions/1:predict", {"instances": [inner]})
    assert same(answer.json["predictions"][0], expected[0])


def test_status_and_metadata(server):
    status = server.get("/v1/models/toy").json["model_version_status"][0]
    assert status["state"] == "AVAILABLE" and status["status"]["error_code"] == "OK"
    found = server.get("/v1/models/toy/metadata").json
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert found["model_spec"]["name"] == "toy"
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    dims = signature["outputs"]["probabilities"]["tensor_shape"]["dim"]
    assert [each["size"] for each in dims] == ["-1", "2"]
    assert found["metadata"]["labels"] == ["negative", "positive"]
    assert found["metadata"]["max_length"] > 0


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "JSON"),
        (b'{"instances": ["a"', 400, "JSON"),
        (b'{"instances": [NaN]}', 400, "NaN"),
        (b'{"instances": ["\xff"]}', 400, "JSON"),
        (b"[" * 15_000, 400, "nested too deeply"),
        (b'{"instances": ' + b"[" * 800 + b"]" * 800 + b"}", 400, "must be a text"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", 400, ""),
        (b"[1]", 400, "JSON object"),
        ({}, 400, "Received: none"),
        ({"instances": ["a"], "inputs": ["a"]}, 400, "Received: both"),
        ({"instances": []}, 400, "'instances' must be a list of instances, at least one"),
        ({"instances": "good"}, 400, 'list of instances, at least one. Received: "good"'),
        ({"instances": None}, 400, "list of instances"),
        ({"instances": [3]}, 400, "instances[0] must be a text. Received: 3"),
        ({"instances": [[]]}, 400, "instances[0] must be a text. Received: []"),
        ({"instances": [{"text": 3}]}, 400, "instances[0].text must be a text. Received: 3"),
        ({"instances": [{}]}, 400, "instances[0].text is missing. Expected: a text"),
        ({"instances": ["good", None]}, 400, "instances[1] must be a text"),
        ({"instances": [{"txt": "good"}]}, 400, "Unknown field: 'instances[0].txt'. Known: text"),
        ({"instances": [{"text": "a", "\ud800": 1}]}, 400, "instances[0] is not valid Unicode"),
        ({"instances": ["good", " "]}, 400, "instances[1] is empty"),
        ({"instances": [{"text": " "}]}, 400, "instances[0].text is empty"),
        ({"instances": [{"b64": "?"}]}, 400, "instances[0] is not base64"),
        ({"instances": [{"text": {"b64": "?"}}]}, 400, "instances[0].text is not base64"),
        ({"instances": [{"b64": "IA=="}]}, 400, "instances[0] is empty"),
        ({"inputs": {"txt": ["good"]}}, 400, "Unknown field: 'inputs.txt'. Known: text"),
        ({"inputs": {"text": ["good", 3]}}, 400, "inputs.text[1] must be a text. Received: 3"),
        ({"inputs": ["good", None]}, 400, "inputs[1] must be a text. Received: null"),
        ({"inputs": None}, 400, "inputs[0] must be a text. Received: null"),
        ({"inputs": []}, 400, "not empty. Received: []"),
        ({"inputs": {}}, 400, "not empty. Received: {}"),
        (b'{"instances": ["a\\ud800"]}', 400, "not valid Unicode: character 2 is '\\ud800'"),
        ({"instances": ["good"], "signature_name": "classify"}, 400, "not found"),
        ({"instances": ["good"], "signature_name": 3}, 400, "must be a string"),
        ({"instances": ["good"], "top": 3}, 400, "'top'"),
        ({"\ud800": 3}, 400, "not valid Unicode"),
        ({"instances": ["a"], "\ud800": 3}, 400, "not valid Unicode"),
        ({"inputs": {"\ud800": ["a"]}}, 400, ""),
        ({"inputs": {"text": ["a"], "\ud800": ["a"]}}, 400, ""),
        ({"inputs": {"text": ["\ud800"]}}, 400, "not valid Unicode"),
        ({"inputs": {"\ud800\ud800": 3}}, 400, ""),
        ({"instances": ["a"], "signature_name": "\ud800"}, 400, ""),
        ({"instances": [{"\ud800": {"\udfff": 3}}]}, 400, ""),
        ({"instances": ["good"] * 41}, 413, "takes at most 40 per request"),
        ({"inputs": ["good"] * 41}, 413, "'inputs' holds 41 instances"),
        ({"instances": ["good " * 5000]}, 413, "20,000 bytes"),
    ],
)
def test_a_bad_body_is_refused_and_the_server_continues(server, body, status, words):
    answer = server.post(PREDICT, body)
    assert answer.status == status and words in answer.json["error"]
    assert server.post(PREDICT, {"instances": ["good"]}).status == 200


def test_a_body_without_length_is_counted_as_it_comes(server):
    # The empty one is the end; of far too many it is not waited for.
    for parts in ([b" " * 1000] * 30 + [b""], [b" " * 1000] * 201):
        assert _chunked(server, parts).startswith(b"HTTP/1.1 413")


def test_a_client_that_sends_far_too_much_is_told(server):
    assert server.post(PREDICT, b" " * 190_000).status == 413
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(requests, "_SECONDS_FOR_BODY", 0.1)
    assert _chunked(server, [b"{"]).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", PREDICT, {}, 405),
        ("PUT", "/v1/models/toy", {}, 405),
        ("POST", "/v1/models/other:predict", {}, 404),
        ("POST", "/v1/models/toy/versions/2:predict", {}, 404),
        ("POST", "/v1/chat/completions", {}, 404),
        ("GET", "/v1/models/other", {}, 404),
        ("POST", PREDICT, {"Content_Type": "text/plain"}, 415),
        ("POST", PREDICT, {"Content_Type": "application/json; charset=latin-1"}, 415),
        ("POST", PREDICT, {"Content_Encoding": "gzip"}, 415),
    ],
)
def test_a_wrong_address_method_or_type_is_refused(server, method, path, headers, status):
    answer = server.ask(method, path, {"instances": ["good"]}, **headers)
    assert answer.status == status and "error" in answer.json


def test_clients_that_hang_up_are_not_missed(server):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    body = json.dumps({"instances": TEXTS})
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n{body}"
    for sent in ("", head[:20], head, whole[:-30], whole):
        for _ in range(5):
            with server.connect() as connection:
                connection.sendall(sent.encode())
    assert server.post(PREDICT, {"instances": TEXTS}).status == 200
    assert server.metric("kerasllm_waiting_requests") == 0


def test_a_hundred_clients_at_once_are_all_answered_together(server, expected):
    before = server.metric("kerasllm_batch_rows_count")

    def ask(number: int) -> bool:
        place = number % len(TEXTS)
        answer = server.post(PREDICT, {"instances": [TEXTS[place]]})
        return answer.status == 200 and same(answer.json["predictions"][0], expected[place])

    with ThreadPoolExecutor(100) as pool:
        assert all(pool.map(ask, range(300)))
    assert server.metric("kerasllm_batch_rows_count") - before < 300


def test_health_and_metrics(server):
    assert server.get("/health").status == server.get("/ready").status == 200
    counted = 'kerasllm_requests_total{endpoint="predict",status="200"}'
    before = server.metric(counted)
    server.post(PREDICT, {"instances": ["good", "bad"]})
    assert server.metric(counted) == before + 1
    assert server.get("/metrics").headers["content-type"].startswith("text/plain")
    assert server.metric('kerasllm_tokens_total{kind="prompt"}') > 0


class _Slow:
    """Computes when it is told to."""

    def __init__(self):
        self.go = threading.Event()
        self.batches = []

    def __call__(self, instances):
        texts = [one.text for one in instances]
        self.batches.append(texts)
        assert self.go.wait(30)
        if "bad" in texts:
            raise ValueError("the model failed")
        return [{"label": "positive"} for _ in texts][: None if "lost" not in texts else -1]


@pytest.fixture
def slow(api):
    """A server whose model waits, lets 3 requests wait, and wants a key."""
    compute, metrics = _Slow(), Metrics()
    batcher = Batcher(compute, metrics, most_instances=4, most_waiting=3)
    endpoints = PredictApi("toy", api, batcher, LIMITS)
    with running(build_app(endpoints, batcher, metrics, key="secret"), batcher) as client:
        try:
            yield client, compute, batcher
        finally:
            compute.go.set()


KEY = {"Authorization": "Bearer secret"}


def test_a_full_queue_a_failing_model_and_many_texts_of_one_client(slow):
    client, compute, batcher = slow

    def ask(*texts):
        return client.post(PREDICT, {"instances": texts}, **KEY)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, "first")
        until(lambda: compute.batches)
        many = pool.submit(ask, *["many"] * 6)
        until(lambda: batcher.waiting == 1)
        few = pool.submit(ask, "few")
        until(lambda: batcher.waiting == 2)
        failing = pool.submit(ask, "few", "bad")
        until(lambda: batcher.waiting == 3)
        refused = ask("one too many")
        assert refused.status == 503 and refused.headers["retry-after"] == "1"
        compute.go.set()
        assert first.result().status == 200
        assert few.result().status == many.result().status == 200
        assert failing.result().status == 500
    # Each gave a text in turn; what failed was computed again, one by one.
    together = [["many", "few", "few", "many"], ["bad", "many", "many", "many"]]
    assert compute.batches[1:] == [*together, ["bad"], *[["many"]] * 4]
    assert ask("again").status == 200
    # A model that does not answer each instance fails for these alone.
    assert ask("lost").status == 500 and ask("again").status == 200


def test_rows_become_columns_as_far_as_their_keys_are_the_same():
    rows = [
        {"label": "a", "chances": {"a": 1, "b": {"c": 2}}, "spans": [[0, 1]], "more": {"x": 1}},
        {"label": "b", "chances": {"a": 3, "b": {"c": 4}}, "spans": [], "more": {}},
    ]
    assert columns(rows) == {
        "label": ["a", "b"],
        "chances": {"a": [1, 3], "b": {"c": [2, 4]}},
        "spans": [[[0, 1]], []],
        "more": [{"x": 1}, {}],
    }


def test_what_was_let_in_is_finished_at_the_end(slow):
    client, compute, batcher = slow
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, PREDICT, {"instances": ["a"]}, **KEY)
        until(lambda: compute.batches)
        threading.Timer(0.2, compute.go.set).start()
        batcher.close()
        assert answer.result().status == 200
    assert client.get("/ready", **KEY).status == 503


@pytest.mark.parametrize(
    "sent", [{}, {"Authorization": "Bearer secre"}, {"Authorization": "secret"}]
)
def test_without_the_key_only_health_is_told(slow, sent):
    client = slow[0]
    for path in ("/metrics", "/v1/models/toy", "/nothing"):
        answer = client.get(path, **sent)
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert client.post(PREDICT, {"instances": ["a"]}, **sent).status == 401
    assert client.get("/health").status == client.get("/ready").status == 200
    assert client.get("/v1/models/toy", **KEY).status == 200


def _chunked(client, parts) -> bytes:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with client.connect() as connection:
        connection.sendall((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
        for part in parts:
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        return connection.recv(1000)
