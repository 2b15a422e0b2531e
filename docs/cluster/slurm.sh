#!/bin/bash
# Several workers under Slurm: one task on each node, which uses all GPUs of its node. Not run by us on a
# real cluster; the tests run it under a fake srun and scontrol.
#
#   sbatch slurm.sh
#
# Before the time is up, Slurm sends SIGTERM to the workers. They finish their step and write a checkpoint,
# the job queues itself again, and --resume goes on.
#SBATCH --job-name=kerasllm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

# On a file system that all nodes see.
command=(
  kerasllm finetune
  --recipe bert_cls
  --train "$HOME/reviews.csv"
  --output "$HOME/runs/reviews"
  --strategy multi_worker  # or sharded: each GPU holds a part of the model
  --resume
)

# TF_CONFIG of each task: the nodes in the order of their tasks. (TensorFlow's SlurmClusterResolver sorts
# the names as words, node10 before node2.) The port differs from job to job.
port=$((20000 + SLURM_JOB_ID % 20000))
workers=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd, -)
export KERASLLM_WORKERS="$workers"

# A task that ends well before the others must not take their time to write a checkpoint: TensorFlow and JAX
# end the peers of a lost worker by themselves, and --wait sees to those that hang.
srun --kill-on-bad-exit=0 --wait=180 bash -c '
  task="{\"type\": \"worker\", \"index\": $SLURM_PROCID}"
  export TF_CONFIG="{\"cluster\": {\"worker\": [$KERASLLM_WORKERS]}, \"task\": $task}"
  exec "$@"' worker "${command[@]}"
status=$?

# 143: stopped by SIGTERM, with a checkpoint.
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
