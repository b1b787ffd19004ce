"""The package's README: its Python blocks run, one after the other, as a reader would type them."""

import pathlib
import re
import sys
import types

README = pathlib.Path(__file__).resolve().parents[2] / "bindings" / "python" / "README.md"


def test_the_tour_runs(monkeypatch):
    text = README.read_text()
    blocks = [(text[: m.start()].count("\n") + 2, m[1]) for m in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    assert len(blocks) == text.count("```python")
    tour = types.ModuleType("tour")  # whose names annotations are looked up in
    monkeypatch.setitem(sys.modules, "tour", tour)
    for line, block in blocks:
        exec(compile("\n" * (line - 1) + block, str(README), "exec"), vars(tour))
