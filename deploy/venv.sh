#!/bin/sh
# Makes the virtual environment $1 and installs the locked dependencies and this checkout into it.
# Needs Python 3.11 or newer and nothing else; takes `uv` from PATH, or installs it into the environment.
set -eu
venv=$1

find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed and was not found. Install it (Debian: apt-get install python3 python3-venv)," >&2
    echo "or name one: make PYTHON=/path/to/python3.11 …" >&2
    exit 1
}

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$(find_python)
    rm -rf "$venv"
    if ! problem=$("$python" -m venv "$venv" 2>&1); then
        rm -rf "$venv"
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "$problem" >&2
        echo "$python cannot make a virtual environment with pip. Debian and Ubuntu keep that in a package of its own:" >&2
        echo "    apt-get install python$version-venv" >&2
        exit 1
    fi
fi

if command -v uv >/dev/null 2>&1; then
    uv=$(command -v uv)
else
    uv=$venv/bin/uv
    if [ ! -x "$uv" ]; then
        # The lock names the version and the hashes of uv too.
        pinned=$(mktemp)
        trap 'rm -f "$pinned"' EXIT
        awk '/^uv==/ {found = 1} found {print} found && !/\\$/ {exit}' requirements.lock >"$pinned"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$pinned"
    fi
fi

"$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.lock
"$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
