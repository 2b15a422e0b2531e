"""Connections that send nothing, or ever so slowly, take no place from those that ask."""

import resource
import socket
import time

import pytest
from starlette.responses import JSONResponse
from starlette.routing import Route

from kerasllm.serving import connections, server
from kerasllm.serving.app import build_app
from kerasllm.serving.metrics import Metrics
from tests.serving.running import running, until

HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n"


class Echo:
    """Endpoints that compute nothing."""

    name, error_schema, operations = "toy", {}, ()
    example = ("/echo", {})

    def __init__(self):
        async def echo(request):
            return JSONResponse(len(await request.body()))

        self.routes = [Route("/echo", echo, methods=["POST", "GET"])]

    def error(self, refusal):
        return JSONResponse({"error": refusal.message}, refusal.status, headers=refusal.headers)


class Nothing:
    """A worker that has nothing to do."""

    ready, waiting = True, 0

    def start(self):
        pass

    close = start


@pytest.fixture
def echo(monkeypatch):
    """Serves with at most 20 connections, which have half a second for their headers."""
    monkeypatch.setattr(server, "most_connections", lambda: 20)
    monkeypatch.setattr(
        server, "protocol", lambda most, **options: connections.protocol(most, 0.5, **options)
    )
    worker = Nothing()
    with running(build_app(Echo(), worker, Metrics()), worker) as client:
        yield client


def closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1000)
    except ConnectionResetError:
        return True


def answer(connection: socket.socket) -> bytes:
    """Returns the answer of `/echo`, whose body is one character."""
    found = b""
    while not found.partition(b"\r\n\r\n")[2]:
        found += connection.recv(1000)
    return found


@pytest.mark.parametrize("sent", [b"", HEAD[:1], HEAD[:40]])
def test_headers_that_do_not_come_are_not_waited_for(echo, sent):
    with echo.connect() as connection:
        began = time.monotonic()
        connection.sendall(sent)
        assert closed(connection)
        assert 0.3 < time.monotonic() - began < 5


def test_nor_those_of_the_next_request(echo):
    with echo.connect() as connection:
        connection.sendall(HEAD + b"abc")
        assert answer(connection).startswith(b"HTTP/1.1 200")
        # Between requests it is kept.
        time.sleep(0.8)
        for byte in HEAD[:6]:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
        began = time.monotonic()
        assert closed(connection)
        assert time.monotonic() - began < 5


def test_a_body_may_take_longer(echo):
    with echo.connect() as connection:
        connection.sendall(HEAD + b"a")
        time.sleep(0.8)
        connection.sendall(b"bc")
        assert answer(connection).endswith(b"3")


def test_too_many_connections_leave_room_for_those_that_ask(echo):
    silent = [echo.connect() for _ in range(40)]
    try:
        for connection in silent[20:]:
            connection.sendall(HEAD[:9])
        for _ in range(5):
            assert echo.get("/health").status == 200
        assert closed(silent[0])
    finally:
        for connection in silent:
            connection.close()
    until(lambda: echo.get("/health").status == 200)


def test_the_process_may_open_what_it_needs():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        most = connections.most_connections()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert soft > 300 and 16 <= most < soft
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
