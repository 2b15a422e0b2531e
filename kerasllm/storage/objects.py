"""Object stores and distributed file systems, by pyarrow's file systems."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from kerasllm.addresses import Address, redact
from kerasllm.errors import StorageError
from kerasllm.storage import cache
from kerasllm.storage.places import Place

_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 30
_MOST_REASON = 300
_S3_OPTIONS = (
    "region",
    "endpoint_override",
    "scheme",
    "anonymous",
    "access_key",
    "secret_key",
    "session_token",
    "allow_bucket_creation",
)
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine; "
    "?anonymous=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login`; "
    "gs://anonymous@BUCKET/... for a public bucket",
    "hdfs": "a Hadoop client (HADOOP_HOME, CLASSPATH) and `kinit`",
}
_CREDENTIALS |= dict.fromkeys(
    ("abfs", "abfss"), "AZURE_STORAGE_KEY, AZURE_CLIENT_ID and its like, or `az login`"
)


class Objects(Place):
    """A file or a folder of S3, Google Cloud Storage, HDFS, Azure or this machine (`file://`).

    Args:
        address: The address, with its credentials.

    Raises:
        StorageError: The file system cannot be opened.
    """

    def __init__(self, address: Address):
        self.address = address.without_credentials()
        with self._refusals():
            self.filesystem, self.path = _opened(address)

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine, and need not be downloaded."""
        return self.filesystem.type_name == "local"

    def is_file(self) -> bool:
        from pyarrow import fs

        with self._refusals():
            return self.filesystem.get_file_info([self.path])[0].type == fs.FileType.File

    def files(self) -> list[str]:
        from pyarrow import fs

        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
        start = f"{self.path}/" if self.path else ""
        with self._refusals():
            return sorted(
                info.path.removeprefix(start)
                for info in self.filesystem.get_file_info(selector)
                if info.type == fs.FileType.File
            )

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        from pyarrow import fs

        with self._refusals(name):
            info = self.filesystem.get_file_info([self._inner(name)])[0]
        return info.type == fs.FileType.File

    def fetch(self, name: str = "") -> Path:
        path = self._inner(name)
        if self.is_local:
            return Path(path)
        with self._refusals(name):
            info = self.filesystem.get_file_info([path])[0]
            if not info.is_file:
                raise FileNotFoundError(2, "there is no such file")
            with self.filesystem.open_input_stream(path, compression=None) as stream:
                version = _version(info, stream)

            def open_at(place: int) -> cache.Opened:
                stream = self.filesystem.open_input_stream(path, compression=None)
                if _version(self.filesystem.get_file_info([path])[0], stream) != version:
                    stream.close()
                    raise OSError("the file changed while it was read; try again")
                if place:
                    stream.close()
                    stream = self.filesystem.open_input_file(path)
                    stream.seek(place)
                return stream, place

            return cache.kept(
                self.address_of(name), PurePosixPath(path).name, version, info.size, open_at
            )

    def copy(self, name: str, target: Path) -> None:
        """Copies a file to this machine, not by the cache."""
        target.parent.mkdir(parents=True, exist_ok=True)
        path = self._inner(name)
        with (
            self._refusals(name),
            open(target, "wb") as file,
            self.filesystem.open_input_stream(path, compression=None) as stream,
        ):
            while block := stream.read(cache.PIECE):
                file.write(block)

    def write(self, name: str, source: Path | bytes) -> None:
        """Writes a file, which is there as a whole or not at all.

        Args:
            name: Its path below this folder.
            source: The file on this machine, or the bytes.
        """
        path = self._inner(name)
        with self._refusals(name):
            if self.filesystem.type_name != "s3":
                self.filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
            with self.filesystem.open_output_stream(path, compression=None) as sink:
                if isinstance(source, bytes):
                    sink.write(source)
                    return
                with open(source, "rb") as stream:
                    while block := stream.read(cache.PIECE):
                        sink.write(block)

    def delete(self, name: str) -> None:
        """Deletes a file, if it exists."""
        with self._refusals(name), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self._inner(name))

    def delete_folder(self, name: str) -> None:
        """Deletes a folder and its content, if it exists."""
        with self._refusals(name), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_dir(self._inner(name))

    def _inner(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    @contextlib.contextmanager
    def _refusals(self, name: str = "") -> Iterator[None]:
        """Turns the errors of file systems into those that users see."""
        import pyarrow

        try:
            yield
        except FileNotFoundError as error:
            raise StorageError(
                "The file does not exist", where=self.address_of(name), fix="check the address"
            ) from error
        except (OSError, pyarrow.ArrowException, ValueError) as error:
            why = redact(_reason(error))
            means = _CREDENTIALS.get(self.address.scheme, "")
            raise StorageError(
                f"The address cannot be opened: {why}",
                where=self.address_of(name),
                fix="check the address, the network and the credentials"
                + (f" ({means})" if means else " (a space is written %20 in an address)"),
            ) from error


def _reason(error: Exception) -> str:
    """The line of an error that says what happened."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Google's library repeats itself.
    line = line.partition(" error_info=")[0]
    for before in ("with a last message of ", "The underlying error message was: "):
        line = line.rpartition(before)[2]
    return line if len(line) <= _MOST_REASON else f"{line[:_MOST_REASON]}..."


def _version(info: Any, stream: Any) -> str:
    """What changes when a file does: its ETag, else its date and its size."""
    metadata: dict[bytes | str, Any] = {}
    with contextlib.suppress(Exception):
        metadata = dict(stream.metadata() or {})
    for key, value in metadata.items():
        if (key if isinstance(key, str) else key.decode()).lower() == "etag" and value:
            return value if isinstance(value, str) else value.decode()
    return f"{info.size} {info.mtime_ns}"


def _opened(address: Address) -> tuple[Any, str]:
    from pyarrow import fs

    if address.scheme == "s3":
        return _s3(address), unquote(f"{address.host}{address.path}").strip("/")
    if address.scheme in ("abfs", "abfss"):
        from kerasllm.storage.azure import open_azure

        return open_azure(address)
    if address.scheme == "gs" and "retry_limit_seconds" not in address.option:
        # By default its library tries for a quarter of an hour.
        options = (*address.options, ("retry_limit_seconds", str(_ANSWER_SECONDS)))
        address = dataclasses.replace(address, options=options)
    filesystem, path = fs.FileSystem.from_uri(str(address))
    return filesystem, path if path == "/" else path.rstrip("/")


def _s3(address: Address) -> Any:
    """Opens S3, or what speaks its language, as AWS' own tools are told to by the environment."""
    from pyarrow import fs

    options = address.option
    if strange := options.keys() - set(_S3_OPTIONS):
        raise ValueError(f"S3 has no option '{min(strange)}'; known: {', '.join(_S3_OPTIONS)}")
    user, _, password = address.user.partition(":")
    key, secret = options.get("access_key", unquote(user)), unquote(password)
    secret = options.get("secret_key", secret)
    endpoint = (
        options.get("endpoint_override")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    scheme = options.get("scheme")
    if endpoint and "://" in endpoint:
        parts = urlsplit(endpoint)
        scheme, endpoint = scheme or parts.scheme, parts.netloc.rpartition("@")[2]
    named = (os.environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    region = options.get("region") or next(filter(None, named), None)
    if not region:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(address.host)
    return fs.S3FileSystem(
        region=region,
        scheme=scheme or "https",
        endpoint_override=endpoint,
        access_key=key or None,
        secret_key=secret or None,
        session_token=options.get("session_token"),
        anonymous=options.get("anonymous", "").lower() in ("true", "1"),
        allow_bucket_creation=options.get("allow_bucket_creation", "").lower() in ("true", "1"),
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_ANSWER_SECONDS,
    )
