"""The Dockerfile of docs/serving.md starts what the command line takes."""

import json
import re
from pathlib import Path

import pytest

from kerasllm.cli.serve import serve

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return re.search(r"```dockerfile\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]


def command(dockerfile: str, instruction: str) -> list[str]:
    """Returns the command of an instruction in its form without a shell."""
    return json.loads(re.search(rf"{instruction} (\[.*\])$", dockerfile, re.MULTILINE)[1])


def test_the_command_is_one_that_serve_takes(dockerfile):
    program, verb, *arguments = command(dockerfile, "^ENTRYPOINT") + command(dockerfile, "^CMD")
    assert (program, verb) == ("kerasllm", "serve")
    told = serve.make_context("serve", arguments).params
    assert told["host"] == "0.0.0.0" and told["name"] == "model" and told["run"] == "/model"
    assert f"EXPOSE {told['port']}" in dockerfile


def test_health_is_asked_at_the_port_that_is_served(dockerfile):
    python, option, code = command(dockerfile, "^    CMD")
    assert (python, option) == ("python", "-c") and ":8000/health" in code
    compile(code, "HEALTHCHECK", "exec")


def test_it_is_pinned_and_not_root(dockerfile):
    assert re.search(r"^FROM python:3\.\d+\.\d+-", dockerfile, re.MULTILINE)
    assert dockerfile.index("USER") < dockerfile.index("ENTRYPOINT")
    assert not re.search(r"^USER (root|0)\b", dockerfile, re.MULTILINE)
