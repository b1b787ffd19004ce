#!/usr/bin/env bash
# Run pytest of build/venv; meson runs each test file of this folder with it.
#
#   tests/python/pytest.sh FILE [PYTEST ARGUMENT ...]
set -euo pipefail

venv=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/venv
if [ ! -e "$venv/made-of" ]; then
    echo "pytest.sh: $venv is not there, or not whole; tests/run.sh python makes it (or tests/python/venv.sh alone)" >&2
    exit 1
fi
exec "$venv/bin/python" -m pytest -p no:cacheprovider -v -rs "$@"
