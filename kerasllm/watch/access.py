"""Who may see the page: requests with its token, to a name of this machine."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from kerasllm.serving.origins import check_origin
from kerasllm.serving.refusal import Refusal

# Nothing is loaded from elsewhere, no page of another site may frame it, and no script is run that
# stands in a page.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Access:
    """Lets in who sends the token, and takes the prefix off the path.

    The token comes once in the address, which the page leaves at once so that it stands in no
    history, and then in a cookie that no script reads and no other site sends.

    Args:
        app: The application.
        token: The token.
        prefix: What comes before each path, as `/watch`; empty for none. A proxy may take it off.
        hosts: Names by which it may be asked, beside those of the machine. Defaults to none.
    """

    def __init__(self, app: ASGIApp, token: str, prefix: str = "", hosts: Collection[str] = ()):
        self._app = app
        self._token = token.encode()
        # Browsers send cookies to all ports of a machine: each server has a name of its own.
        self._cookie = f"kerasllm_watch_{hashlib.sha256(self._token).hexdigest()[:8]}"
        self._prefix = prefix
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if self._prefix and (path == self._prefix or path.startswith(self._prefix + "/")):
            path = path.removeprefix(self._prefix) or "/"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        headers = Headers(scope=scope)
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        try:
            check_origin(headers, self._hosts)
        except Refusal as refusal:
            answer = PlainTextResponse(str(refusal), 403, HEADERS)
        else:
            if self._is_token(self._sent(headers)):
                await self._app(scope, receive, send)
                return
            answer = self._without_cookie(path, query)
        await answer(scope, receive, send)

    def _without_cookie(self, path: str, query: dict[str, list[str]]):
        if not self._is_token(query.pop("token", [""])[0]):
            return PlainTextResponse(
                "The token is missing or wrong: open the address that `kerasllm watch` printed.",
                403,
                HEADERS,
            )
        # Two slashes would begin the name of another host.
        path = "/" + path.lstrip("/\\")
        rest = f"?{urlencode(query, doseq=True)}" if query else ""
        answer = RedirectResponse(f"{self._prefix}{path}{rest}", 303, HEADERS)
        answer.set_cookie(
            self._cookie,
            self._token.decode(),
            path=self._prefix or "/",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _is_token(self, sent: str) -> bool:
        return hmac.compare_digest(sent.encode(), self._token)

    def _sent(self, headers: Headers) -> str:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return cookie.value if cookie else ""
