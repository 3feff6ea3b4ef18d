#!/usr/bin/env bash
# The whole road on the embedded gold world: find planted label noise, repair it, train, evaluate, report.
#   ./recipes/quickstart.sh [--train.learning_rate 1e-4 ...]
# Every key of quickstart.yaml can be given. The results go to runs/quickstart; a second run only does what changed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

enter_environment ""
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # in models this small, threads mostly wait for each other
python -m rmkit run "$checkout/recipes/quickstart.yaml" --output_dir "$checkout/runs/quickstart" "$@"
