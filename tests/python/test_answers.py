"""What answers look like in a notebook, and pictures of pipelines."""

import base64
import re
import threading
import xml.etree.ElementTree as xml

import pytest

import pipeorch
from pipeorch import errors

DOCUMENT = {
    "name": "three",
    "steps": [
        {"name": "a", "capability": "answer:it", "input": 1},
        {"name": "<b>", "capability": "answer:it", "depends_on": ["a"]},
        {"name": "c", "capability": "answer:it", "depends_on": ["a", "<b>"], "when": "${steps.a.output} == 1"},
    ],
}


def parsed(html):
    """It is well-formed, so nothing in it leaks; as text without its tags."""
    return "\n".join(xml.fromstring(f"<div>{html}</div>").itertext())


def picture(html):
    return base64.b64decode(re.search(r"data:image/svg\+xml;base64,([^\"]+)", html)[1]).decode()


def test_draw():
    assert pipeorch.draw(DOCUMENT, "dot").startswith('digraph "three"')
    svg = xml.fromstring(pipeorch.draw(DOCUMENT, "svg"))
    assert {"a", "<b>", "c"} <= set(svg.itertext())
    wide = pipeorch.draw(DOCUMENT)
    assert "╭" in wide and "<b>" in wide
    assert "╭" not in pipeorch.draw(DOCUMENT, columns=5)  # a list instead


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(errors.InvalidArgument, match="expected one of 'text', 'dot', 'svg'"):
        pipeorch.draw(DOCUMENT, "png")
    with pytest.raises(errors.InvalidArgument, match="the pipeline is 5; expected a Pipeline"):
        pipeorch.draw(5)
    with pytest.raises(errors.InvalidArgument, match="columns is -1; expected 0 to 65535"):
        pipeorch.draw(DOCUMENT, columns=-1)
    with pytest.raises(errors.InvalidArgument, match="there is no step"):
        pipeorch.draw({"name": "p"})
    with pytest.raises(errors.InvalidArgument, match="line 1"):
        pipeorch.draw("{")
    loop = {"steps": [{"name": "a", "depends_on": ["b"]}, {"name": "b", "depends_on": ["a"]}]}
    with pytest.raises(errors.InvalidArgument, match="follows a step that does not exist, or itself"):
        pipeorch.draw(loop)
    assert "no picture: " in pipeorch.Answer(loop)._repr_html_()


def test_pipelines():
    @pipeorch.task("add:one")
    def add_one(x: int) -> int:
        return x + 1

    @pipeorch.pipeline
    def twice(x: int):
        return add_one(add_one(x))

    html = twice._repr_html_()
    assert "pipeline twice" in parsed(html) and {"add_one", "add_one_2"} <= set(xml.fromstring(picture(html)).itertext())
    assert pipeorch.draw(twice) == pipeorch.draw(twice.document) == pipeorch.draw(twice.to_json())


def test_status(node):
    html = node.client.status()._repr_html_()
    assert "cluster of 1, led by node" in parsed(html) and "worker_address" in html
    assert f"node {node.status.id}: leader" in parsed(node.status._repr_html_())


def test_runs_and_definitions(node):
    worker = pipeorch.Worker("w-1", node.worker_address)
    seen = threading.Event()

    @worker.task("answer:it")
    def answer(x, /):
        seen.set()
        if x == 1:
            return 2
        raise pipeorch.Final("<script>alert(1)</script>")

    steps = [{**step, "name": step["name"].strip("<>"), "depends_on": ["a"] if "depends_on" in step else []} for step in DOCUMENT["steps"]]
    node.client.define_pipeline({**DOCUMENT, "steps": steps})
    with worker:
        handle = node.client.start_run("three")
        run = handle.wait()
    assert seen.is_set() and run["state"] == "failed"
    assert f"run {handle.id} of three: failed" in parsed(handle._repr_html_())
    assert "answer:it" in parsed(pipeorch.TaskHandle(node.client, 1)._repr_html_())
    assert "<run 99>: no such run" in parsed(pipeorch.RunHandle(node.client, 99)._repr_html_())
    assert parsed(pipeorch.AsyncRunHandle(node.async_client, 1)._repr_html_()) == "<run 1>"
    html = run._repr_html_()
    text = parsed(html)
    assert f"run {run['id']} of three: failed" in text and "<script>alert(1)</script>" in text and "<script>" not in html
    assert "w-1" in text and 'class="failed"' in picture(html) and 'class="succeeded"' in picture(html)
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", text)
    text = parsed(node.client.pipeline("three")._repr_html_())
    assert "pipeline three" in text and "answer:it" in text and "${steps.a.output}" not in text.split("when")[0]
    for rows in (node.client.runs(), node.client.tasks(), node.client.workers(), node.client.pipelines(), node.client.capabilities()):
        assert parsed(rows._repr_html_()), rows
    assert parsed(node.client.runs(state="cancelled")._repr_html_()) == "none"


def test_long_lists_and_values_are_cut():
    rows = pipeorch.Answers({"id": i, "text": "x" * 1000} for i in range(250))
    html = rows._repr_html_()
    assert html.count("<tr>") == 101 and "and 150 more" in html and "x" * 201 not in html
