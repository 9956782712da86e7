#!/bin/sh
# Run a Python script of this repository in .venv, after seeing to it that an extra is installed there.
#
#     scripts/with_venv.sh EXTRA SCRIPT [ARGUMENT...]
#
# This part is sh because it has to say in one line that there is no Python, or only one that is too old to parse the
# scripts. PYTHON=/path/to/python chooses the interpreter of a .venv that does not exist yet.
set -eu
unset PYTHONPATH PYTHONHOME # what they add would hide what .venv lacks

# The first that lies in the range we test on; a newer one only if there is nothing else.
usable='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
newer='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c "$newer" 2>/dev/null && command -v "$PYTHON"
        return
    fi
    for test in "$usable" "$newer"; do
        for name in python3 python3.13 python3.12 python3.11 python; do
            "$name" -c "$test" 2>/dev/null && command -v "$name" && return
        done
    done
    return 1
}

if ! python=$(find_python); then
    found=$("${PYTHON:-python3}" -V 2>&1) || found="no ${PYTHON:-python3} that runs"
    echo "Python 3.11 or newer is needed; found $found. PYTHON=/path/to/python chooses another." >&2
    exit 1
fi

extra=$1
shift
"$python" scripts/set_up.py "$extra"
exec .venv/bin/python "$@"
