"""Addresses of files elsewhere (`s3://bucket/file.csv`), and the credentials that some hold.

Credentials are taken out of an address where it enters, and live in the memory of this process
alone: recipes, logs, messages and caches only ever see the address without them.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# Without a bound for the scheme, a long name is searched again from each of its letters.
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,40}://[^\s'\"`<>|]+")

WEB = ("http", "https")
"""The schemes of web servers."""

# What may stand in the options of an object store's address; all else could be a credential.
_OPEN_OPTIONS = {
    "allow_bucket_creation", "allow_bucket_deletion", "anonymous", "blob_storage_authority",
    "buffer_size", "client_id", "credential_kind", "default_block_size", "dfs_storage_authority",
    "enable_tls", "endpoint_override", "project_id", "region", "replication",
    "retry_limit_seconds", "scheme", "tenant_id", "tls", "user",
}  # fmt: skip
# Words in the names of a web address's parameters whose values are secrets.
_SECRET_WORDS = {
    "access", "apikey", "auth", "authorization", "code", "credential", "credentials", "jwt",
    "pass", "passwd", "password", "pwd", "sas", "secret", "session", "sig", "signature", "token",
}  # fmt: skip
_SECRET_ENDS = ("token", "apikey", "secret", "password", "signature")
_SIGNED = re.compile(
    r"x-(amz|goog|ms)-.*|awsaccesskeyid|googleaccessid|.*key[-_]?id", re.IGNORECASE
)
# What stands beside a signature and changes with it.
_BESIDE = {
    "expires", "policy", "se", "si", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr",
    "sr", "st", "sv",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_A_KEY = re.compile(r"[\w-]{16,}")

_with_credentials: dict[str, str] = {}


@dataclasses.dataclass(frozen=True)
class Address:
    """An address in its parts, as they are written: nothing is unquoted.

    Args:
        scheme: What stands before `://`, in lower case.
        user: What stands before an `@` in front of the host; `""` if there is none.
        host: The host, the bucket, or what else comes first.
        path: What follows it, with its first `/`; a `?` begins the options.
        options: The options: name and value of each.
    """

    scheme: str
    user: str
    host: str
    path: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Takes an address apart."""
        scheme, _, rest = text.partition("://")
        rest, _mark, query = rest.partition("?")
        host, slash, path = rest.partition("/")
        name, at, host_alone = host.rpartition("@")
        if not at and "@" in path and re.search(r":(?!\d*$)", host):
            # A secret key with a "/" in it: what follows the colon is no port.
            name, _, rest = rest.partition("@")
            host_alone, slash, path = rest.partition("/")
        pairs = [pair.partition("=") for pair in query.partition("#")[0].split("&") if pair]
        options = tuple((key, value) for key, _, value in pairs)
        return cls(scheme.lower(), name, host_alone, slash + path, options)

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        query = "&".join(f"{key}={value}" if value else key for key, value in self.options)
        return f"{self.scheme}://{user}{self.host}{self.path}" + (f"?{query}" if query else "")

    @property
    def option(self) -> dict[str, str]:
        """The options by name, unquoted."""
        return {key: urllib.parse.unquote_plus(value) for key, value in self.options}

    def below(self, path: str) -> Address:
        """Returns the address of what lies below this one, by its path from here."""
        return dataclasses.replace(self, path=f"{self.path.rstrip('/')}/{path}")

    def without_credentials(self, depth: int = 2) -> Address:
        """Returns the address without what gives access.

        Args:
            depth: How deep addresses in its options are searched, such as that of an endpoint;
                those below are left out. Defaults to `2`.
        """
        user = self.user
        if self.scheme in ("hdfs", "viewfs", "abfs", "abfss"):
            # The name of a user, of an account or of a container.
            user = user.partition(":")[0]
        elif user != "anonymous":
            user = ""
        options = self.options
        if self.scheme in WEB:
            secret = {key for key, value in options if _is_secret(key, value)}
            if secret:
                options = tuple(
                    (key, value)
                    for key, value in options
                    if key not in secret and key.lower() not in _BESIDE
                )
        else:
            options = tuple((key, value) for key, value in options if key in _OPEN_OPTIONS)
        options = tuple(
            (key, _redact(value, depth - 1) if depth else value)
            for key, value in options
            if depth or "://" not in value
        )
        return dataclasses.replace(self, user=user, options=options)


def is_address(text: object) -> bool:
    """Whether a text is an address, rather than a path."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def scheme_of(text: object) -> str | None:
    """Returns the scheme of an address in lower case; `None` of what is no address."""
    match = _SCHEME.match(text) if isinstance(text, str) else None
    return match[1].lower() if match else None


def take_credentials(text: str) -> str:
    """Returns a text without credentials, which `with_credentials` gives back in this process.

    Args:
        text: An address; anything else is returned as it is.

    Example:

    >>> take_credentials("s3://AKIA:secret@bucket/train.csv?region=eu-west-1")
    's3://bucket/train.csv?region=eu-west-1'
    """
    if not is_address(text):
        return text
    open_to_all = redact(text)
    if open_to_all != text:
        _with_credentials[open_to_all] = text
    return open_to_all


def with_credentials(text: str) -> str:
    """Returns an address with the credentials that it had when it was given in this process."""
    return _with_credentials.get(text, text)


def forget_credentials(text: str) -> None:
    """Forgets the credentials of an address, with which it could not be opened."""
    _with_credentials.pop(redact(text), None)


def redact(text: str) -> str:
    """Returns a text in which no address holds credentials.

    Args:
        text: Any text, such as a command or a message.
    """
    return _redact(text, 2)


def _redact(text: str, depth: int) -> str:
    if "://" not in text or not ("@" in text or "?" in text):
        return text

    def open_to_all(found: re.Match[str]) -> str:
        address = Address.parse(found[0])
        without = address.without_credentials(depth)
        return found[0] if without == address else str(without)

    return _IN_TEXT.sub(open_to_all, text)


def _is_secret(name: str, value: str) -> bool:
    words = {word.lower() for word in _WORDS.findall(name)}
    if words & _SECRET_WORDS or name.lower().endswith(_SECRET_ENDS) or _SIGNED.fullmatch(name):
        return True
    return "key" in words and _A_KEY.fullmatch(value) is not None
