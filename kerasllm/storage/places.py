"""What is at an address: a file or a folder, on any system."""

from __future__ import annotations

import abc
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from kerasllm.addresses import WEB, Address, take_credentials, with_credentials
from kerasllm.environment import cache_dir
from kerasllm.errors import StorageError

OBJECTS = ("s3", "gs", "hdfs", "abfs", "abfss", "file")
"""The schemes of pyarrow's file systems that are read here."""

SCHEMES = (*OBJECTS, *WEB, "hf")
"""The schemes of all addresses that are read here."""

_TOGETHER = 8


class Place(abc.ABC):
    """A file or a folder elsewhere.

    Attributes:
        address: Its address, without credentials.
    """

    address: Address

    @abc.abstractmethod
    def is_file(self) -> bool:
        """Whether it is a file.

        Raises:
            StorageError: It cannot be told.
        """

    @abc.abstractmethod
    def files(self) -> list[str]:
        """Returns the paths of all files below a folder, none if there is no such folder.

        Raises:
            StorageError: They cannot be listed.
        """

    @abc.abstractmethod
    def fetch(self, name: str = "") -> Path:
        """Returns the file on this machine, from the cache if it did not change there.

        Args:
            name: The path of a file below the folder. Defaults to `""`: the place is the file.

        Raises:
            StorageError: It is not there or cannot be read.
        """

    def address_of(self, name: str = "") -> str:
        """Returns the address of a file below, without credentials."""
        return str(self.address.below(name) if name else self.address)


def open_place(address: str | Address) -> Place:
    """Opens what lies at an address, with the credentials that were given with it.

    Args:
        address: The address; one in its parts is opened with the credentials in it alone.

    Raises:
        StorageError: No such system is known, or the address is not one of it.
    """
    if isinstance(address, str):
        address = Address.parse(with_credentials(take_credentials(address)))
    scheme = address.scheme
    if scheme in WEB:
        from kerasllm.storage.web import WebFile

        return WebFile(address)
    if scheme == "hf":
        from kerasllm.storage.hub import HubDataset

        return HubDataset(address)
    if scheme in OBJECTS:
        from kerasllm.storage.objects import Objects

        return Objects(address)
    raise StorageError(
        f"Addresses that start with {scheme}:// cannot be read",
        where=str(address.without_credentials()),
        fix=f"download the file first, or use {', '.join(f'{one}://' for one in SCHEMES)}",
    )


def fetch_all(fetch: Callable[[str], Path], names: Sequence[str]) -> list[Path]:
    """Downloads several files at once.

    Args:
        fetch: `Place.fetch`.
        names: The files.
    """
    import contextvars

    if len(names) < 2:
        return [fetch(name) for name in names]
    # A context each, because one cannot be entered twice at once.
    contexts = [contextvars.copy_context() for _ in names]
    with ThreadPoolExecutor(min(_TOGETHER, len(names))) as pool:
        runs = [
            pool.submit(context.run, fetch, name)
            for context, name in zip(contexts, names, strict=True)
        ]
        try:
            return [run.result() for run in runs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def fetch_folder(place: Place, names: Iterable[str]) -> Path:
    """Returns a folder on this machine that holds files as they lie below a place.

    The folder is made whole or not at all, and is another one when a file changed.

    Args:
        place: The place.
        names: The paths of the files below it.

    Raises:
        StorageError: A file cannot be read, or leads out of the folder.
    """
    names = sorted(names)
    for name in names:
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise StorageError("A path leads outside the folder", where=place.address_of(name))
    files = fetch_all(place.fetch, names)
    digest = hashlib.sha256(str(place.address).encode())
    for name, file in zip(names, files, strict=True):
        # A file of the cache lies in a folder that is named by its address and its version.
        digest.update(f"\n{name} {file.parent}".encode())
    folder = cache_dir() / "remote" / "folders" / digest.hexdigest()[:24]
    target = folder / (PurePosixPath(place.address.path).name or "folder")
    if target.is_dir():
        _restore(target, dict(zip(names, files, strict=True)))
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as made:
        filled = Path(made) / "files"
        filled.mkdir()
        for name, file in zip(names, files, strict=True):
            (filled / name).parent.mkdir(parents=True, exist_ok=True)
            _link(file, filled / name)
        try:
            os.replace(filled, target)
        except OSError:
            # Another process was faster.
            if not target.is_dir():
                raise
    return target


def _restore(folder: Path, files: Mapping[str, Path]) -> None:
    """Replaces what is not the file of the cache any more, because that was downloaded again."""
    for name, file in files.items():
        here, there = (folder / name).stat(), file.stat()
        same = os.path.samestat(here, there)
        if same or (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            continue
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        _link(file, temporary)
        os.replace(temporary, folder / name)


def _link(file: Path, target: Path) -> None:
    """Puts a file of the cache in a second place, without a second copy where that is possible."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)
