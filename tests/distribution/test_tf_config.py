"""TF_CONFIG as the clusters write it, and as people do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.distribution.tf_config import Cluster, place_in, read_tf_config
from kerasllm.errors import CommandError

TWO = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"cluster": TWO, "task": {"type": "worker", "index": 1}}, Cluster(2, 1)),
        # Kubeflow's training operator, with a chief.
        (
            {
                "cluster": {"chief": ["job-chief-0.ns.svc:2222"], "worker": ["job-worker-0:2222"]},
                "task": {"type": "worker", "index": 0},
                "environment": "cloud",
            },
            Cluster(2, 1),
        ),
        # Vertex AI: its first pool is the chief; an evaluator does not take part in training.
        (
            {
                "cluster": {
                    "chief": ["cmle-training-workerpool0-0:2222"],
                    "worker": ["cmle-training-workerpool1-0:2222"],
                    "evaluator": ["cmle-training-workerpool3-0:2222"],
                },
                "task": {"type": "chief", "index": 0, "trial": "1"},
                "job": "{}",
                "environment": "cloud",
            },
            Cluster(2, 0),
        ),
        ({"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": "0"}}, Cluster(1, 0)),
    ],
)
def test_what_clusters_write_is_read(monkeypatch, config, expected):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert read_tf_config() == expected


@pytest.mark.parametrize("text", [None, "", "  "])
def test_no_tf_config_is_no_cluster(monkeypatch, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    assert read_tf_config() is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is not JSON"),
        ("[]", "no mapping 'cluster'"),
        ('{"cluster": []}', "no mapping 'cluster'"),
        ({"cluster": {}, "task": {"type": "worker", "index": 0}}, "no worker"),
        ({"cluster": {"worker": "a:1"}}, "not a list of HOST:PORT"),
        ({"cluster": TWO}, "no 'task'"),
        ({"cluster": TWO, "task": {"type": "worker"}}, "no 'task'"),
        ({"cluster": TWO, "task": {"type": "worker", "index": 2}}, "it has no worker 2"),
        ({"cluster": TWO, "task": {"type": "chief", "index": 0}}, "it has no chief 0"),
        ({"cluster": TWO, "task": {"type": "worker", "index": -1}}, "not a whole number"),
        ({"cluster": TWO, "task": {"type": "worker", "index": True}}, "not a whole number"),
        ({"cluster": TWO, "task": {"type": "evaluator", "index": 0}}, "not take part in training"),
        (
            {"cluster": {**TWO, "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}},
            "its cluster has ps",
        ),
        (
            {"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}},
            "more than one chief",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_and_fix(monkeypatch, text, words):
    monkeypatch.setenv("TF_CONFIG", text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(CommandError, match=words) as error:
        read_tf_config()
    assert error.value.fix and "TF_CONFIG" in error.value.where


@given(chiefs=st.integers(0, 1), workers=st.integers(1, 9))
def test_every_worker_has_a_place_of_its_own(chiefs, workers):
    jobs = {"chief": ["c:1"] * chiefs, "worker": ["w:1"] * workers}
    places = [place_in(jobs, "chief", index) for index in range(chiefs)]
    places += [place_in(jobs, "worker", index) for index in range(workers)]
    assert [place.index for place in places] == list(range(chiefs + workers))
    assert {place.workers for place in places} == {chiefs + workers}
