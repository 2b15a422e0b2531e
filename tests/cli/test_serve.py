"""`kerasllm serve`: a process that answers and ends well, and commands that are refused."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from kerasllm.serving.server import bind
from kerasllm.workflows.serve import KEY_VARIABLE, read_key


def test_a_server_says_where_it_is_and_ends_well(toy_run):
    command = [sys.executable, "-m", "kerasllm", "serve", str(toy_run), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--name", "toy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, KEY_VARIABLE: "the-secret"},
    )
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        host = re.search(r"http://(127\.0\.0\.1:\d+)\n", lines[0])[1]
        assert f"curl http://{host}/v1/models/toy:predict" in lines[1]
        body = re.search(r"-d '(.*)'", lines[2])[1]
        connection = http.client.HTTPConnection(host)
        for key, status in (("wrong", 401), ("the-secret", 200)):
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            connection.request("POST", "/v1/models/toy:predict", body, headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            assert answer.status == status
        assert json.loads(body) == {"instances": ["A film to remember."]}
        assert found["predictions"][0]["label"] in ("negative", "positive")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "the-secret" not in "".join(lines) + out + err and "Traceback" not in err


def test_a_port_that_is_taken_is_refused(kerasllm, toy_run):
    with bind("127.0.0.1", 0) as taken:
        # asyncio lets small packets go at once on sockets of this protocol only.
        assert taken.proto == socket.IPPROTO_TCP
        taken.listen()
        port = taken.getsockname()[1]
        result = kerasllm("serve", toy_run, "--port", port)
    assert result.status == 2 and "--port 0" in result.err and str(port) in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "no.such.host.invalid"], "host 'no.such.host.invalid' is not known"),
        (["--name", "a/b"], "--name"),
        (["--max-queue", "0"], "--max-queue"),
        (["--max-body", "many"], "--max-body"),
        (["--port", "70000"], "--port"),
        (["--adapter", "folder"], "--adapter"),
        (["--api-key-file", "no_such_file"], "no_such_file"),
    ],
)
def test_a_wrong_option_is_refused(kerasllm, toy_run, options, words):
    result = kerasllm("serve", toy_run, *options)
    assert result.status == 2 and words in result.err and not result.out


def test_a_model_that_is_not_there_is_refused(kerasllm):
    result = kerasllm("serve", "no_such_run", "--port", "0", "--host", "0.0.0.0")
    assert result.status == 2 and "no_such_run" in result.err
    assert "Warning: anyone who can reach 0.0.0.0" in result.err


def test_what_is_missing_is_named(kerasllm, toy_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = kerasllm("serve", toy_run)
    assert result.status == 2 and 'pip install "kerasllm[serve]"' in result.err


def test_a_key_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_key(None) is None
    monkeypatch.setenv(KEY_VARIABLE, "one")
    assert read_key(None) == "one"
    file = tmp_path / "key"
    file.write_text("two\n", encoding="utf-8")
    assert read_key(str(file)) == "two"


@pytest.mark.parametrize("content", ["", "two words", "schlüssel"])
def test_what_is_no_key_is_refused_and_not_shown(kerasllm, toy_run, tmp_path, content):
    (tmp_path / "key").write_text(content, encoding="utf-8")
    result = kerasllm("serve", toy_run, "--api-key-file", tmp_path / "key")
    assert result.status == 2 and "visible ASCII" in result.err
    assert not content or content not in result.err
