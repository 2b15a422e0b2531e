"""Servers on the loopback that are talked to as real ones are: S3, a web server, the hub."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import socket
import threading
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

KEY, SECRET = "AKIAEXAMPLE", "se/cret+KEY0123456789"


@dataclass
class S3:
    """moto's server, and the client that puts objects there."""

    url: str
    client: Any

    def put(self, bucket: str, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=name, Body=content)

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", ())]


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    try:
        yield S3(url, client)
    finally:
        server.stop()


@contextlib.contextmanager
def gcs_server() -> Iterator[str]:
    """Google Cloud Storage with a bucket `bucket`; gives the options of its addresses."""
    import logging

    from gcp_storage_emulator import server as emulator

    class Server(http.server.ThreadingHTTPServer):
        block_on_close = False

        def handle_error(self, *args: Any) -> None:
            """A client that left early."""

    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Its own answers one connection at a time, and clients keep theirs. It takes the class from
    # Python's module, where others find it too: put back at the end.
    with unittest.mock.patch.object(emulator.server, "HTTPServer", Server):
        server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
        server.start()
        try:
            yield f"scheme=http&endpoint_override=127.0.0.1:{port}&retry_limit_seconds=5"
        finally:
            server.stop()


@dataclass
class Answer:
    """What a web server says to one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body after which the connection breaks."""


@dataclass
class Web:
    """A web server whose answers a test writes."""

    url: str
    answers: dict[str, Callable[[Any], Answer]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)

    def serve(self, path: str, content: bytes, **headers: str) -> str:
        """Serves a file as web servers do, with an ETag and ranges; returns its address."""
        tag = f'"{hashlib.md5(content).hexdigest()}"'

        def answer(request: Any) -> Answer:
            known = {"ETag": tag, "Last-Modified": formatdate(1e9, usegmt=True), **headers}
            if request.headers.get("If-None-Match") == tag:
                return Answer(304, headers=known)
            wanted = request.headers.get("Range")
            if wanted and request.headers.get("If-Range") in (None, tag):
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                range_ = f"bytes {start}-{len(content) - 1}/{len(content)}"
                return Answer(206, content[start:], {**known, "Content-Range": range_})
            return Answer(200, content, known)

        self.answers[path] = answer
        return self.url + path


@contextlib.contextmanager
def web_server() -> Iterator[Web]:
    web = Web("")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            web.requests.append(self)
            known = web.answers.get(self.path.partition("?")[0])
            answer = known(self) if known else Answer(404)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 304:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command == "HEAD" or answer.status == 304:
                return
            self.wfile.write(answer.body[: answer.cut_after])
            if answer.cut_after is not None:
                self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            """A client that left early, as tests let it."""

    server = Server(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serve_dataset(web: Web, repo: str, files: dict[str, bytes], revision: str = "main") -> None:
    """Lets a web server speak as the Hugging Face hub does of one data set."""
    commit = hashlib.sha1(revision.encode()).hexdigest()
    info = {
        "id": repo,
        "sha": commit,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": name} for name in files],
    }
    described = Answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
    for name in (revision, revision.replace("/", "%2F"), commit):
        web.answers[f"/api/datasets/{repo}/revision/{name}"] = lambda request: described
    if revision == "main":
        web.answers[f"/api/datasets/{repo}"] = lambda request: described
    for name, content in files.items():
        web.serve(f"/datasets/{repo}/resolve/{commit}/{name}", content, **{"X-Repo-Commit": commit})
