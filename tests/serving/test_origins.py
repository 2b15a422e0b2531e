"""A server without a key answers no page that was not let in."""

import pytest
from starlette.datastructures import Headers

from kerasllm.serving.app import build_app
from kerasllm.serving.metrics import Metrics
from kerasllm.serving.origins import check_origin
from kerasllm.serving.refusal import Refusal
from tests.serving.running import running
from tests.serving.test_connections import Echo, Nothing

BODY = {"text": "a"}
PAGE = "https://example.org"


@pytest.fixture(scope="module", params=[None, "secret"], ids=["open", "key"])
def server(request):
    worker = Nothing()
    app = build_app(Echo(), worker, Metrics(), request.param, hosts=["my.host"], origins=[PAGE])
    with running(app, worker) as client:
        client.key = {"Authorization": f"Bearer {request.param}"} if request.param else {}
        yield client


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("a.localhost", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("10.0.0.3", True),
        ("my.host:80", True),
        ("my.host.evil.org", False),
        ("evil.org", False),
        ("127.0.0.1.evil.org", False),
        ("localhost.evil.org:8000", False),
    ],
)
def test_a_host_must_be_known(host, known):
    headers = Headers({"host": host})
    if known:
        check_origin(headers, ["my.host"])
    else:
        with pytest.raises(Refusal, match="--allowed-host"):
            check_origin(headers, ["my.host"])


@pytest.mark.parametrize(
    ("origin", "known"),
    [
        (PAGE, True),
        ("http://localhost:8000", True),
        ("http://localhost:8001", False),
        ("https://evil.org", False),
        ("null", False),
        ("", False),
    ],
)
def test_an_origin_must_be_known(origin, known):
    headers = Headers({"host": "localhost:8000", "origin": origin})
    if known:
        check_origin(headers, (), [PAGE])
    else:
        with pytest.raises(Refusal, match="--cors"):
            check_origin(headers, (), [PAGE])
    check_origin(headers, (), ["*"])


def test_pages_of_others_are_answered_only_with_the_key(server):
    status = 200 if server.key else 403
    for headers in ({"Host": "evil.org"}, {"Origin": "https://evil.org"}):
        assert server.post("/echo", BODY, **headers, **server.key).status == status
        assert server.get("/health", **headers).status == 200
    allowed = server.post("/echo", BODY, Origin=PAGE, **server.key)
    assert allowed.status == 200 and allowed.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain; a=b", "Multipart/Form-Data"]
)
def test_a_form_is_answered_only_with_the_key(server, kind):
    answer = server.ask("POST", "/echo", BODY, Content_Type=kind, **server.key)
    assert answer.status == (200 if server.key else 415)


def test_a_browser_may_ask_before(server):
    asked = {"Access_Control_Request_Method": "POST"}
    answer = server.ask("OPTIONS", "/echo", Origin=PAGE, **asked)
    assert answer.status == 200 and answer.headers["access-control-allow-origin"] == PAGE
    answer = server.ask("OPTIONS", "/echo", Origin="https://evil.org", **asked)
    assert answer.status >= 400 and "access-control-allow-origin" not in answer.headers
