"""`hf://`, against a server on this machine that speaks the hub's protocol."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kerasllm.errors import PresetError
from kerasllm.models import hub

REFERENCE = Path(__file__).parents[1] / "reference"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    **{
        name: (REFERENCE / "bert" / name).read_bytes()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    },
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"raise SystemExit",
    "tf_model.h5": b"weights of another framework",
    "onnx/model.json": b"{}",
    "consolidated.00.safetensors": b"a second copy",
    "chat_template.jinja": b"{{ messages }}",
    "tiny.Q4_1.gguf": b"GGUF",
}
ERRORS = {
    "gated": (403, "GatedRepo"),
    "missing": (404, "RepoNotFound"),
    "broken": (500, "ServerError"),
}


class Hub(BaseHTTPRequestHandler):
    """Serves `owner/tiny` as the hub serves a repository."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        self.server.asked.append(self.path.split("?")[0])
        parts = self.path.split("?")[0].strip("/").split("/")
        repo = parts[3] if parts[0] == "api" else parts[1]
        if repo in ERRORS:
            status, code = ERRORS[repo]
            return self.send(status, b"{}", {"X-Error-Code": code}, body)
        if parts[0] == "api":
            revision = parts[5]
            if revision not in ("main", "v1", COMMIT):
                return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
            if parts[4] == "tree":
                listed = [
                    {"type": "file", "path": name, "size": len(content), "oid": oid(content)}
                    for name, content in FILES.items()
                ]
                return self.send(200, json.dumps(listed).encode(), {}, body)
            siblings = [{"rfilename": name} for name in FILES]
            info = {"id": "owner/tiny", "modelId": "owner/tiny", "sha": COMMIT, "tags": []}
            return self.send(200, json.dumps({**info, "siblings": siblings}).encode(), {}, body)
        content = FILES["/".join(parts[4:])]
        headers = {"ETag": f'"{oid(content)}"', "X-Repo-Commit": COMMIT}
        return self.send(200, content, headers, body)

    def send(self, status, content, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def oid(content):
    return hashlib.sha1(content).hexdigest()


@pytest.fixture(scope="module")
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    served.asked = []
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def resolve(server, tmp_path, monkeypatch):
    """Resolves in a fresh process: the hub library reads its variables when it is imported."""
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    server.asked.clear()

    def run(handle):
        code = (
            "import sys; from kerasllm.models import presets; from kerasllm.errors import *\n"
            "try: print(presets.resolve(sys.argv[1]))\n"
            "except PresetError as error: print('refused:', error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, handle], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    return run


def test_a_repository_becomes_a_folder_of_its_data_files(resolve, server, tmp_path, monkeypatch):
    folder = Path(resolve("hf://owner/tiny"))
    assert folder.is_relative_to(tmp_path / "cache" / "huggingface")
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    wanted |= {"chat_template.jinja"}
    assert {path.name for path in folder.iterdir()} == wanted
    for name in wanted:
        assert (folder / name).read_bytes() == FILES[name]
    unwanted = (".bin", ".py", "tf_model.h5", "consolidated.00.safetensors", ".gguf")
    assert not [path for path in server.asked if path.endswith(unwanted)]

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("hf://owner/tiny") == str(folder), "found in the cache without a network"


def test_one_gguf_file_is_fetched_by_its_name(resolve, server):
    file = Path(resolve("hf://owner/tiny/tiny.Q4_1.gguf"))
    assert file.read_bytes() == b"GGUF"
    assert COMMIT in resolve("hf://owner/tiny/tiny.Q4_1.gguf@v1")
    assert not [path for path in server.asked if path.endswith("model.safetensors")]
    assert resolve("hf://owner/tiny/x.gguf").startswith("refused: owner/tiny has no file x.gguf")


def test_a_revision_is_asked_for(resolve):
    assert COMMIT in resolve("hf://owner/tiny@v1")
    assert "refused: owner/tiny has no revision 'v9'" in resolve("hf://owner/tiny@v9")


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("hf://owner/gated", "hf://owner/gated is gated"),
        ("hf://owner/missing", "there is no public repository owner/missing"),
        ("hf://owner/broken", "the hub cannot be reached or does not respond"),
    ],
)
def test_what_the_hub_refuses_is_said(resolve, handle, message):
    answer = resolve(handle)
    assert answer.startswith(f"refused: {message}")
    assert "127.0.0.1" not in answer and "Traceback" not in answer


def test_a_hub_that_cannot_be_reached_is_said(resolve, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve("hf://owner/other").startswith("refused: the hub cannot be reached")


@pytest.mark.parametrize(
    "handle", ["hf://", "hf://a/b/c", "hf://a b/c", "hf://a/b@", "hf://../x/y"]
)
def test_other_handles_are_refused(handle):
    with pytest.raises(PresetError, match="is not of the form hf://OWNER/NAME"):
        hub.download(handle)


def test_the_commit_of_what_was_downloaded_is_known_without_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository, commit = tmp_path / "models--owner--name", "a" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    assert hub.commit_of("hf://owner/name", tmp_path) == commit
    assert hub.commit_of("hf://owner/other", tmp_path) is None
