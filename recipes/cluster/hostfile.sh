#!/usr/bin/env bash
# Trains on the machines of a hostfile; start it on the first of them.
#   recipes/cluster/hostfile.sh HOSTFILE --config recipes/train.yaml --data PAIRS --model_name_or_path MODEL \
#       --output_dir OUT --deepspeed recipes/deepspeed/zero3.json
# Needs pdsh, and ssh to every machine without a password. Without them (for example in containers), start it on every
# machine within a few minutes, each with its index in the hostfile, from 0:
#   NODE_RANK=0 recipes/cluster/hostfile.sh HOSTFILE --config ...
#
# The working folder, the Python environment (active where this is started), data and model must be at the same paths on
# all machines. OUT must be on a shared file system: every process writes its part of a checkpoint there. If killed, the
# same command on as many GPUs continues from the last complete checkpoint; save_steps bounds what is repeated.
#
# DeepSpeed passes on the variables NCCL_* and PYTHON*; others, such as HF_HOME, come from the file .deepspeed_env in
# the working folder or the home folder, one NAME=VALUE per line and nothing else.
set -euo pipefail

export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"
# If the machines have several networks and NCCL takes the wrong one:
# export NCCL_SOCKET_IFNAME=eth0 NCCL_IB_HCA=mlx5

hostfile=$1
first=$(awk '!/^[[:space:]]*(#|$)/ { print $1; exit }' "$hostfile")
options=(--hostfile "$hostfile" --master_addr "${MASTER_ADDR:-$first}" --master_port "${MASTER_PORT:-29500}")
if [ -n "${NODE_RANK:-}" ]; then
    options+=(--no_ssh --node_rank "$NODE_RANK")
fi
exec deepspeed "${options[@]}" --no_local_rank --module rmkit train "${@:2}"
