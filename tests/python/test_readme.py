"""The package's README: its Python blocks run, one after the other, as a reader would type them."""

import pathlib
import re
import sys
import types

README = pathlib.Path(__file__).resolve().parents[2] / "bindings" / "python" / "README.md"


def run_the_tour():
    text = README.read_text()
    blocks = [(text[: m.start()].count("\n") + 2, m[1]) for m in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    assert len(blocks) == text.count("```python")
    tour = sys.modules["tour"] = types.ModuleType("tour")  # whose names annotations are looked up in
    for line, block in blocks:
        exec(compile("\n" * (line - 1) + block, str(README), "exec"), vars(tour))


def test_the_tour_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "tour", None)
    run_the_tour()


if __name__ == "__main__":  # as the wheel's tests do, with each Python
    run_the_tour()
