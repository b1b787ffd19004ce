"""The source tree, as the lints look at it."""

import os
import pathlib
import shlex
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "libpipeorch"
HEADERS = ROOT / "include" / "pipeorch"
BUILD = pathlib.Path(os.environ.get("BUILD_ROOT", ROOT / "build"))

CC = shlex.split(os.environ.get("CC", "cc"))
CXX = shlex.split(os.environ.get("CXX", "c++"))
# version.h is made by the build
INCLUDES = ["-I", str(ROOT / "include"), "-I", str(BUILD / "include")]


def files(*suffixes, under=ROOT):
    """Text files of the project with these suffixes (all without), build folders and hidden ones of git left out."""
    found = []
    for folder, folders, names in os.walk(under):
        folders[:] = [f for f in sorted(folders) if f not in (".git", "__pycache__") and not f.startswith("build")]
        found += [pathlib.Path(folder, name) for name in sorted(names) if name != ".git" and (not suffixes or name.endswith(suffixes))]
    return found


def name(path):
    return str(pathlib.Path(path).relative_to(ROOT))


def compile_text(command, text):
    """Compile a program given as text; "" or what the compiler said."""
    ran = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    return "" if ran.returncode == 0 else ran.stderr or f"exit status {ran.returncode}"
