#!/usr/bin/env bash
# Style, types, import contracts and the quick tests, in a few minutes; with --all every test. Other arguments go to
# pytest, paths as seen from the checkout:
#   ./tests/run.sh [--all] [tests/losses -k simcse -n 0 ...]
# Tests on real data run where RMKIT_DATA names their folder, and are skipped elsewhere.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../recipes/setup.sh"

selection=(-m "not slow")
if [ "${1:-}" = --all ]; then
    selection=()
    shift
fi
enter_environment "[test]"
cd "$checkout"
export OMP_NUM_THREADS=1  # pytest has two workers

failed=()
check() {
    echo "== $1"
    "${@:2}" || failed+=("$1")
}
check flake8 python -m flake8 rmkit tests recipes benchmarks
check mypy python -m mypy
check import-linter python "$VIRTUAL_ENV/bin/lint-imports"
check pytest python -m pytest -n 2 "${selection[@]}" "$@"

if [ ${#failed[@]} -gt 0 ]; then
    echo "FAILED: ${failed[*]}" >&2
    exit 1
fi
echo "All checks passed."
