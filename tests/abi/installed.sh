#!/usr/bin/env bash
# Compile and run a C and a C++ program against an installed pipeorch, which they find through pkg-config alone.
#
#   tests/abi/installed.sh PREFIX     what "meson install" was given as prefix (with libdir "lib")
set -euo pipefail

[ $# -eq 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
prefix=$(readlink -f "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Away from the source tree, so that nothing is found there by accident.
cp "$here"/consumer/consumer.c "$here"/consumer/consumer.cc "$work"
cd "$work"
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib

pkg-config --print-errors --exists pipeorch
version=$(pkg-config --modversion pipeorch)
strict=(-Wall -Wextra -Wpedantic -Werror)

# build NAME COMPILER FLAGS... : compile, link, run
build() {
    local name=$1
    shift
    "$@" -o "$name"
    mkdir "$name.data"
    "./$name" "$name.data" || { echo "installed: $name failed" >&2; exit 1; }
}

read -ra cflags <<<"$(pkg-config --cflags pipeorch)"
read -ra libs <<<"$(pkg-config --libs pipeorch)"
build c-shared "${CC:-cc}" -std=c11 "${strict[@]}" "${cflags[@]}" consumer.c "${libs[@]}"
build cxx-shared "${CXX:-c++}" -std=c++17 "${strict[@]}" "${cflags[@]}" consumer.cc "${libs[@]}"

# The static library, with everything that it needs itself taken from pkg-config too.
read -ra libs <<<"$(pkg-config --static --libs pipeorch | sed 's/-lpipeorch/-l:libpipeorch.a/')"
build c-static "${CC:-cc}" -std=c11 "${strict[@]}" "${cflags[@]}" consumer.c "${libs[@]}"

"$prefix/bin/poctl" --version | grep -qF "$version"
needed=$(readelf -d c-shared | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | tr '\n' ' ')
case $needed in
*raft* | *libuv*) echo "installed: c-shared itself needs $needed; only libpipeorch should" >&2; exit 1 ;;
esac
echo "installed: pipeorch $version serves C, C++ and static C; the C program needs $needed"
