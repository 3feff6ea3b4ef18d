#!/usr/bin/env bash
# Finds and repairs label noise in synthetic data, trains reward models, evaluates them and writes a report.
#   ./recipes/quickstart.sh [--train.learning_rate 1e-4 ...]
# Takes every key of quickstart.yaml. Results go to runs/quickstart; a second run only repeats what has changed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

enter_environment ""
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # more threads do not help models this small
python -m rmkit run "$checkout/recipes/quickstart.yaml" --output_dir "$checkout/runs/quickstart" "$@"
