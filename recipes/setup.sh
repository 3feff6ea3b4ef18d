# Sourced by quickstart.sh and tests/run.sh: creates their Python environment; needs only Python 3.11.
#
#   checkout                  the folder of this checkout
#   enter_environment EXTRAS  install rmkit with EXTRAS ("" or "[test]") into the virtual environment that is active,
#                             or else into CHECKOUT/.venv, and put it on the PATH; does nothing if nothing has changed

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

enter_environment() {
    if [ -z "${VIRTUAL_ENV:-}" ]; then
        VIRTUAL_ENV=$checkout/.venv
        "$VIRTUAL_ENV/bin/python" -c "" 2> /dev/null || python3.11 -m venv --clear "$VIRTUAL_ENV" || require_python
    fi
    "$VIRTUAL_ENV/bin/python" -c "import sys; sys.exit(sys.version_info < (3, 11))" || require_python
    export VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin:$PATH"

    local stamp="$VIRTUAL_ENV/.rmkit" state
    state="$(cd "$checkout" && cat constraints.txt setup.cfg pyproject.toml recipes/setup.sh | cksum) $checkout:"
    if ! grep -qsxF "$state$1" "$stamp"; then
        grep -qsF "$state" "$stamp" || : > "$stamp"  # drop the record of other versions or another checkout
        echo "Installing rmkit$1 and what it needs into $VIRTUAL_ENV (a few minutes, once)"
        install "$1"
        echo "$state$1" >> "$stamp"
    fi
}

require_python() {
    echo "rmkit needs Python 3.11 with venv and pip. Install it (Debian, Ubuntu: apt install python3.11-venv)" \
        "so that python3.11 is found, or activate a virtual environment of Python 3.11 or later." >&2
    exit 1
}

install() {
    local pip=(python -m pip install --constraint "$checkout/constraints.txt")
    local wheels=https://download.pytorch.org/whl/cpu
    export DS_BUILD_OPS=0  # DeepSpeed's compiled operations are not used, so no compiler is needed
    python -m pip --version > /dev/null 2>&1 || python -m ensurepip
    # PyPI's torch for Linux brings CUDA along. Without a GPU the CPU build is taken, where its index can be reached.
    if ! nvidia-smi > /dev/null 2>&1 && is_reachable "$wheels/torch/"; then
        "${pip[@]}" --extra-index-url "$wheels" torch
    else
        "${pip[@]}" torch
    fi
    "${pip[@]}" --editable "$checkout$1"
}

is_reachable() {
    python -c "import sys, urllib.request as web; web.urlopen(sys.argv[1], timeout=5)" "$1" 2> /dev/null
}
