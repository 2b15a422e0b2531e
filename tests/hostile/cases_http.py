"""Draws what a client that means harm may send: bytes that are requests, or nearly."""

from __future__ import annotations

import json
import random

from tests.hostile.cases_data import NUMBERS, TEXTS, deep

PATHS = [
    "/v1/models/overlap:predict",
    "/v1/models/overlap",
    "/v1/models/overlap/metadata",
    "/v1/models/overlap/versions/1:predict",
    "/v1/models/other:predict",
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/docs",
]
_ODD_PATHS = [
    "",
    "*",
    "//",
    "/../../etc/passwd",
    "/%00",
    "/%ff%fe",
    "/%ud800",
    "/\xff",
    "/" + "a" * 9_000,
    "/" + "%2e%2e/" * 1_000,
    "http://[",
    "http://evil.org/health",
    "evil.org:80",
    "/health?" + "a=1&" * 2_000,
    "/health#x",
    "/docs?x=<script>",
    "/v1/models/overlap/versions/" + "9" * 5_000 + ":predict",
    "/v1/models/overlap/versions/-1:predict",
    "/v1/models/" + "%F0%9F%98%80" * 50 + ":predict",
    "/static/../x",
]
_METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "PRI",
            "get", "G" * 5_000, "\x00", "PO ST", ""]  # fmt: skip
_VERSIONS = ["HTTP/1.1"] * 12 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "http/1.1",
                                 "HTTP/1", "", "HTTP/1.1 x", "FTP/1.1"]  # fmt: skip
_HOSTS = ["localhost"] * 3 + ["127.0.0.1:1", "[::1]:80", "[", "[x", "]", "[::1", "",
          "a" * 5_000, "evil.org", "localhost:99999999", "localhost:x", "user@localhost",
          "localhost\x00", "lo calhost", "%00", "\xff", "1.2.3.4%25x", "[fe80::1%25x]"]  # fmt: skip
_HEADERS = [
    "Origin: http://[",
    "Origin: null",
    "Origin: \xff",
    "Origin: http://localhost:x",
    "Origin: " + "a" * 5_000,
    "Host: second",
    "Content-Length: -1",
    "Content-Length: 99999999999999999999999",
    "Content-Length: +3",
    "Content-Length: 0x10",
    "Content-Length: \xb2",
    "Content-Length: 3, 3",
    "Content-Length: 1",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: \x0bchunked",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: " + "x," * 1_000,
    "Authorization: Bearer \xff",
    "Authorization: " + "x" * 5_000,
    "Content-Type: application/json; charset=utf-16",
    "Content-Type: application/json; charset=\xff",
    "Content-Type: multipart/form-data; boundary=x",
    "Content-Type: text/plain",
    "Content-Type: \x00",
    "Content-Type: " + ";" * 3_000,
    "Content-Encoding: gzip",
    "Accept: " + "*/*," * 1_000,
    "Range: bytes=0-0,-1",
    "X: " + "a" * 70_000,
    "No colon at all",
    ": no name",
    "Folded: a\r\n b",
    "Nul: \x00",
    "Bad name : x",
    "\xff\xfe: x",
    "X-Forwarded-For: ::1\r\nX-Forwarded-Proto: \xff",
    "Cookie: " + "a=b; " * 1_000,
    *(f"A{number}: b" for number in range(3)),
]
_FIELDS = ["instances", "inputs", "signature_name", "text", "text_pair", "b64", "\ud800", "",
           "a" * 9_000, "least", "ignored", "note", "__proto__", "__class__", "\0"]  # fmt: skip
_ROW = {"text": "a b", "text_pair": "b c"}
# Texts go over the wire: the shorter ones.
_TEXTS = [text[:30_000] for text in TEXTS]


def _value(draw: random.Random, depth: int = 0):
    kind = draw.choice("text number other row rows object list deep".split())
    if depth > 3 or kind in ("text", "number", "other"):
        return {
            "text": lambda: draw.choice(_TEXTS),
            "number": lambda: draw.choice(NUMBERS),
        }.get(kind, lambda: draw.choice([None, True, [], {}, [[]], "", "a"]))()
    return {
        "row": lambda: _ROW | {draw.choice(_FIELDS): _value(draw, depth + 1)},
        "rows": lambda: [_ROW] * draw.choice([1, 2, 3, 4, 2_000]),
        "object": lambda: {draw.choice(_FIELDS): _value(draw, depth + 1) for _ in range(3)},
        "list": lambda: [_value(draw, depth + 1) for _ in range(draw.choice([1, 3]))],
        "deep": lambda: deep(draw.choice([5, 300, 900])),
    }[kind]()


def _body(draw: random.Random) -> bytes:
    kind = draw.choice("fields fields fields value rows raw damaged encoded large".split())
    if kind == "raw":
        return draw.choice([
            b"", b"null", b"[]", b"{", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf{}", b"{}{}", b"\0",
            b"[" * 200_000, b'{"instances": ' * 20_000, b'{"a": 1e999}', b'{"a": NaN}',
            b'{"instances": ' + b"9" * 100_000 + b"}", b'{"a": -Infinity}',
            b'{"instances": [], "instances": []}', b'{"\\ud800": 1}', b"{'a': 1}", b"{\"a\": 1,}",
        ])  # fmt: skip
    if kind == "large":
        return b'{"instances": ["' + b"a" * draw.choice([200_000, 1_500_000]) + b'"]}'
    found = {
        "fields": lambda: {
            draw.choice(_FIELDS[:3]): _value(draw),
            draw.choice(_FIELDS): _value(draw),
        },
        "value": lambda: _value(draw),
    }.get(kind, lambda: {"instances": [_ROW] * draw.choice([1, 3])})()
    content = json.dumps(found, ensure_ascii=draw.random() < 0.5).encode(errors="surrogatepass")
    if kind == "damaged":
        place = draw.randrange(len(content))
        return content[:place] + draw.randbytes(draw.choice([1, 9])) + content[place + 1 :]
    if kind == "encoded":
        return content.decode(errors="replace").encode(draw.choice(["utf-16", "utf-32", "utf-7"]))
    return content


def _chunks(draw: random.Random, body: bytes) -> bytes:
    """A body in chunks, or nearly."""
    size = draw.choice([1, 7, 5_000]) if len(body) < 5_000 else 50_000
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    odd = [b"-1", b"ffffffffffffffffff", b"x", b"", b" 5", b"0x5", b"5;" + b"e" * 9_000]
    name = draw.choice([None] * 6 + odd)
    coded = b"".join(
        (name if name is not None and place == 0 else b"%x" % len(part)) + b"\r\n" + part + b"\r\n"
        for place, part in enumerate(parts)
    )
    return coded + draw.choice(
        [b"0\r\n\r\n"] * 5
        + [b"", b"0\r\n", b"0\r\nHost: x\r\n\r\n", b"0\r\n" + b"T: x\r\n" * 2_000 + b"\r\n"]
    )


def _request(draw: random.Random) -> bytes:
    odd = draw.choice(["line", "headers", "headers", "body", "body", "body", "body"])
    method, path, version, host = "POST", PATHS[0], "HTTP/1.1", "localhost"
    if odd == "line":
        method = draw.choice(_METHODS)
        path = draw.choice(_ODD_PATHS + PATHS)
        version = draw.choice(_VERSIONS)
    elif draw.random() < 0.2:
        method, path = draw.choice(["GET", "POST"]), draw.choice(PATHS + _ODD_PATHS)
    if odd != "body":
        host = draw.choice(_HOSTS)
    headers = [f"Host: {host}"] * draw.choice([1, 1, 1, 1, 1, 0, 2] if odd == "headers" else [1])
    if odd == "headers":
        headers += [draw.choice(_HEADERS) for _ in range(draw.choice([1, 1, 2, 300]))]
    body = _body(draw)
    if draw.random() < 0.2:
        headers.append("Transfer-Encoding: chunked")
        body = _chunks(draw, body)
    elif draw.random() < 0.9:
        headers.append(f"Content-Length: {len(body) + draw.choice([0] * 8 + [-1, 1, 5])}")
    if draw.random() < 0.8:
        headers.append("Content-Type: application/json")
    end = draw.choice(["\r\n"] * 9 + ["\n"])
    line = f"{method} {path} {version}"
    head = end.join([line, *headers]) + end + end
    return head.encode("latin-1", errors="replace") + body


def draw_request(seed: int) -> bytes:
    """Returns the bytes that the client of a seed sends."""
    draw = random.Random(seed)
    content = b"".join(_request(draw) for _ in range(draw.choice([1, 1, 1, 2, 30])))
    if draw.random() < 0.05:
        content = draw.choice(
            [
                b"\x16\x03\x01\x02\x00",
                b"\0" * 9_000,
                b"\r\n" * 9_000,
                draw.randbytes(500),
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ]
        )
    if draw.random() < 0.1:
        content = content[: draw.randrange(len(content) + 1)]
    return content
