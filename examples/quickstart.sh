#!/usr/bin/env bash
# Build pipeorch and watch it work: a pipeline on real data, on a cluster of three control nodes and four workers, which
# loses its leader to SIGKILL half-way.
#
#   examples/quickstart.sh [--keep] [--json FILE] [--input FILE]
#
#   --keep        leave the cluster running, and say how to ask and stop it
#   --json FILE   also write the outcome as JSON
#   --input FILE  another CSV file in place of examples/energy/data/iowa-electricity.csv
#
# Installs what the build needs (tests/install-deps.sh), builds into build/, keeps its data in a temporary folder, and stops all
# it started. Exit status: 0 if the run succeeded and survived its leader; 1 if not; 2 for wrong usage.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

refuse() { printf 'quickstart: %s\nTry: examples/quickstart.sh --help\n' "$*" >&2; exit 2; }

arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --keep) arguments+=("$1") ;;
    --json | --input)
        [ $# -ge 2 ] && [ -n "$2" ] || refuse "$1 needs a file"
        [ "$1" = --json ] || [ -r "$2" ] || refuse "--input $2: no such file, or not readable"
        arguments+=("$1" "$2")
        shift
        ;;
    -h | --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) refuse "unknown argument $1" ;;
    esac
    shift
done

bash "$top/tests/build.sh" daemons/po-controld daemons/po-workerd daemons/poctl
exec python3 "$top/examples/energy/quickstart.py" --build "$top/build" "${arguments[@]}"
