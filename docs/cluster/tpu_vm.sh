#!/bin/bash
# A Cloud TPU VM, step by step: bash tpu_vm.sh create | install | train | train_pod | delete. Not run by us.
#
# kerasllm needs Python 3.11 or newer, and a TensorFlow for TPUs of the version that it asks for: 2.20 was
# the newest such package (tensorflow-tpu) when this was written.
set -eu

NAME=kerasllm
ZONE=us-west4-a
TYPE=v5litepod-8             # one host with 8 chips
VERSION=v2-alpha-tpuv5-lite  # of the machine's software; for a pod see train_pod
DATA=gs://YOUR-BUCKET/reviews.csv

on() {  # on WORKER COMMAND: WORKER is a number, or all
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker="$1" --command="$2"
}

create() {
  gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" --version="$VERSION"
  gcloud compute tpus tpu-vm scp --recurse . "$NAME:kerasllm" --zone="$ZONE" --worker=all
}

install() {  # from the root of the repository, after create
  # The last two lines put the TPU build in the place of the CPU build, which pip brings for kerasllm.
  on all "python3.11 -m venv env && . env/bin/activate &&
    pip install ./kerasllm 'tensorflow==2.20.*' 'tensorflow-text==2.20.*' cloud-tpu-client &&
    pip uninstall --yes tensorflow &&
    pip install --force-reinstall --no-deps 'tensorflow-tpu==2.20.*' && pip install 'libtpu~=0.0.14'"
  on 0 "env/bin/kerasllm doctor"
}

train() {  # one host: the chips belong to this machine
  on 0 "TPU_NAME=local env/bin/kerasllm finetune --recipe bert_cls --train $DATA \
    --output runs/reviews --strategy tpu --resume"
}

train_pod() {  # several hosts: worker 0 drives them all by the TPU's name
  # Create the pod with VERSION=tpu-vm-tf-X.Y.Z-pod-pjrt: that software runs TensorFlow's server on each host.
  # Its TensorFlow must be the installed one; `gcloud compute tpus tpu-vm versions list` shows what there is.
  on 0 "TPU_NAME=$NAME TPU_LOAD_LIBRARY=0 env/bin/kerasllm finetune --recipe bert_cls --train $DATA \
    --output runs/reviews --strategy tpu --resume"
}

delete() {  # runs/ goes with it: copy it first
  gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE"
}

case "${1-}" in
  create | install | train | train_pod | delete) "$1" ;;
  *) sed -n '2s/^# //p' "$0" >&2; exit 2 ;;
esac
