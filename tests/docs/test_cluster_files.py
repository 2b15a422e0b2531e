"""The files for clusters, as far as they can be checked without one."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from kerasllm.distribution.tf_config import read_tf_config

DOCS = Path(__file__).parents[2] / "docs"
CLUSTER = DOCS / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))

SRUN = """#!/bin/bash
# As many tasks as the job has, one after the other; the exit status is the highest.
while [[ "$1" == --* ]]; do shift; done
status=0
for ((task = 0; task < SLURM_NTASKS; task++)); do
  SLURM_PROCID=$task "$@" || { code=$?; ((code > status)) && status=$code; }
done
exit "$status"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = requeue ]; then echo "$2" >> "$FAKES/requeued"; else printf '%s\\n' n2 n10 n11; fi
"""
GCLOUD = """#!/bin/bash
# Runs the command of `ssh --worker=all` on one host after the other.
for each in "$@"; do [[ "$each" == --command=* ]] && command=${each#--command=}; done
for ((host = 0; host < HOSTS; host++)); do HOST=$host bash -c "$command" || exit; done
"""
CURL = """#!/bin/bash
case "${*: -1}" in
  */instance/attributes/worker-network-endpoints) printf '%s' "$ENDPOINTS" ;;
  */instance/attributes/agent-worker-number) printf '%s' "$HOST" ;;
  *) exit 22 ;;
esac
"""
KERASLLM = """#!/bin/bash
printf '%s\\n' "$TF_CONFIG" >> "$FAKES/configs"
printf '%s\\n' "$*" >> "$FAKES/commands"
exit "${KERASLLM_STATUS:-0}"
"""


def place_of(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config) if isinstance(config, dict) else config)
    place = read_tf_config()
    return place.workers, place.index


def joined(config, monkeypatch):
    """Returns what JAX is given to meet the others, by the TF_CONFIG of a process."""
    jax = pytest.importorskip("jax")
    from kerasllm.distribution import sharded

    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: calls.append(given))
    # They would start JAX in this process.
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    monkeypatch.setenv("TF_CONFIG", config)
    sharded._join()
    return calls


def run_slurm(folder, status=0, script=CLUSTER / "slurm.sh"):
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("kerasllm", KERASLLM)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    variables = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": "/home/a b",
        "FAKES": str(folder),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "n[2,10-11]",
        "SLURM_NTASKS": "3",
        "KERASLLM_STATUS": str(status),
    }
    return subprocess.run(
        ["bash", script], env=variables, capture_output=True, text=True, timeout=30
    )


def test_every_file_is_named_in_the_guide():
    named = set(re.findall(r"\]\(cluster/([^)]+)\)", (DOCS / "distributed.md").read_text()))
    assert named == {file.name for file in CLUSTER.iterdir()}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n", script], check=True, timeout=30)


def test_slurm_gives_each_task_its_place_and_the_same_command(tmp_path, monkeypatch):
    done = run_slurm(tmp_path)
    assert done.returncode == 0, done.stderr
    configs = (tmp_path / "configs").read_text().splitlines()
    assert [place_of(config, monkeypatch) for config in configs] == [(3, 0), (3, 1), (3, 2)]
    clusters = [json.loads(config)["cluster"] for config in configs]
    assert all(cluster == clusters[0] for cluster in clusters)
    hosts, ports = zip(*(address.split(":") for address in clusters[0]["worker"]), strict=True)
    assert hosts == ("n2", "n10", "n11") and set(ports) == {"24711"}
    commands = set((tmp_path / "commands").read_text().splitlines())
    [command] = commands
    assert command.startswith("finetune --recipe bert_cls --train /home/a b/reviews.csv")
    assert command.endswith("--strategy multi_worker --resume")
    assert not (tmp_path / "requeued").exists()


@pytest.mark.parametrize(("status", "requeued"), [(143, True), (1, False)])
def test_slurm_queues_again_what_was_stopped_and_not_what_failed(tmp_path, status, requeued):
    assert run_slurm(tmp_path, status).returncode == status
    assert (tmp_path / "requeued").exists() == requeued


def test_slurm_stops_the_workers_in_time_to_write_a_checkpoint():
    options = set(re.findall(r"^#SBATCH (\S+)", (CLUSTER / "slurm.sh").read_text(), re.MULTILINE))
    assert {"--signal=TERM@120", "--requeue", "--ntasks-per-node=1"} <= options


def test_slurm_starts_a_training_in_shards(tmp_path, monkeypatch):
    script = tmp_path / "sharded.sh"
    text = (CLUSTER / "slurm.sh").read_text()
    assert "--strategy multi_worker  # or sharded" in text
    script.write_text(text.replace("--strategy multi_worker", "--strategy sharded"))
    done = run_slurm(tmp_path, script=script)
    assert done.returncode == 0, done.stderr
    configs = (tmp_path / "configs").read_text().splitlines()
    for index, config in enumerate(configs):
        assert joined(config, monkeypatch) == [("n2:24711", 3, index)]
    [command] = set((tmp_path / "commands").read_text().splitlines())
    assert command.endswith("--strategy sharded --resume")


@pytest.mark.parametrize(
    "endpoints",
    ["10.0.0.2,10.0.0.3", "t-0:0:10.0.0.2,t-1:1:10.0.0.3", "10.0.0.2"],
    ids=["addresses", "names, numbers and addresses", "one host"],
)
def test_a_tpu_pod_gives_each_host_its_place_and_the_same_command(endpoints, tmp_path, monkeypatch):
    (tmp_path / "env" / "bin").mkdir(parents=True)
    hosts = endpoints.count(",") + 1
    for name, text in (("gcloud", GCLOUD), ("curl", CURL), ("env/bin/kerasllm", KERASLLM)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FAKES": str(tmp_path),
        "HOSTS": str(hosts),
        "ENDPOINTS": endpoints,
    }
    done = subprocess.run(
        ["bash", CLUSTER / "tpu_pod.sh", "train"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    configs = (tmp_path / "configs").read_text().splitlines()
    assert len(configs) == hosts
    for index, config in enumerate(configs):
        assert place_of(config, monkeypatch) == (hosts, index)
        met = [("10.0.0.2:8482", 2, index)] if hosts > 1 else []
        assert joined(config, monkeypatch) == met
    [command] = set((tmp_path / "commands").read_text().splitlines())
    assert "--strategy sharded --resume" in command and "--output /mnt/share/" in command


def test_a_kubeflow_job_makes_a_cluster_whose_run_all_workers_see(monkeypatch):
    claim, job = yaml.safe_load_all((CLUSTER / "kubeflow.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    [(role, replica)] = job["spec"]["tfReplicaSpecs"].items()
    [container] = replica["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow" and replica["restartPolicy"] == "OnFailure"
    # As the operator makes it: NAME-ROLE-INDEX.NAMESPACE.svc:2222, the role in small letters.
    role, name, count = role.lower(), job["metadata"]["name"], replica["replicas"]
    cluster = {role: [f"{name}-{role}-{index}.default.svc:2222" for index in range(count)]}
    for index in range(count):
        task = {"type": role, "index": index}
        config = {"cluster": cluster, "task": task, "environment": "cloud"}
        assert place_of(config, monkeypatch) == (count, index)

    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = {volume["name"]: volume for volume in replica["template"]["spec"]["volumes"]}
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "data"]
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    output = next(one for one in container["args"] if one.startswith("--output="))
    assert output.startswith(f"--output={mount['mountPath']}/") and "--resume" in container["args"]


def test_a_jobset_gives_each_pod_its_place_and_the_same_command(tmp_path, monkeypatch):
    claim, jobset = yaml.safe_load_all((CLUSTER / "jobset.yaml").read_text())
    [job] = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    [workers] = [int(each["value"]) for each in container["env"] if each["name"] == "WORKERS"]
    assert spec["completions"] == spec["parallelism"] == workers
    (tmp_path / "kerasllm").write_text(KERASLLM)
    (tmp_path / "kerasllm").chmod(0o755)
    for index in range(workers):
        variables = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "FAKES": str(tmp_path),
            "WORKERS": str(workers),
            "JOB_COMPLETION_INDEX": str(index),
        }
        command = [*container["command"], *container["args"]]
        subprocess.run(command, env=variables, check=True, timeout=30)
    configs = (tmp_path / "configs").read_text().splitlines()
    assert [place_of(config, monkeypatch) for config in configs] == [(2, 0), (2, 1)]
    # As JobSet names pods: SET-JOB-0-INDEX, below a service of the set's name.
    name = f"{jobset['metadata']['name']}-{job['name']}-0"
    [address, *_] = json.loads(configs[0])["cluster"]["worker"]
    assert address == f"{name}-0.{jobset['metadata']['name']}:2222"
    [command] = set((tmp_path / "commands").read_text().splitlines())
    assert "--strategy sharded --resume" in command and "--output /data/" in command
    [volume] = spec["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_a_vertex_ai_job_makes_a_cluster_with_one_chief(monkeypatch):
    chief, workers = yaml.safe_load((CLUSTER / "vertex_ai.yaml").read_text())["workerPoolSpecs"]
    same = {key: value for key, value in chief.items() if key != "replicaCount"}
    assert same == {key: value for key, value in workers.items() if key != "replicaCount"}
    counts = {"chief": chief["replicaCount"], "worker": workers["replicaCount"]}
    cluster = {
        role: [f"cmle-training-workerpool{pool}-0a1b2c-{index}:2222" for index in range(count)]
        for pool, (role, count) in enumerate(counts.items())
    }
    tasks = [(role, index) for role, count in counts.items() for index in range(count)]
    for place, (role, index) in enumerate(tasks):
        task = {"type": role, "index": index, "trial": "", "cloud": "x"}
        config = {"cluster": cluster, "task": task, "job": "{}", "environment": "cloud"}
        assert place_of(config, monkeypatch) == (len(tasks), place)

    [share] = chief["nfsMounts"]
    container = chief["containerSpec"]
    output = next(one for one in container["args"] if one.startswith("--output="))
    assert output.startswith(f"--output=/mnt/nfs/{share['mountPoint']}/")
    assert "--resume" in container["args"]
