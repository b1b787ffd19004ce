#!/usr/bin/env bash
# Install what is missing, build, run every test.
#
#   tests/run.sh [SUITE ...]     all suites, or these: unit sim cluster fuzz abi lint python
#
# Builds into build/. Exit status: 0 if all passed. Logs of the tests: build/meson-logs/testlog.txt
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
suites=()
for suite in "$@"; do
    case $suite in
    unit | sim | cluster | fuzz | abi | lint | python) suites+=(--suite "$suite") ;;
    -h | --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) printf 'run.sh: unknown suite %s; expected unit, sim, cluster, fuzz, abi, lint or python\n' "$suite" >&2; exit 2 ;;
    esac
done

bash "$top/tests/build.sh"
status=0
# Most of them wait for processes and deadlines.
export MESON_TESTTHREADS=${MESON_TESTTHREADS:-$((2 * $(nproc)))}
meson test -C "$build" --no-rebuild --print-errorlogs "${suites[@]}" || status=$?

echo
if [ $status -eq 0 ]; then
    echo "run.sh: all tests passed"
else
    echo "run.sh: some tests failed; see $build/meson-logs/testlog.txt" >&2
fi
exit $status
