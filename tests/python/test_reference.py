"""The reference is built from the docstrings, all of them, without a warning."""

import html
import pathlib
import subprocess
import sys

import pytest

import pipeorch

pytest.importorskip("pdoc", reason="the reference is built by pdoc (pip install pdoc)")
SCRIPT = pathlib.Path(__file__).parents[2] / "bindings" / "python" / "reference.py"


def test_reference(tmp_path):
    built = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    page = html.unescape((tmp_path / "pipeorch.html").read_text())
    for name in set(pipeorch.__all__) - {"errors"}:
        assert f'<section id="{name}">' in page, name
    assert "idempotency key, up to 64 bytes" in page
    assert 'id="NoLeader"' in (tmp_path / "pipeorch" / "errors.html").read_text()
    assert 'id="Cluster.kill"' in (tmp_path / "pipeorch" / "testing.html").read_text()
    assert 'id="schema_of"' in (tmp_path / "pipeorch" / "schema.html").read_text()


def test_what_has_no_docstring_is_named(tmp_path):
    program = f"""
import runpy, pipeorch
pipeorch.Client.submit.__doc__ = None
said = runpy.run_path({str(SCRIPT)!r})["main"]({str(tmp_path)!r})
print(said)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "without a docstring: pipeorch.Client.submit\n", ran.stderr
