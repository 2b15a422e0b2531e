"""TF_CONFIG: the variable that tells a worker its role and its peers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kerasllm.errors import CommandError
from kerasllm.json_files import parse_json

_EXAMPLE = (
    '{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclass(frozen=True)
class Cluster:
    """The workers of a job, and which of them this process is.

    Attributes:
        workers: The number of worker processes; a `chief` is one of them.
        index: This process, from 0; 0 is the chief.
    """

    workers: int
    index: int


def read_tf_config() -> Cluster | None:
    """Returns what TF_CONFIG says, or `None` where it is not set.

    Its form is described in TensorFlow's guide "Distributed training with TensorFlow".

    Raises:
        CommandError: If it is not of that form, or names a role that does not train.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        config = parse_json(text)
    except ValueError as error:
        raise _refused(f"it is not JSON ({error})") from error
    if not isinstance(config, dict) or not isinstance(config.get("cluster"), dict):
        raise _refused("it has no mapping 'cluster'")
    jobs, task = config["cluster"], config.get("task")
    _check_jobs(jobs)
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise _refused("it has no 'task' with 'type' and 'index'")
    role, index = task["type"], task["index"]
    if role not in ("chief", "worker"):
        raise _refused(
            f"this process is a {role!r}, a role that does not take part in training",
            "give the job chief and worker roles only; a run is evaluated by its own workers",
        )
    # Some platforms write the index as a text.
    if isinstance(index, bool) or not str(index).isdecimal():
        raise _refused(f"its task.index is not a whole number from 0 up: {index!r}")
    if int(index) >= len(jobs.get(role, ())):
        raise _refused(f"it has no {role} {index}: its cluster.{role} is {jobs.get(role, [])}")
    return place_in(jobs, role, int(index))


def place_in(jobs: Mapping[str, Sequence[str]], role: str, index: int) -> Cluster:
    """Returns the place of a task: the chief, if there is one, comes before the workers.

    Args:
        jobs: The addresses of each role, `chief` and `worker`.
        role: The role of the task.
        index: Its index among those of its role.
    """
    chiefs = len(jobs.get("chief", ()))
    return Cluster(
        workers=chiefs + len(jobs.get("worker", ())),
        index=index + (chiefs if role == "worker" else 0),
    )


def _check_jobs(jobs: dict) -> None:
    """Refuses a cluster in which not every process would train in step with the others."""
    if others := sorted(set(jobs) - {"chief", "worker", "evaluator"}):
        raise _refused(
            f"its cluster has {', '.join(others)}; only chief and worker train",
            "remove these roles from the job: there are no parameter servers here",
        )
    for job, addresses in jobs.items():
        if not isinstance(addresses, list) or not all(isinstance(one, str) for one in addresses):
            raise _refused(f"its cluster.{job} is not a list of HOST:PORT")
    if not jobs.get("chief") and not jobs.get("worker"):
        raise _refused("its cluster has no worker")
    if len(jobs.get("chief", ())) > 1:
        raise _refused("its cluster has more than one chief")


def _refused(what: str, fix: str | None = None) -> CommandError:
    return CommandError(
        f"TF_CONFIG cannot be used: {what}",
        where="the environment variable TF_CONFIG",
        fix=fix or f"give it the form {_EXAMPLE}, or unset it to train alone",
    )
