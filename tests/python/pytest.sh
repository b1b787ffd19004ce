#!/usr/bin/env bash
# Run pytest; meson runs each test file of this folder with it.
#
#   tests/python/pytest.sh FILE [PYTEST ARGUMENT ...]
#
# With build/venv (tests/python/venv.sh) if it is there, else with the system's pytest: then the tests that need packages of
# PyPI are skipped, and say so.
set -euo pipefail

venv=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/venv
candidates=(python3 /usr/bin/python3)
[ ! -e "$venv/made-of" ] || candidates=("$venv/bin/python")
for python in "${candidates[@]}"; do
    if "$python" -c 'import pytest' 2>/dev/null; then
        exec "$python" -X faulthandler -m pytest -p no:cacheprovider -v -rs "$@"
    fi
done
echo "pytest.sh: none of ${candidates[*]} has pytest; tests/install-deps.sh installs it" >&2
exit 1
