"""Files of web servers."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import email.message
import http.client
import ipaddress
import json
import netrc
import os
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from kerasllm import __version__
from kerasllm.addresses import Address, redact
from kerasllm.errors import StorageError
from kerasllm.json_files import read_json_file
from kerasllm.storage import cache
from kerasllm.storage.places import Place

SWITCH = "KERASLLM_ALLOW_HTTP"
"""The environment variable that allows `http://` to other machines, if it is `1`."""

_SECONDS = 30
_ATTEMPTS = 3
_PASSING = (408, 429, 500, 502, 503, 504)
_RESPONSE = "response.json"
# A name that the server gives to the file.
_FILE_NAME = re.compile(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", re.IGNORECASE)
# What `quote` may leave as it is: addresses are quoted already, but for spaces and letters beyond.
_SAFE = "%/:=&?~#+!$,;'@()*[]"

# This process has downloaded them, and their server does not say whether they have changed.
_unversioned: dict[str, Path] = {}


class WebFile(Place):
    """A file of a web server, which is asked each time whether it has changed.

    `http://` is for this machine alone: anybody on the way can read and change what it carries.

    Args:
        address: The address, with its credentials: `user:password@`, or a signed query string.
            Others come from `~/.netrc`.

    Raises:
        StorageError: It is `http://` to another machine, or a glob.
    """

    def __init__(self, address: Address):
        self.address = address.without_credentials()
        self._user = address.user
        self._url = str(Address(address.scheme, "", address.host, address.path, address.options))
        if "*" in address.path:
            raise StorageError(
                "A web server cannot list its files",
                where=str(self.address),
                fix="name each file",
            )
        _refuse_open_line(self._url, str(self.address))

    def is_file(self) -> bool:
        """True: whether there is one turns out when it is downloaded."""
        return True

    def files(self) -> list[str]:
        """No files: a web server does not say which there are."""
        return []

    def fetch(self, name: str = "") -> Path:
        if name:
            return WebFile(self._whole().below(name)).fetch()
        address = str(self.address)
        if address in _unversioned and _unversioned[address].is_file():
            return _unversioned[address]
        cache.tell(f"looking up {address}")
        try:
            return self._fetched(address)
        except (OSError, http.client.HTTPException) as error:
            raise self._refusal(error) from error

    def _whole(self) -> Address:
        return dataclasses.replace(Address.parse(self._url), user=self._user)

    def _fetched(self, address: str) -> Path:
        folder = cache.folder_of(address)
        known = _read_known(folder)
        response = self._ask(known.get("headers", {}))
        if response.status == 304:
            response.close()
            return folder / known["file"]
        headers = response.headers
        tag, date = headers.get("ETag"), headers.get("Last-Modified")
        size = _size(headers)
        name = _name_of(headers, self.address.path, response.url)
        first = [response]

        def open_at(place: int) -> cache.Opened:
            if first and not place:
                return _Body(first.pop()), 0
            while first:
                first.pop().close()
            # From where it broke, unless the file is another one by now.
            again = self._ask({"Range": f"bytes={place}-", "If-Range": tag or date})
            begins = re.match(r"bytes (\d+)-", again.headers.get("Content-Range") or "")
            resumed = again.status == 206 and begins and int(begins[1]) == place
            if again.headers.get("ETag") != tag or again.headers.get("Last-Modified") != date:
                again.close()
                raise OSError("the file changed while it was read; try again")
            return _Body(again), place if resumed else 0

        def only_once(place: int) -> cache.Opened:
            return _Body(first.pop() if first else self._ask({})), 0

        # A weak tag does not tell every byte, but the date and the size beside it help.
        version = f"{tag} {date} {size}" if tag or date else None
        strong = (tag and not tag.startswith("W/")) or (date and not tag)
        try:
            file = cache.kept(
                address,
                name,
                version or f"of this process: {os.getpid()} {os.urandom(8).hex()}",
                size,
                open_at if strong else only_once,
            )
        finally:
            for each in first:
                each.close()
        _refuse_page(file, headers, address)
        if version is None:
            _unversioned[address] = file
        else:
            conditions = {"If-None-Match": tag, "If-Modified-Since": date}
            found = {
                "file": str(file.relative_to(folder)),
                "headers": {key: value for key, value in conditions.items() if value},
            }
            cache.write_text(folder / _RESPONSE, json.dumps(found))
        return file

    def _ask(self, headers: dict[str, str | None]) -> Any:
        """Sends a request; what may pass is tried again."""
        url = quote(self._url, safe=_SAFE)
        request = urllib.request.Request(url, headers={"User-Agent": f"kerasllm/{__version__}"})
        request.add_header("Accept-Encoding", "identity")
        for name, value in headers.items():
            if value:
                request.add_header(name, value)
        if authorization := self._authorization():
            # Not sent on to where the server leads.
            request.add_unredirected_header("Authorization", authorization)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return _opener(str(self.address)).open(request, timeout=_SECONDS)
            except urllib.error.HTTPError as error:
                if error.code == 304:
                    return error
                if error.code not in _PASSING or attempt == _ATTEMPTS:
                    raise
                error.close()
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionError) or attempt == _ATTEMPTS:
                    raise
            cache.pause(attempt)
        raise AssertionError

    def _authorization(self) -> str | None:
        user, _, password = self._user.partition(":")
        user, password = unquote(user), unquote(password)
        if not user:
            with contextlib.suppress(OSError, netrc.NetrcParseError):
                found = netrc.netrc().hosts.get(urlsplit(self._url).hostname or "")
                user, password = (found[0], found[2] or "") if found else ("", "")
        if not user:
            return None
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def _refusal(self, error: Exception) -> StorageError:
        where = str(self.address)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if error.code in (404, 410):
                what, fix = "The file does not exist", "check the address"
            elif error.code in (401, 403):
                what = "Access to the file was denied"
                fix = "give credentials in ~/.netrc, or sign the address again: it may have expired"
            else:
                what, fix = "The server did not return the file", "try again later"
            return StorageError(f"{what} (HTTP status {error.code})", where=where, fix=fix)
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            what = f"The server did not respond within {_SECONDS} seconds"
            fix = "check the network, or try again later: what was downloaded is kept"
        elif isinstance(reason, ssl.SSLError):
            why = getattr(reason, "verify_message", "") or reason
            what = f"The server cannot be trusted: {why}"
            fix = "check the address; SSL_CERT_FILE names the certificates of a private authority"
        else:
            why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            what = f"The file cannot be read: {redact(why)}"
            fix = "check the address and the network, or try again: what was downloaded is kept"
        return StorageError(what, where=where, fix=fix)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from a line that nobody can read to one that everybody can."""

    def __init__(self, where: str):
        self._where = where

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        _refuse_open_line(newurl, f"{self._where}, which leads to {redact(newurl)}")
        again = super().redirect_request(req, fp, code, msg, headers, newurl)
        old, new = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        if again is not None and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            if authorization := req.unredirected_hdrs.get("Authorization"):
                again.add_unredirected_header("Authorization", authorization)
        return again


class _Body:
    """The body of a response; one that ends before its time is an error that may pass."""

    def __init__(self, response: Any):
        self._response = response

    def read(self, size: int) -> bytes:
        try:
            return self._response.read(size)
        except http.client.IncompleteRead as error:
            raise cache.BrokenDownload("the connection broke") from error

    def close(self) -> None:
        self._response.close()


def _opener(where: str) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects(where))


def _refuse_open_line(url: str, where: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or os.environ.get(SWITCH) == "1":
        return
    host = (parts.hostname or "").lower()
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host == "localhost" or host.endswith(".localhost"):
        return
    raise StorageError(
        "http:// is allowed for this machine only: others on the network could change the data",
        where=where,
        fix=f"use https://; or, where the network is trusted, set {SWITCH}=1",
    )


def _read_known(folder: Path) -> dict[str, Any]:
    """What was noted when the file was downloaded, if it is still whole."""
    try:
        known = read_json_file(folder / _RESPONSE)
        return known if cache.is_whole(folder / known["file"]) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _size(headers: email.message.Message) -> int | None:
    length = headers.get("Content-Length") or ""
    return int(length) if length.isdecimal() else None


def _name_of(headers: email.message.Message, path: str, url: str) -> str:
    """The name of the file: what the server calls it, else the end of the address."""
    given = _FILE_NAME.search(headers.get("Content-Disposition") or "")
    names = [unquote(given[1]).strip()] if given else []
    names += [unquote(PurePosixPath(each).name) for each in (path, urlsplit(url).path)]
    name = next((name for name in names if "." in name), names[0])
    if headers.get("Content-Encoding") == "gzip" and not name.lower().endswith(".gz"):
        name += ".gz"
    return name.replace("/", "_")


def _refuse_page(file: Path, headers: email.message.Message, where: str) -> None:
    if headers.get_content_type() != "text/html" or file.suffix.lower() in (".html", ".htm"):
        return
    with open(file, "rb") as stream:
        start = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        file.unlink()
        raise StorageError(
            "The server returned a web page, not a file",
            where=where,
            fix="give the address of the file itself (at GitHub that of 'Raw'), or put your login "
            "into ~/.netrc if the page asks for it",
        )
