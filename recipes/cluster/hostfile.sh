#!/usr/bin/env bash
# One training on the machines of a hostfile, started on the first of them:
#   recipes/cluster/hostfile.sh HOSTFILE --config recipes/train.yaml --data PAIRS --model_name_or_path MODEL \
#       --output_dir OUT --deepspeed recipes/deepspeed/zero3.json
# This takes pdsh, and ssh to every machine without a password. Where there is neither (in containers, say), start it on
# every machine, all within a few minutes, each with its place in the hostfile, counted from 0:
#   NODE_RANK=0 recipes/cluster/hostfile.sh HOSTFILE --config ...
#
# On all machines the same: the working folder, the path and the packages of the Python environment (active where this
# is started), and what the paths of data and model lead to. OUT lies on a file system that all of them share: every
# process writes its part of a checkpoint there. Stopped, the same command on as many GPUs goes on from the last
# complete checkpoint; what was done since is done again, so choose save_steps by what that may cost.
#
# DeepSpeed hands on the variables NCCL_* and PYTHON*; others, such as HF_HOME, come from the file .deepspeed_env in the
# working folder or at home, one NAME=VALUE a line and nothing else.
set -euo pipefail

export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"
# Where the machines have several networks and NCCL takes the wrong one:
# export NCCL_SOCKET_IFNAME=eth0 NCCL_IB_HCA=mlx5

hostfile=$1
first=$(awk '!/^[[:space:]]*(#|$)/ { print $1; exit }' "$hostfile")
options=(--hostfile "$hostfile" --master_addr "${MASTER_ADDR:-$first}" --master_port "${MASTER_PORT:-29500}")
if [ -n "${NODE_RANK:-}" ]; then
    options+=(--no_ssh --node_rank "$NODE_RANK")
fi
exec deepspeed "${options[@]}" --no_local_rank --module rmkit train "${@:2}"
