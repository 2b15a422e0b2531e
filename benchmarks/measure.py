"""What every benchmark needs: a process measured from outside, and the machine it ran on."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PROCFS = Path("/proc")


@dataclass(frozen=True)
class Measured:
    """A process that has ended well.

    Attributes:
        stdout: What it printed.
        seconds: From its start to its end.
        cpu_seconds: Processor time that it used, over all cores.
        peak_memory: The most memory that it held at once, in bytes.
        cores_of_others: Cores that everything else on the machine kept busy meanwhile, on average;
            `None` where the system does not tell. Above some 0.1 the times mean little.
    """

    stdout: str
    seconds: float
    cpu_seconds: float
    peak_memory: int
    cores_of_others: float | None


def run_measured(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Measured:
    """Runs a command in a process of its own and measures it.

    Args:
        command: The program and its arguments.
        env: Variables to set on top of the present ones. Defaults to `None`.
        cwd: The folder to run in. Defaults to `None`: the present one.

    Returns:
        What it printed and what it used.

    Raises:
        SystemExit: When it fails, with the end of what it wrote to stderr.
    """
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        busy, started = _busy_seconds(), time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            # With what it has started in turn: a signal to this process alone does not reach it.
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode:
            raise SystemExit(
                f"{' '.join(command)}\nended with status {process.returncode}:\n"
                + stderr.read()[-4000:]
            )
        used = usage.ru_utime + usage.ru_stime
        others = None if busy is None else max(0.0, _busy_seconds() - busy - used) / seconds
        kilobytes = 1 if platform.system() == "Darwin" else 1024
        return Measured(stdout.read(), seconds, used, usage.ru_maxrss * kilobytes, others)


def machine() -> dict[str, str | int]:
    """Returns what to know of this machine beside a measured time: processor, cores, system."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def has_bfloat16() -> bool:
    """Whether the processor has instructions for matrix products in bfloat16."""
    try:
        flags = (_PROCFS / "cpuinfo").read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _cpu_model() -> str:
    """The processor's name and, where its instructions matter for bfloat16, which it has."""
    try:
        lines = (_PROCFS / "cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = fields.get("flags", "").split()
    known = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return " ".join([fields.get("model name", platform.processor()), *known])


def _busy_seconds() -> float | None:
    """Processor seconds that all processes of the machine have used since it started."""
    try:
        fields = (_PROCFS / "stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system = map(int, fields[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")
