"""A server in a thread of this process, and requests to it as they go over the wire."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import closing, contextmanager
from typing import NamedTuple

from kerasllm.serving.server import Server, address_of, bind


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """Asks one server.

    Args:
        address: As `http://127.0.0.1:8000`.
    """

    def __init__(self, address: str):
        self.address = address
        self.host = address.removeprefix("http://")

    def ask(self, method: str, path: str, body=None, **headers) -> Answer:
        """Sends a request; a body that is no bytes goes as JSON."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        with closing(http.client.HTTPConnection(self.host, timeout=60)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())

    def get(self, path: str, **headers) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body, **headers) -> Answer:
        return self.ask("POST", path, body, **headers)

    def connect(self) -> socket.socket:
        """Returns a connection, for what is no whole request."""
        host, _, port = self.host.partition(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def metric(self, line: str) -> float:
        """Returns the number of a line of the metrics by its beginning; 0 if it is not there."""
        for found in self.get("/metrics").body.decode().splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
        return 0.0


@contextmanager
def running(app, worker, context=None):
    """Serves an application while the block lasts, by HTTPS with a context; gives a client."""
    begun = threading.Event()
    with bind("127.0.0.1", 0) as taken:
        server = Server(app, begun.set, context)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
        worker.start()
        thread.start()
        assert begun.wait(30)
        try:
            yield Client(address_of(taken))
        finally:
            server.should_exit = True
            thread.join(30)
            worker.close()


def until(holds) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
