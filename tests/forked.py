"""Runs Python as `subprocess` does, in a process that has imported TensorFlow already.

To import TensorFlow, Keras and KerasHub takes seconds of a core, and most of what a test has a
process of its own for does not depend on it. One process for each of pytest's imports them once,
before TensorFlow has devices or threads, and forks for each that is started.

What a process does before that, or what it says of it, is tested in a real one, by `subprocess`.
`KERASLLM_TESTS_FORK=0` makes all of them real.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path

FORKS = sys.platform == "linux" and os.environ.get("KERASLLM_TESTS_FORK") != "0"
ROOT = Path(__file__).parents[1]
# Switches of what kerasllm sets when it imports TensorFlow, which may read it only once: each
# process sets it, for its own environment.
_SETS_NOTHING = (
    "KERASLLM_ALLOCATOR",
    "KERASLLM_QUIET_IMPORT",
    "KERASLLM_XLA_CACHE",
    "KERASLLM_XLA_FLAGS",
)


def run(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess:
    """Runs `python -c CODE ...` or `python -m MODULE ...`, and returns what it wrote, as text.

    Args:
        *arguments: What follows `python`.
        env: The environment. Defaults to `None`: that of this process.
        cwd: The working directory. Defaults to `None`: that of this process.
        timeout: Seconds. Defaults to `600`.
    """
    process = start(*arguments, env=env, cwd=cwd)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
) -> Forked | subprocess.Popen:
    """Starts what `run` runs: a process with `communicate`, `kill` and `returncode`."""
    arguments = [str(each) for each in arguments]
    if FORKS:
        return Forked(arguments, os.environ if env is None else env, cwd or os.getcwd())
    command = [sys.executable, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, cwd=cwd, **pipes)


class Forked:
    """What `subprocess.Popen` is to a test, for a process that was forked."""

    def __init__(self, arguments: list[str], env: Mapping[str, str], cwd: Path | str):
        self.args = [sys.executable, *arguments]
        self._folder = tempfile.TemporaryDirectory()
        self._written = [Path(self._folder.name) / name for name in ("out", "err")]
        for file in self._written:
            file.touch()
        context = multiprocessing.get_context("forkserver")
        _begin_server()
        task = (arguments, dict(env), str(cwd), [str(file) for file in self._written])
        self._process = context.Process(target=_become, args=task)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Its exit status, minus the signal that ended it; `None` while it runs."""
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end, and returns what it wrote to stdout and stderr."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return tuple(file.read_text(encoding="utf-8") for file in self._written)

    def kill(self) -> None:
        """Ends it, where it has not ended."""
        if self.returncode is None:
            self._process.kill()
            self._process.join()


def _begin_server() -> None:
    """Begins the process that is forked, in the environment that pytest was started in."""
    server = forkserver._forkserver
    if getattr(server, "_forkserver_pid", None):
        return
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.forked_imports"])
    kept, folder = dict(os.environ), os.getcwd()
    # It looks for modules where it is started.
    os.chdir(ROOT)
    os.environ.update(dict.fromkeys(_SETS_NOTHING, "0"))
    try:
        server.ensure_running()
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(kept)


def _become(arguments: list[str], env: dict[str, str], cwd: str, files: list[str]) -> None:
    """Makes this process what `python ARGUMENTS` would be, and runs that."""
    for number, file in enumerate(files, 1):
        written = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(written, number)
        os.close(written)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    own = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    from kerasllm.runtime.startup import set_before_import
    from tests.forked_imports import PATH

    sys.path[:] = ["", *own, *PATH]
    set_before_import()
    option, what, *rest = arguments
    sys.argv = [option, *rest]
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), vars(main))
    finally:
        # What multiprocessing ends is not told.
        atexit._run_exitfuncs()
