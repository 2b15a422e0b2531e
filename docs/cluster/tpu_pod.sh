#!/bin/bash
# A model in shards on a Cloud TPU pod, step by step: bash tpu_pod.sh create | install | train | delete.
# Not run by us on a TPU; the tests run it under a fake gcloud and curl.
#
# JAX computes, with one process on each host. TensorFlow only reads the data, on the hosts' CPUs: the build that
# pip brings for kerasllm serves. One host, such as v5litepod-8, is trained on in the same way.
set -eu

NAME=kerasllm
ZONE=us-west4-a
TYPE=v5litepod-16            # several hosts
VERSION=v2-alpha-tpuv5-lite  # of the machine's software
# On a file system that all hosts see, such as Filestore: each writes its part of a checkpoint there.
DATA=/mnt/share/reviews.csv
OUTPUT=/mnt/share/runs/reviews

on() {  # on WORKER COMMAND: WORKER is a number, or all
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker="$1" --command="$2"
}

create() {
  gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" --version="$VERSION"
  gcloud compute tpus tpu-vm scp --recurse . "$NAME:kerasllm" --zone="$ZONE" --worker=all
}

install() {  # from the root of the repository, after create
  on all "python3.11 -m venv env && . env/bin/activate && pip install './kerasllm[jax]' 'jax[tpu]'"
}

# TF_CONFIG of each host, of what the machine's metadata say of its pod: host:id:address of all workers, or their
# addresses alone, and the number of this one. (GKE tells it by TPU_WORKER_HOSTNAMES, which needs no TF_CONFIG.)
tf_config=$(cat <<'HOST'
of() { curl -sf -H "Metadata-Flavor: Google" "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"; }
workers=$(of worker-network-endpoints | tr , "\n" | sed "s/.*:\(.*\)/\1/; s/.*/\"&:8482\"/" | paste -sd, -)
task="{\"type\": \"worker\", \"index\": $(of agent-worker-number)}"
export TF_CONFIG="{\"cluster\": {\"worker\": [$workers]}, \"task\": $task}"
HOST
)

train() {  # when a host is lost, all processes end; give it again: --resume continues from the checkpoint
  on all "$tf_config
    exec env/bin/kerasllm finetune --recipe bert_cls --train $DATA --output $OUTPUT --strategy sharded --resume"
}

delete() {
  gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE"
}

case "${1-}" in
  create | install | train | delete) "$1" ;;
  *) sed -n '2s/^# //p' "$0" >&2; exit 2 ;;
esac
