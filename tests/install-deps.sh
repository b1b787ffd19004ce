#!/usr/bin/env bash
# Install what building and testing pipeorch needs and this machine does not have.
#
#   tests/install-deps.sh [--ci] [--bench]
#
# Debian 12 (libraft comes from its backports, enabled here if they are not) and Debian 13. Elsewhere it changes nothing and lists what
# is missing. Asks nothing, says what it does, does nothing when nothing is missing. --ci: also what only .ci/run uses.
# --bench: also redis-server, which tests/bench/python measures other task queues with; Debian starts it as a service.
# Exit status: 0 everything is there; 1 it is not, and the last lines say what to do; 2 wrong usage.
set -euo pipefail

raft_min=0.22.1 # older ones lose data
# libnng: another implementation of the protocol, for tests to talk to; the product does not link it
packages=(meson ninja-build pkgconf gcc g++ libc6-dev libraft-dev libuv1-dev libnng-dev libmsgpack-dev libjansson-dev
          libssl-dev libcmocka-dev python3 python3-pytest python3-venv tzdata)

say() { printf 'install-deps: %s\n' "$*"; }
die() { printf 'install-deps: %s\n' "$@" >&2; exit 1; }

ci=0 bench=0
for arg in "$@"; do
    case $arg in
    --ci) ci=1 ;;
    --bench) bench=1 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) printf 'install-deps: unknown argument %s; expected --ci, --bench or nothing\n' "$arg" >&2; exit 2 ;;
    esac
done

# ---- other systems: look, list, touch nothing ----

# One line for each thing that is not there: what, and the project it comes from.
missing_elsewhere() {
    local row name from
    for row in meson=https://mesonbuild.com ninja=https://ninja-build.org cc='a C11 compiler' c++='a C++17 compiler' python3='Python >= 3.9'; do
        name=${row%%=*} from=${row#*=}
        command -v "$name" >/dev/null || echo "the program $name ($from)"
    done
    if ! command -v pkg-config >/dev/null; then
        echo "the program pkg-config (pkgconf), without which no library can be looked for"
        return
    fi
    while read -r name version from; do
        pkg-config --exists "$name >= $version" || echo "$name >= $version, with headers and pkg-config file ($from)"
    done <<EOF
raft $raft_min https://github.com/cowsql/raft
libuv 1.44 https://libuv.org
jansson 2.14 https://github.com/akheron/jansson
libcrypto 3.0 https://www.openssl.org
cmocka 1.1.5 https://cmocka.org
EOF
    python3 -c 'import pytest' 2>/dev/null || echo "pytest (https://docs.pytest.org); only the Python binding's tests use it"
    [ $bench = 0 ] || command -v redis-server >/dev/null || echo "the program redis-server (https://redis.io); only a benchmark uses it"
    [ -e /usr/share/zoneinfo/Europe/Berlin ] || echo "time zones in /usr/share/zoneinfo (https://www.iana.org/time-zones)"
    pkg-config --exists 'msgpack-c >= 3.2' || pkg-config --exists 'msgpack >= 3.2' ||
        echo "msgpack-c or msgpack >= 3.2, with headers and pkg-config file (https://github.com/msgpack/msgpack-c)"
    if command -v cc >/dev/null; then
        echo 'int main(void) { return 0; }' | cc -x c -include nng/nng.h -o /dev/null - -lnng 2>/dev/null ||
            echo "nng >= 1.5, below 2, with headers (https://github.com/nanomsg/nng); only tests use it"
    fi
}

debian=
if [ -r /etc/os-release ] && command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    debian=$(. /etc/os-release && [ "${ID:-}" = debian ] && echo "${VERSION_CODENAME:-}") || true
fi
case $debian in
bookworm | trixie) ;;
*)
    missing=$(missing_elsewhere)
    [ -n "$missing" ] || { say "everything is there"; exit 0; }
    say "this system is neither Debian 12 nor Debian 13, so nothing is installed. Missing:" >&2
    sed 's/^/  - /' <<<"$missing" >&2
    die "install these with your system's package manager or from their projects, then start again"
    ;;
esac

# ---- Debian ----

if [ $ci = 1 ]; then
    if [ "$debian" = bookworm ]; then
        packages+=(clang-14 clang-format-14 clang-tidy-14)
    else
        packages+=(clang clang-format clang-tidy)
    fi
    # Any Go that compiles tests/linear/check will do.
    command -v go >/dev/null || [ -x /usr/local/go/bin/go ] || packages+=(golang-go)
fi

[ $bench = 0 ] || packages+=(redis-server)

# Empty if the package is not installed.
version_of() { { dpkg-query -W -f='${db:Status-Status} ${Version}' "$1" 2>/dev/null || true; } | sed -n 's/^installed //p'; }

missing_packages() {
    local package version
    for package in "${packages[@]}"; do
        version=$(version_of "$package")
        if [ -z "$version" ]; then
            echo "$package"
        elif [ "$package" = libraft-dev ] && dpkg --compare-versions "$version" lt $raft_min; then
            echo "$package"
        fi
    done
}

list=$(missing_packages)
mapfile -t missing < <(printf '%s' "$list")
if [ ${#missing[@]} -eq 0 ]; then
    say "everything is there"
    exit 0
fi
say "missing: ${missing[*]}"

root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
        die "not root, and sudo is not there or would ask for a password. As root, run: $(readlink -f "$0") $*"
    fi
    root=(sudo -n)
fi
apt_get() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"; }
updated=0
update() {
    say "apt-get update"
    apt_get update || die "apt-get update failed; the lines above say why"
    updated=1
}

# The newest version of libraft-dev that apt knows and we can use.
raft_version() {
    local version
    apt-cache madison libraft-dev 2>/dev/null | awk '{print $3}' | while read -r version; do
        if dpkg --compare-versions "$version" ge $raft_min; then
            echo "$version"
            break
        fi
    done
}

# The machine's own source entry for the suite $debian, as a deb822 stanza for the suite's backports. Comments are dropped;
# continuation lines (an inline key) stay. Entries of other suites, as that of security updates, do not match.
backports_from_deb822() {
    awk -v suite="$debian" '
        function finish(    i, n, word, ours) {
            n = split(suites, word, " ")
            for (i = 1; i <= n; i++) ours = ours || word[i] == suite
            if (ours && enabled && types ~ /(^|[ \t])deb([ \t]|$)/ && components ~ /(^|[ \t])main([ \t]|$)/) {
                printf "Types: deb\nSuites: %s-backports\n%s", suite, rest
                found = 1
                exit
            }
            field = types = suites = components = rest = ""; enabled = 1
        }
        BEGIN { enabled = 1 }
        /^#/ { next }
        FNR == 1 || /^[ \t]*$/ { finish() }
        /^[ \t]*$/ { next }
        { value = $0 }
        /^[^ \t]/ { field = tolower($0); sub(/:.*/, "", field); sub(/^[^:]*:[ \t]*/, "", value) }
        field == "types" { types = types " " value; next }
        field == "suites" { suites = suites " " value; next }
        field == "components" { components = components " " value }
        field == "enabled" { if (tolower(value) ~ /^(no|false|without|off|disable)/) enabled = 0; next }
        { rest = rest $0 "\n" }
        END { if (!found) finish() }
    ' "$@"
}

# The same from one-line entries: deb [options] URI SUITE COMPONENT...
backports_from_lines() {
    awk -v suite="$debian" '
        { sub(/#.*/, "") }
        $1 == "deb" && match($0, "[ \t]" suite "[ \t]+") && $0 ~ /[ \t]main([ \t]|$)/ && $0 !~ /cdrom:/ {
            print substr($0, 1, RSTART) suite "-backports" substr($0, RSTART + 1 + length(suite))
            exit
        }
    ' "$@"
}

enable_backports() {
    local folder=/etc/apt entry target
    shopt -s nullglob
    local deb822=("$folder"/sources.list.d/*.sources) lines=("$folder"/sources.list "$folder"/sources.list.d/*.list)
    shopt -u nullglob
    [ -e "$folder/sources.list" ] || lines=("${lines[@]:1}")
    entry= target=$folder/sources.list.d/pipeorch-backports.sources
    [ ${#deb822[@]} -eq 0 ] || entry=$(backports_from_deb822 "${deb822[@]}")
    if [ -z "$entry" ] && [ ${#lines[@]} -gt 0 ]; then
        entry=$(backports_from_lines "${lines[@]}")
        target=$folder/sources.list.d/pipeorch-backports.list
    fi
    [ -n "$entry" ] || die "libraft-dev >= $raft_min is in $debian-backports, and apt has no entry for the suite $debian to copy." \
        "Add $debian-backports to /etc/apt/sources.list.d and start again"
    say "libraft-dev >= $raft_min is in $debian-backports: enabling them in $target"
    printf '%s\n' "$entry" | "${root[@]}" tee "$target" >/dev/null
}

needs_raft=0
others=()
for package in "${missing[@]}"; do
    if [ "$package" = libraft-dev ]; then needs_raft=1; else others+=("$package"); fi
done

# Package lists are fetched only if something is in none of those that are here.
for package in "${others[@]}"; do
    if [ -z "$(apt-cache madison "$package" 2>/dev/null)" ]; then
        update
        break
    fi
done
wanted=("${others[@]}")
if [ $needs_raft = 1 ]; then
    [ -n "$(raft_version)" ] || [ $updated = 1 ] || [ "$debian" = bookworm ] || update
    if [ -z "$(raft_version)" ] && [ "$debian" = bookworm ]; then
        enable_backports
        update
    fi
    version=$(raft_version)
    [ -n "$version" ] || die "apt knows no libraft-dev >= $raft_min: is the archive's main component for $debian enabled?"
    # The runtime library must be of the same version, which apt does not choose by itself from backports.
    runtime=$(apt-cache show "libraft-dev=$version" | sed -n 's/^Depends:.*\(libraft[0-9][a-z0-9]*\) (= .*/\1/p' | head -n 1)
    wanted+=("libraft-dev=$version" ${runtime:+"$runtime=$version"})
fi

install() { apt_get install -y --no-install-recommends "${wanted[@]}" >/dev/null; }
say "apt-get install ${wanted[*]}"
if ! install; then
    [ $updated = 0 ] || die "apt-get install failed; the lines above say why"
    say "apt-get install failed; once more with fresh package lists"
    update
    install || die "apt-get install failed; the lines above say why"
fi

list=$(missing_packages)
[ -z "$list" ] || die "still missing after installing: ${list//$'\n'/ }"
say "done"
