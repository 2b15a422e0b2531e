"""What `kerasllm serve` makes of a language model. tests/cli/test_serve.py runs a process."""

from kerasllm.serving.app import build_app
from kerasllm.serving.limits import Limits
from kerasllm.serving.metrics import Metrics
from kerasllm.tasks.task import task_of_presets
from kerasllm.workflows.serve import endpoints_of
from tests.generation.conftest import writer  # noqa: F401
from tests.serving.running import running


def test_a_language_model_is_served_within_the_limits(writer):
    told = []
    limits, metrics = Limits(length=12, tokens=30), Metrics()
    api = task_of_presets().api(writer, limits)
    endpoints, worker = endpoints_of(api, "tiny", limits, metrics, told.append)
    assert told == ["warming up"]
    with running(build_app(endpoints, worker, metrics, "key"), worker) as client:
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
        path, example = endpoints.example
        assert path == "/v1/chat/completions"
        assert client.post(path, example, **key).status == 200


def test_a_model_without_a_chat_template_has_another_example(writer):
    bare = type(writer)(**{**vars(writer), "chat_template": None})
    limits, metrics = Limits(), Metrics()
    api = task_of_presets().api(bare, limits)
    endpoints, worker = endpoints_of(api, "tiny", limits, metrics)
    with running(build_app(endpoints, worker, metrics), worker) as client:
        path, example = endpoints.example
        assert path == "/v1/completions" and client.post(path, example).status == 200
