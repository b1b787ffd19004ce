#!/usr/bin/env bash
# Make a virtual environment, unless it is there and current.
#
#   tests/python/venv.sh [FOLDER REQUIREMENTS]     by default build/venv, which the Python binding's tests run in, and their packages
#
# Made anew when the file of requirements or the interpreter has changed. Needs python3 with its venv module (tests/install-deps.sh), and
# the network where pip finds no packages otherwise. Exit status: 0 it is there; 1 it is not, and the last lines say why.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${1:-$(cd "$here/../.." && pwd)/build/venv}
requirements=${2:-$here/requirements.txt}
stamp=$venv/made-of

say() { printf 'venv: %s\n' "$*"; }

wanted=$(python3 -VV | cat - "$requirements" | sha256sum)
[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || exit 0

say "making $venv: about a minute"
rm -rf "$venv"
mkdir -p "${venv%/*}"
python3 -m venv "$venv" || { say "python3 cannot make virtual environments; run tests/install-deps.sh" >&2; exit 1; }
if ! output=$("$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" 2>&1); then
    printf '%s\n' "$output" >&2
    say "pip could not install what $requirements lists; the lines above say why." \
        "If this machine has no network, give pip a folder of packages (PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER) and start again" >&2
    exit 1
fi
printf '%s\n' "$wanted" >"$stamp"
say "done"
