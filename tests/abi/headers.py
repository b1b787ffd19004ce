"""What the public headers promise, read from their text and, for numbers, from the compiler."""

import os
import pathlib
import re
import shlex
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADERS = ROOT / "include" / "pipeorch"
BUILD = pathlib.Path(os.environ.get("BUILD_ROOT", ROOT / "build"))
CC = shlex.split(os.environ.get("CC", "cc"))


PROVISIONAL = {"sim.h", "testing.h"}  # may change in any release: its symbols are recorded, its layout is not


def text(without=()):
    """All headers' text without comments."""
    joined = "\n".join(path.read_text() for path in sorted(HEADERS.glob("*.h*")) if path.name not in without)
    return re.sub(r"/\*.*?\*/", "", joined, flags=re.DOTALL)


def functions():
    """The names declared PO_API, sorted."""
    return sorted(set(re.findall(r"\bPO_API\b[^;{]*?\b(po_\w+)\s*\(", text())))


def structs():
    """{struct name: [member names]} of the structs whose members the headers show."""
    found = {}
    for name, body in re.findall(r"^struct (po_\w+)\s*\{(.*?)^\};", text(PROVISIONAL), re.MULTILINE | re.DOTALL):
        found[name] = [member for declaration in body.split(";") for member in members(declaration)]
    return found


def members(declaration):
    """The names that one member declaration declares: "uint32_t a, b", "char c[12]", "int (*f)(void *arg)"."""
    declaration = " ".join(declaration.split())
    if not declaration:
        return []
    function = re.search(r"\(\*(\w+)\)\(", declaration)
    if function:
        return [function[1]]
    return [re.search(r"(\w+)(\[[^\]]*\])?$", part.strip())[1] for part in declaration.split(",")]


def constants():
    """The names of constants: PO_X macros with a value, without those that are not numbers of the interface."""
    skipped = {"PO_API", "PO_VERSION"}
    return sorted({name for name in re.findall(r"^#define (PO_\w+)[ \t]+\S", text(), re.MULTILINE)} - skipped)


def layout():
    """Sizes, offsets and values as the compiler sees them, one per line."""
    lines = ['#include <pipeorch/pipeorch.h>', '#include <stdio.h>', 'int main(void) {']
    for name, names in structs().items():
        lines.append(f'printf("struct {name} %zu\\n", sizeof(struct {name}));')
        lines += [f'printf("    {member} %zu\\n", offsetof(struct {name}, {member}));' for member in names]
    lines += [f'printf("{name} %lld\\n", (long long)({name}));' for name in constants() if "VERSION" not in name]
    lines += ['#define X(name, number, retryable, text) printf("PO_%s %d %d\\n", #name, PO_##name, retryable);',
              'PO_ERRORS(X)', 'return 0; }']
    with tempfile.TemporaryDirectory() as folder:
        program = str(pathlib.Path(folder, "layout"))
        subprocess.run([*CC, "-std=c11", "-I", str(ROOT / "include"), "-I", str(BUILD / "include"), "-x", "c", "-", "-o", program],
                       input="\n".join(lines), text=True, check=True, timeout=120)
        return subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout
