#!/usr/bin/env bash
# Install what is missing and build into build/.
#
#   tests/build.sh [TARGET ...]     everything, or these ninja targets
#
# Says what it does; shows the compiler's output only if something fails.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build

# Run a command; on failure show what it said.
quietly() {
    local output
    output=$("$@" 2>&1) || { printf '%s\nbuild: failed: %s\n' "$output" "$*" >&2; return 1; }
}

bash "$top/tests/install-deps.sh"
if [ ! -f "$build/build.ninja" ]; then
    echo "build: meson setup $build"
    quietly meson setup "$build" "$top"
fi
steps=$(ninja -C "$build" -n "$@" | grep -c '^\[' || true)
[ "$steps" -eq 0 ] || echo "build: $steps steps on $(nproc) processors"
quietly ninja -C "$build" "$@"
echo "build: done"
