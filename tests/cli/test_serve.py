"""`kerasllm serve`: a process that answers and ends well, and commands that are refused."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from kerasllm.serving.server import bind
from kerasllm.workflows.serve import KEY_VARIABLE, read_key
from tests.serving.running import Client


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


_FOR_EVER = """{% for a in range(99999) %}{% for b in range(99999) %}{% if false %}x{% endif %}\
{% endfor %}{% endfor %}{{ messages[0].content }}"""


@pytest.mark.slow
def test_a_language_model_ends_within_its_grace_period(toy_language_model, tmp_path):
    """While a template renders for ever, nobody reads a long stream, and headers do not come."""
    run = tmp_path / "run"
    shutil.copytree(toy_language_model, run)
    folder = run / "model" / "huggingface"
    folder.mkdir(exist_ok=True)
    (folder / "chat_template.jinja").write_text(_FOR_EVER, encoding="utf-8")
    (run / "model" / "SHA256SUMS").unlink(missing_ok=True)
    command = [sys.executable, "-m", "kerasllm", "serve", str(run), "--port", "0", "--grace", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    chat = {"messages": [{"role": "user", "content": "Hello"}]}
    stream = {"prompt": ["It was"] * 1000, "max_tokens": 20, "stream": True}
    try:
        client = Client(process.stdout.readline().split()[-1])
        with ExitStack() as connections:
            for path, body in (("chat/completions", chat), ("completions", stream)):
                sent = json.dumps(body).encode()
                head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(sent)}"
                connection = connections.enter_context(client.connect())
                connection.sendall(head.encode() + b"\r\n\r\n" + sent)
            connections.enter_context(client.connect()).sendall(b"POST /v1")
            time.sleep(1)
            # None of them holds up another.
            assert "/v1/chat/completions" in client.get("/openapi.json").json["paths"]
            assert client.get("/health").status == 200
            assert client.post("/v1/completions", {"prompt": "It", "max_tokens": 2}).status == 200
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0 and time.monotonic() - began < 6
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["toy_language_model", "toy_run"])
def test_the_memory_of_a_server_does_not_grow(request, model):
    run = str(request.getfixturevalue(model))
    command = [sys.executable, "-m", "benchmarks.serve_memory", "--run", run]
    command += ["--most-words", "10", "--requests", "3000"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


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
