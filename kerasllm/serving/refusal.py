"""The response to a refused request."""

from __future__ import annotations

from collections.abc import Mapping

from kerasllm.plurals import counted


class Refusal(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        message: What is wrong, and with which value. Halves of pairs, which UTF-8 cannot write,
            are escaped.
        param: The field of the request that it is about; as `message`. Defaults to `None`.
        code: A short name of the error, for programs. Defaults to `None`.
        headers: Of the answer. Defaults to `None`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = _escaped(message)
        self.param = None if param is None else _escaped(param)
        self.code = code
        self.headers = dict(headers or {})


def too_many_wait(queue: int) -> Refusal:
    """Returns the refusal of a request for which there is no room in the queue."""
    return Refusal(
        503,
        f"The server is busy: {counted(queue, 'waiting request')} already. Try again later.",
        code="queue_full",
        headers={"Retry-After": "1"},
    )


def _escaped(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def failed() -> Refusal:
    """Returns what a request is answered with that the server is to blame for."""
    return Refusal(500, "Internal error; see the server log", code="server_error")
