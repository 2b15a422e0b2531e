"""The command line, called in this process as `kerasllm` calls it."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from kerasllm.cli.main import main


class Result(NamedTuple):
    """What a command left: its exit status, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def kerasllm(capsys, session_cache, monkeypatch):
    """Runs a command; whatever it is, no traceback may show."""
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))

    def run(*arguments) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Result(ended.value.code, out, err)

    return run
