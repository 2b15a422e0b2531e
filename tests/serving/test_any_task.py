"""A task that serving has never heard of is served by its `api` alone, with all its fields."""

import base64
from typing import Annotated

import pytest
from pydantic import Field, ValidationError, model_validator

from kerasllm.serving.app import build_app
from kerasllm.serving.limits import Limits
from kerasllm.serving.metrics import Metrics
from kerasllm.tasks.task import Api, InputText, Instance
from kerasllm.workflows.serve import endpoints_of
from tests.serving.running import running

PREDICT = "/v1/models/overlap:predict"
ROWS = [
    {"text": "a b c", "text_pair": "b c d"},
    {"text": "x", "text_pair": "y"},
    {"text": "z z", "text_pair": "z"},
]
ANSWERS = [
    {"shared": 2.0, "words": ["b", "c"], "lengths": {"text": 3, "text_pair": 3}},
    {"shared": 0.0, "words": [], "lengths": {"text": 1, "text_pair": 1}},
    {"shared": 1.0, "words": ["z"], "lengths": {"text": 2, "text_pair": 1}},
]
COLUMNS = {
    "shared": [2.0, 0.0, 1.0],
    "words": [["b", "c"], [], ["z"]],
    "lengths": {"text": [3, 1, 2], "text_pair": [3, 1, 1]},
}


class Pair(Instance):
    text: InputText
    text_pair: InputText
    least: Annotated[int, Field(ge=0)] = 0
    ignored: Annotated[list[InputText], "a list of texts"] = []
    note: str = ""

    @model_validator(mode="after")
    def _differ(self):
        if self.text == self.text_pair:
            raise ValueError("both texts are the same")
        if "comment" in self.note:
            raise ValueError(f"{self.note} is no note")
        return self


class Overlap:
    """A model that counts the words that two texts share."""

    def __init__(self):
        self.warm, self.tokens = False, 0

    def predict(self, pairs: list[Pair]) -> list[dict]:
        return [self._one(pair) for pair in pairs]

    def _one(self, pair: Pair) -> dict:
        one, other = pair.text.split(), pair.text_pair.split()
        self.tokens += len(one) + len(other)
        shared = sorted(set(one) & set(other) - set(pair.ignored))
        shared = shared if len(shared) >= pair.least else []
        lengths = {"text": len(one), "text_pair": len(other)}
        return {"shared": float(len(shared)), "words": shared, "lengths": lengths}

    def warm_up(self) -> None:
        self.warm = True


def api_of(model: Overlap, **changed) -> Api:
    fields = {
        "Instance": Pair,
        "outputs": {"shared": ("DT_FLOAT", (-1,)), "words": ("DT_STRING", (-1, -1))},
        "predict": model.predict,
        "example": ROWS[0],
        "warm_up": model.warm_up,
        "facts": {"language": "any"},
        "tokens": lambda: model.tokens,
    }
    return Api(**fields | changed)


@pytest.fixture(scope="module")
def server():
    model, metrics, limits = Overlap(), Metrics(), Limits(instances=3)
    endpoints, worker = endpoints_of(api_of(model), "overlap", limits, metrics)
    assert model.warm
    assert endpoints.example == (PREDICT, {"instances": [ROWS[0]]})
    with running(build_app(endpoints, worker, metrics), worker) as client:
        yield client


def test_rows_and_columns(server):
    assert server.post(PREDICT, {"instances": ROWS}).json == {"predictions": ANSWERS}
    columns = {name: [row[name] for row in ROWS] for name in ("text", "text_pair")}
    assert server.post(PREDICT, {"inputs": columns}).json == {"outputs": COLUMNS}
    one = server.post(PREDICT, {"inputs": {"text": "a b", "text_pair": "b"}}).json
    assert one["outputs"]["words"] == [["b"]]


def test_other_fields_and_base64(server):
    coded = {"b64": base64.b64encode(b"b").decode()}
    row = {"text": "a b c", "text_pair": "a b c d", "ignored": [coded, "c"], "least": 1}
    for body in ({"instances": [row]}, {"inputs": {name: [row[name]] for name in row}}):
        answer = server.post(PREDICT, body).json
        (found,) = answer.get("predictions") or [answer["outputs"]]
        assert found["words"] in (["a"], [["a"]])
    answer = server.post(PREDICT, {"instances": [{"text": coded, "text_pair": "b c"}]})
    assert answer.json["predictions"][0]["words"] == ["b"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": ["a"]}, "instances[0].text_pair is missing. Expected: a text"),
        (
            {"instances": [*ROWS[:2], {"text": "a", "text_pair": " "}]},
            "instances[2].text_pair is empty",
        ),
        (
            {"instances": [{"text": "a", "text_pair": "b\ud800"}]},
            "instances[0].text_pair is not valid Unicode: character 2",
        ),
        ({"instances": [{"text": "a", "text_pair": "a"}]}, "instances[0]: both texts are the same"),
        (
            {"instances": [{**ROWS[0], "pair": "c"}]},
            "Unknown field: 'instances[0].pair'. Known: text, text_pair, least, ignored, note",
        ),
        (
            {"instances": [{**ROWS[0], "least": "1"}]},
            'instances[0].least must be a valid integer. Received: "1"',
        ),
        (
            {"instances": [{**ROWS[0], "least": -1}]},
            "instances[0].least must be greater than or equal to 0. Received: -1",
        ),
        (
            {"instances": [{**ROWS[0], "ignored": "c"}]},
            'instances[0].ignored must be a list of texts. Received: "c"',
        ),
        (
            {"instances": [{**ROWS[0], "ignored": ["c", 3]}]},
            "instances[0].ignored[1] must be a text. Received: 3",
        ),
        (
            {"instances": [{**ROWS[0], "ignored": ["c", {"b64": "?"}]}]},
            "instances[0].ignored[1] is not base64 of UTF-8",
        ),
        ({"instances": [{**ROWS[0], "note": "comment \ud800"}]}, "not valid Unicode"),
        (
            {"instances": [{**ROWS[0], "\ud800": {"b64": "?"}}]},
            "instances[0].\\ud800 is not base64",
        ),
        ({"inputs": ["a"]}, "inputs.text_pair is missing"),
        (
            {"inputs": {"text": ["a", "b"], "text_pair": ["c", 4]}},
            "inputs.text_pair[1] must be a text",
        ),
        (
            {"inputs": {"text": ["a", "b"], "text_pair": ["c", "b"]}},
            "inputs[1]: both texts are the same",
        ),
        (
            {"inputs": {"text": ["a", "b"], "text_pair": ["c"]}},
            'The lists of \'inputs\' must have one length. Received: "text" 2, "text_pair" 1',
        ),
        (
            {"inputs": {"text": ["a"], "text_pair": ["b"], "more": [1]}},
            "Unknown field: 'inputs.more'",
        ),
        (
            {"inputs": {"text": ["a"], "text_pair": ["b"], "ignored": [["c", ""]]}},
            "inputs.ignored[0][1] is empty",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(server, body, words):
    answer = server.post(PREDICT, body)
    assert answer.status == 400 and words in answer.json["error"]


def test_metadata_and_metrics(server):
    found = server.get("/v1/models/overlap/metadata").json["metadata"]
    signature = found["signature_def"]["signature_def"]["serving_default"]
    told = {
        kind: {
            name: (each["dtype"], [int(dim["size"]) for dim in each["tensor_shape"]["dim"]])
            for name, each in signature[kind].items()
        }
        for kind in ("inputs", "outputs")
    }
    assert told["inputs"] == {
        "text": ("DT_STRING", [-1]),
        "text_pair": ("DT_STRING", [-1]),
        "least": ("DT_INT64", [-1]),
        "ignored": ("DT_STRING", [-1, -1]),
        "note": ("DT_STRING", [-1]),
    }
    assert told["outputs"] == {"shared": ("DT_FLOAT", [-1]), "words": ("DT_STRING", [-1, -1])}
    assert found["language"] == "any"
    names = ("kerasllm_batch_rows_sum", "kerasllm_compute_seconds_count")
    tokens = 'kerasllm_tokens_total{kind="prompt"}'
    before = [server.metric(name) for name in (*names, tokens)]
    server.post(PREDICT, {"instances": [ROWS[0]]})
    assert [server.metric(name) for name in (*names, tokens)] == [
        before[0] + 1,
        before[1] + 1,
        before[2] + 6,
    ]


def test_an_api_that_lacks_something_is_refused_when_it_is_made():
    with pytest.raises(TypeError, match="needs example"):
        api_of(Overlap(), example=None)
    with pytest.raises(ValidationError, match="text_pair"):
        api_of(Overlap(), example="one text")
