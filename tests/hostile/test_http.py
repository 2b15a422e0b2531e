"""Requests that were made to do harm: answered, refused or cut off; the server stays as it was."""

import contextlib
import json
import logging
import re
import socket

import pytest

from kerasllm.serving.app import build_app
from kerasllm.serving.limits import Limits
from kerasllm.serving.metrics import Metrics
from kerasllm.workflows.serve import endpoints_of
from tests.hostile.cases_http import draw_request
from tests.hostile.harness import within_limits
from tests.serving.running import running
from tests.serving.test_any_task import ANSWERS, PREDICT, ROWS, Overlap, api_of

CASES, MORE = 400, 5000
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


@pytest.fixture(scope="module", params=[None, "key"])
def server(request):
    metrics, limits = Metrics(), Limits(instances=3, body=300_000)
    endpoints, worker = endpoints_of(api_of(Overlap()), "overlap", limits, metrics)
    with running(build_app(endpoints, worker, metrics, request.param), worker) as client:
        yield client, {"Authorization": f"Bearer {request.param}"}


def answers(client, content: bytes) -> bytes:
    """Sends bytes, and nothing more; returns all that comes until the server closes."""
    found = b""
    with client.connect() as connection, contextlib.suppress(ConnectionError):
        connection.settimeout(20)
        # It may close while it is sent to.
        with contextlib.suppress(ConnectionError):
            connection.sendall(content)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        while block := connection.recv(1 << 16):
            found += block
    return found


def check(found: bytes) -> None:
    """Asserts that each answer is whole, and none tells of a failure."""
    while found:
        head, _, rest = found.partition(b"\r\n\r\n")
        status = _STATUS.match(head)
        assert status, found[:200]
        if status[1] == b"100":
            found = rest
            continue
        assert 200 <= int(status[1]) < 500, found[:500]
        if rest.startswith(b"HTTP/1.1 "):
            # Of HEAD: it tells the length of a body that does not come.
            found = rest
            continue
        length = re.search(rb"(?i)\ncontent-length: ([0-9]+)", head)
        if length is None:
            # To the end of the connection, or in chunks: pages and plain refusals.
            return
        body, found = rest[: int(length[1])], rest[int(length[1]) :]
        if b"application/json" in head and len(body) == int(length[1]):
            assert len(body) < 60_000
            json.loads(body)


def try_out(client, seed: int) -> None:
    check(answers(client, draw_request(seed)))


def is_healthy(client, headers) -> None:
    assert client.get("/health").status == 200
    assert client.post(PREDICT, {"instances": ROWS}, **headers).json == {"predictions": ANSWERS}


@pytest.fixture
def log(caplog):
    """Asserts that nothing was logged as an error."""
    caplog.set_level(logging.WARNING)
    yield
    # Of the test itself: `caplog.records` has those of the phase that it is asked in.
    records = caplog.get_records("call")
    assert not [each.getMessage() for each in records if each.levelno >= logging.ERROR]


def test_drawn_requests_are_answered_or_cut_off(server, log):
    client, headers = server
    with within_limits():
        for seed in range(CASES):
            try_out(client, seed)
    is_healthy(client, headers)


@pytest.mark.parametrize("path", ["/docs", "/nothing", "/health", "/openapi.json", PREDICT])
@pytest.mark.parametrize("line", ["Host: [", "Host: [::1", "Host: localhost\r\nOrigin: http://["])
def test_what_is_no_address_is_refused(server, log, path, line):
    head = f"GET {path} HTTP/1.1\r\n{line}\r\nAuthorization: Bearer key\r\n\r\n"
    check(answers(server[0], head.encode()))


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("size", [b"x", b"-1", b"fffffffffffffffff", b"3\r\nabcd"])
def test_a_body_that_breaks_off_is_no_failure(server, log, size, method):
    head = f"{method} {PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = answers(server[0], head.encode() + size + b"\r\n")
    # Of a size that may be one, the rest is waited for.
    refusals = tuple(b"HTTP/1.1 %d" % status for status in (400, 401, 405))
    assert found.startswith(refusals) or size.startswith(b"f")


def test_a_body_that_is_wrong_after_head_is_no_failure(server, log):
    # It depends on what comes first, the answer or the body.
    for _ in range(20):
        try_out(server[0], 738)


@pytest.mark.slow
def test_thousands_of_drawn_requests_are_answered_or_cut_off(server, log):
    client, headers = server
    for seed in range(CASES, CASES + MORE):
        try_out(client, seed)
    is_healthy(client, headers)
