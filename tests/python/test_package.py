"""The package as a whole: what importing it costs and checks, its types, and what is generated."""

import os
import pathlib
import re
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
    assert set(pipeorch.__all__) == {"Error", "errors", "library_version", *pipeorch._WHERE}
    text = (PACKAGE / "__init__.py").read_text()
    typed = {(name, module) for module, names in re.findall(r"^    from \.(\w+) import (.*)$", text, re.MULTILINE) for name in names.split(", ")}
    assert typed == set(pipeorch._WHERE.items())


def test_another_library_is_refused_with_a_sentence():
    wrong = python("import pipeorch", PIPEORCH_LIBRARY="libm.so.6")
    assert "libm.so.6 has no po_version: it is older than release 0.3" in wrong.stderr
    missing = python("import pipeorch", PIPEORCH_LIBRARY="/nowhere/libpipeorch.so")
    assert "cannot load libpipeorch from /nowhere/libpipeorch.so" in missing.stderr


def test_the_error_classes_are_those_of_the_library():
    kinds = pipeorch.errors._CODES
    assert {kind.name.startswith("PO_E") and kind.name != "PO_E?" for kind in kinds.values()} == {True}
    assert [kind.__name__ for kind in kinds.values() if kind.retryable][:2] == ["OutOfMemory", "Busy"]
    assert set(pipeorch.errors.__all__) == {"Error", "Forked", *(kind.__name__ for kind in kinds.values())}
    header = (PACKAGE.parents[2] / "include" / "pipeorch" / "error.h").read_text()
    assert header.count("    X(") == len(kinds)


def test_the_awaited_client_is_what_is_made_of_the_blocking_one():
    made = subprocess.run([sys.executable, str(PACKAGE.parent / "make_async.py"), "--check"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


USER = """
from __future__ import annotations

import asyncio

from pipeorch import AsyncClient, Client, Context, Node, RunHandle, StateMachine, TaskHandle, Worker, errors, item, pipeline, step, task
from pipeorch.testing import Cluster, Simulation, simulate


@task("add:numbers", version="1.2.0", retries=3)
def add(a: int, b: int, ctx: Context) -> int:
    return a + b + ctx.attempt


class Counter(StateMachine):
    def apply(self, index: int, command: bytes) -> bytes | None:
        return None


def use(client: Client) -> TaskHandle:
    worker = Worker("w1")
    worker.add(add)
    try:
        return client.submit(add, 1, 2, priority=3)
    except errors.Busy:
        raise


async def use_async() -> None:
    async with Node("data", state_machine=Counter()) as node, AsyncClient(node.worker_address or "") as client:
        task = await client.submit("text:upper", input="hi")
        print(await task.result())
        async for event in await client.watch("tasks"):
            print(event["event"])


@pipeline
def sums(numbers: list[int], limit: int = 3) -> object:
    all = add.options(retries=5).map(numbers, b=limit)
    step("tell:people", when=all[0] > 1)(item)
    return {"all": all}


@pipeline("outer", version="1")
def outer(limit: int) -> object:
    return sums.options(after=[])([1, limit])


def run(client: Client) -> RunHandle:
    print(outer.run(1, local=True), outer.steps, outer.edges)
    return sums.submit(client, [1, 2], limit=3)


async def run_async(client: AsyncClient) -> None:
    print(await (await sums.submit(client, [1, 2])).result())


def test_it(pipeorch_cluster: Cluster) -> None:
    leader: int = pipeorch_cluster.wait_leader()
    pipeorch_cluster.kill(leader)
    pipeorch_cluster.worker(add).stop()
    found: str = pipeorch_cluster.wait(lambda: pipeorch_cluster.states[0] or None)
    report: Simulation = simulate(sums, params={"numbers": [1]}, seed=7)
    print(found, report.kept, report.runs)


asyncio.run(use_async())
"""


@pytest.mark.parametrize("checker", ["mypy --strict --no-incremental --cache-dir /dev/null", "pyright --warnings"])
def test_types(checker, tmp_path):
    """Of the package, and of a program that uses it."""
    pytest.importorskip(checker.split()[0])
    program = tmp_path / "program.py"
    program.write_text(USER)
    parts = ["pipeorch", "_pipeorch_pytest.py"]
    for part in parts:
        (tmp_path / part).symlink_to(PACKAGE.parent / part)
    checked = subprocess.run(
        [sys.executable, "-m", *checker.split(), *parts, "program.py"], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert checked.returncode == 0, checked.stdout
