"""What `kerasllm serve` makes of a language model. tests/cli/test_serve.py runs a process."""

from kerasllm.serving.limits import Limits
from kerasllm.tasks.task import task_of_presets
from kerasllm.workflows import serve
from tests.generation.conftest import writer  # noqa: F401
from tests.serving.running import running


def test_a_language_model_is_served_within_the_limits(writer, monkeypatch):  # noqa: F811
    monkeypatch.setattr(type(task_of_presets()), "open", lambda self, folder, **_: writer)
    told = []
    limits = Limits(length=12, tokens=30)
    worker, app = serve.language_model_app("any", "tiny", "key", limits, None, told.append)
    assert told == ["warming up"]
    with running(app, worker) as client:
        key = {"Authorization": "Bearer key"}
        body = {"prompt": "word1 word2", "max_tokens": 30, "temperature": 0}
        answer = client.post("/v1/completions", body, **key).json
        # The prompt has a start token; the writer's own positions would hold 40.
        assert answer["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 9,
            "total_tokens": 12,
        }
        assert answer["choices"][0]["finish_reason"] == "length"
        assert client.post("/v1/completions", body).status == 401
