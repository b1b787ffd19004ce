"""The package as a whole: what importing it costs and checks, its types, and what is generated."""

import os
import pathlib
import subprocess
import sys

import pytest

import pipeorch

PACKAGE = pathlib.Path(pipeorch.__file__).resolve().parent


def python(text, **environment):
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


def test_importing_loads_nothing_heavy():
    def loaded(text):
        ran = python(text + "; import sys; print(*sys.modules)")
        assert ran.returncode == 0, ran.stderr
        return set(ran.stdout.split())

    heavy = {"asyncio", "inspect", "dataclasses", "logging", "json", "threading", "numpy", "pydantic"}
    assert heavy & (loaded("import pipeorch") - loaded("import ctypes")) == set()


def test_every_public_name_is_there():
    for name in pipeorch.__all__:
        assert getattr(pipeorch, name) is not None
    assert set(pipeorch.__all__) <= set(dir(pipeorch))


def test_another_library_is_refused_with_a_sentence():
    wrong = python("import pipeorch", PIPEORCH_LIBRARY="libm.so.6")
    assert "libm.so.6 has no po_version: it is older than release 0.3" in wrong.stderr
    missing = python("import pipeorch", PIPEORCH_LIBRARY="/nowhere/libpipeorch.so")
    assert "cannot load libpipeorch from /nowhere/libpipeorch.so" in missing.stderr


def test_the_error_classes_are_those_of_the_library():
    kinds = pipeorch.errors._CODES
    assert {kind.name.startswith("PO_E") and kind.name != "PO_E?" for kind in kinds.values()} == {True}
    assert [kind.__name__ for kind in kinds.values() if kind.retryable][:2] == ["OutOfMemory", "Busy"]
    header = (PACKAGE.parents[2] / "include" / "pipeorch" / "error.h").read_text()
    assert header.count("    X(") == len(kinds)


def test_the_awaited_client_is_what_is_made_of_the_blocking_one():
    made = subprocess.run([sys.executable, str(PACKAGE.parent / "make_async.py"), "--check"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


def test_types():
    pytest.importorskip("mypy")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir", os.devnull, str(PACKAGE)], capture_output=True, text=True, timeout=240
    )
    assert checked.returncode == 0, checked.stdout
