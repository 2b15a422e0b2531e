"""The audit trail of a run: a line of JSON for each job that wrote into it, in a file that grows.

Each line holds the sha256 of the line before it, so that a line that was changed, removed or added
shows. Who can write the file can write all of it again: a signature of the run fixes what it held
when it was signed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kerasllm.addresses import is_address, redact
from kerasllm.environment import versions
from kerasllm.errors import Interrupted, KerasllmError, RunError
from kerasllm.json_files import parse_json

FILE = "audit.jsonl"

_FIRST = "0" * 64
_SECONDS_FOR_GIT = 5
_LONGEST = 2000


@dataclass(frozen=True)
class Trail:
    """An audit trail whose chain is whole.

    Attributes:
        lines: How many lines it has.
        sha256: That of the last line, with its line end.
        cut_off: The lines that no writer finished.
    """

    lines: int
    sha256: str
    cut_off: tuple[int, ...] = ()


def note(run: Path, event: str, *, command: str | None = None, **facts: Any) -> None:
    """Adds a line to the audit trail of a run: who, where, when and what.

    Args:
        run: The run directory.
        event: What was done, in a word.
        command: The command that was typed; then the versions and the commit that is checked out
            in the working directory are noted too. Defaults to `None`.
        **facts: What else there is to say, as JSON; no text in it keeps credentials.

    Raises:
        OSError: If it cannot be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(run / FILE, flags, 0o666)
    try:
        with suppress(OSError):  # A file system without locks.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "it is not a regular file", str(run / FILE))
        last = b""
        with open(descriptor, "rb", closefd=False) as file:
            for each in file:
                last = each
        # What a writer that was killed has left is a line of its own.
        end = b"" if last.endswith(b"\n") or not last else b"\n"
        if command is not None:
            facts = {"command": command, **facts, "versions": _versions(), "commit": git_commit()}
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "user": _user(),
            "host": socket.gethostname(),
            "process": os.getpid(),
            **_redacted(facts),
            "previous": hashlib.sha256(last + end).hexdigest() if last else _FIRST,
        }
        text = end + json.dumps(line, ensure_ascii=False).encode() + b"\n"
        if os.write(descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run / FILE))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Recorded:
    """A context that notes that a job begins, and how it ended: done, failed, or by a signal.

    Args:
        run: The run directory.
        event: What the job is, in a word.
        **facts: As for `note`.
    """

    def __init__(self, run: Path, event: str, **facts: Any):
        self._run, self._event, self._facts = run, event, facts
        self._is_done = False

    def __enter__(self) -> Recorded:
        note(self._run, self._event, **self._facts)
        return self

    def done(self) -> None:
        """Notes that the job is done."""
        note(self._run, f"{self._event} ended", outcome="done")
        self._is_done = True

    def __exit__(self, kind, error, traceback) -> None:
        if error is not None:
            with suppress(OSError):
                note(self._run, f"{self._event} ended", **_outcome(error))
        elif not self._is_done:
            self.done()


def read(run: Path) -> Trail | None:
    """Checks the chain of an audit trail.

    Returns:
        What it holds; `None` where there is none, as in runs of older versions.

    Raises:
        RunError: If a line was changed, removed or added.
    """
    lines = _lines(run)
    return None if lines is None else _checked(run, lines)


def refuse_other(run: Path, noted: Mapping[str, Any]) -> None:
    """Refuses an audit trail that does not begin as it was when the run was signed.

    Args:
        run: The run directory.
        noted: `lines` and `sha256` of the trail that was signed.

    Raises:
        RunError: If it does not.
    """
    lines, count = _lines(run) or [], noted.get("lines")
    if not isinstance(count, int) or not 0 < count <= len(lines):
        raise _broken(run, f"{len(lines)} lines are left of the {count} that were signed")
    if hashlib.sha256(lines[count - 1]).hexdigest() != noted.get("sha256"):
        raise _broken(run, f"line {count} is not the one that was there when the run was signed")


def git_commit() -> str | None:
    """Returns the commit that is checked out in the working directory; `None` outside of git."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"],
            capture_output=True,
            text=True,
            timeout=_SECONDS_FOR_GIT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def parent_of(preset: str | Path | None) -> dict[str, Any] | None:
    """Returns the run whose model a preset is, and the end of its audit trail; `None` of others."""
    if preset is None or is_address(preset):
        return None
    path = Path(os.path.realpath(Path(preset).expanduser()))
    if path.name in ("model", "adapter") and (path.parent / "recipe.yaml").is_file():
        path = path.parent
    if not (path / "recipe.yaml").is_file():
        return None
    try:
        trail = read(path)
    except RunError:
        trail = None
    return {"run": str(path), "audit": trail and trail.sha256}


def _lines(run: Path) -> list[bytes] | None:
    try:
        if not stat.S_ISREG(os.stat(run / FILE).st_mode):
            raise OSError(None, "it is not a regular file")
        with open(run / FILE, "rb") as file:
            return file.readlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _broken(run, f"it cannot be read: {error.strerror}") from None


def _checked(run: Path, lines: list[bytes]) -> Trail:
    before, cut_off = _FIRST, []
    for number, line in enumerate(lines, 1):
        try:
            found = parse_json(line.decode())
            previous = found["previous"]
        except (ValueError, KeyError, TypeError):
            # The line that comes next, if there is one, holds the digest of this one.
            cut_off.append(number)
        else:
            if previous != before:
                what = "it is not the first" if number == 1 else f"line {number - 1} was changed"
                raise _broken(run, f"{what}, or lines before line {number} were added or removed")
        before = hashlib.sha256(line if line.endswith(b"\n") else line + b"\n").hexdigest()
    return Trail(len(lines), before, tuple(cut_off))


def _broken(run: Path, why: str) -> RunError:
    return RunError(
        f"The audit trail is not what was written: {why}",
        where=str(run / FILE),
        fix="find out who could write to the run; compare it with a copy elsewhere",
    )


def _outcome(error: BaseException) -> dict[str, Any]:
    if isinstance(error, Interrupted):
        return {"outcome": "signal", "signal": signal.Signals(error.exit_status - 128).name}
    if isinstance(error, KeyboardInterrupt):
        return {"outcome": "signal", "signal": signal.SIGINT.name}
    first = error.what if isinstance(error, KerasllmError) else str(error).partition("\n")[0]
    return {"outcome": "failed", "error": f"{type(error).__name__}: {first[:_LONGEST]}"}


def _versions() -> dict[str, str]:
    known = versions()
    return {name: known[name] for name in ("kerasllm", "keras", "tensorflow")}


def _user() -> str:
    """Returns who the system says this is; variables such as USER say what anybody likes."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _redacted(value: Any) -> Any:
    match value:
        case str():
            # Halves of pairs cannot be written.
            return redact(value).encode(errors="backslashreplace").decode()
        case dict():
            return {str(key): _redacted(each) for key, each in value.items()}
        case list() | tuple():
            return [_redacted(each) for each in value]
    return value
