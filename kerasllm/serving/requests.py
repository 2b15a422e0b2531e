"""A request's body as JSON, and work that is cancelled when its client disconnects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from kerasllm.serving.refusal import Refusal

# The last is what `curl -d` says when it is told nothing.
_CONTENT_TYPES = ("application/json", "application/x-www-form-urlencoded")
_OF_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_SECONDS_FOR_BODY = 30
# A body that is too large is read on up to this many times the limit, and forgotten: a client that
# is cut off while it sends would not see why.
_READ_ON = 10

Result = TypeVar("Result")


async def read_json(request: Request, most_bytes: int) -> dict[str, Any]:
    """Returns the JSON object that is the body of a request.

    Args:
        request: The request.
        most_bytes: The maximum number of bytes that a body may have.

    Raises:
        Refusal: If it is too large, too slow, or no JSON object in UTF-8.
        ClientDisconnect: If the client hangs up.
    """
    _check_headers(request, most_bytes)
    try:
        async with asyncio.timeout(_SECONDS_FOR_BODY):
            body = await _body(request, most_bytes)
    except TimeoutError:
        what = f"The body did not arrive within {_SECONDS_FOR_BODY} seconds"
        raise Refusal(408, what, headers={"Connection": "close"}) from None
    try:
        value = json.loads(body, parse_constant=_no_number)
    except RecursionError:
        raise Refusal(400, "JSON Parse error: the body is nested too deeply") from None
    except ValueError as error:  # also bytes that are not UTF-8
        raise Refusal(400, f"JSON Parse error: {error}") from None
    if not isinstance(value, dict):
        raise Refusal(400, f"The body must be a JSON object. Received: {brief(value)}")
    return value


async def unless_hung_up(request: Request, work: Awaitable[Result]) -> Result:
    """Returns the result of some work, which is cancelled when the client hangs up.

    Args:
        request: A request whose body was read.
        work: What it waits for.

    Raises:
        ClientDisconnect: If the client hung up.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


def refuse_forms(headers: Headers) -> None:
    """Refuses what a form of any page can send, without asking first.

    Raises:
        Refusal: If the body is said to be a form's.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _OF_FORMS:
        raise Refusal(
            415,
            f"The body must be application/json, not {kind}: send the header "
            "`Content-Type: application/json`",
        )


def brief(value: object) -> str:
    """Returns the beginning of a value as JSON, for messages."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "a deeply nested value"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _check_headers(request: Request, most_bytes: int) -> None:
    kind, _, parameters = request.headers.get("content-type", _CONTENT_TYPES[0]).partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() not in _CONTENT_TYPES or charset not in ("", "utf-8"):
        found = request.headers["content-type"]
        raise Refusal(415, f"The body must be application/json in UTF-8. Received: {found[:80]}")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "The body must not be compressed")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > _READ_ON * most_bytes:
        raise _too_large(most_bytes)


async def _body(request: Request, most_bytes: int) -> bytes:
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size > _READ_ON * most_bytes:
            break
        if size <= most_bytes:
            body += part
    if size > most_bytes:
        raise _too_large(most_bytes)
    return bytes(body)


def _too_large(most_bytes: int) -> Refusal:
    what = f"The body is larger than {most_bytes:,} bytes, the limit of this server"
    # What may be left of the body is not read: the connection is of no more use.
    return Refusal(413, what, headers={"Connection": "close"})


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
