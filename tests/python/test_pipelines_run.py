"""Pipelines that run: in this process, and in a cluster."""

import asyncio
import os
import pickle
import signal
import sys
import threading
from typing import Any, List, Optional

import pytest

import pipeorch
from pipeorch import (
    Client,
    InvalidPipeline,
    Pipeline,
    Placement,
    RunFailed,
    error_of,
    errors,
    exists,
    index,
    item,
    length,
    pipeline,
    state_of,
    step,
    task,
    this_run,
)
from pipeorch.local import LocalRun

GUARD = 60.0


@task("load:rows")
def load(count: int) -> dict:
    return {"rows": list(range(count)), "count": count}


@task("square:number", max_concurrency=4)
def square(n: int, add: int = 0) -> int:
    return n * n + add


@task("sum:numbers")
def total(numbers: List[int], label: str = "") -> str:
    return f"{label}{sum(numbers)}"


@task("double:number", max_concurrency=4)
async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


@task("tell:value", max_concurrency=4)
def tell(value: Any, /) -> Any:
    return value


@task("fail:always", retries=0)
def fail(why: str) -> None:
    raise ValueError(why)


@pipeline
def squares(count: int = 3, label: str = "sum "):
    table = load(count)
    return total(square.map(table.rows, add=table.count), label=f"{label}of {count}: ")


@pipeline
def CALLED_SO(timeout: int, key: str = "none"):
    return tell([timeout, key])


# ---- local ----


def test_a_map_runs_here_with_params_and_defaults():
    assert squares.run(local=True) == "sum of 3: 14"
    assert squares.run(2, local=True, timeout=GUARD) == "sum of 2: 5"
    assert squares.run(label="", count=4, local=True) == "of 4: 30"
    assert CALLED_SO.run(3, "k", local=True, timeout=GUARD) == [3, "k"]


def test_conditions_decide_when_it_runs():
    @pipeline
    def made(n: int, mode: str = "wet"):
        a = load(n)
        big = tell.options(name="big", when=(length(a.rows) > 2) & (mode != "dry"))(f"big: {a.count}")
        small = tell.options(name="small", when=~(length(a.rows) > 2) | (mode == "dry"))("small")
        after = tell.options(name="after", join="any_succeeded", after=[big, small])([1])
        tell.options(name="last", after=after, join="all_done", when=exists(a.nothing))(1)
        return {"big": state_of(big), "small": state_of(small), "after": after, "run": this_run.pipeline}

    assert made.run(3, local=True) == {"big": "succeeded", "small": "skipped", "after": [1], "run": "made"}
    assert made.run(1, local=True) == {"big": "skipped", "small": "succeeded", "after": [1], "run": "made"}
    assert made.run(3, "dry", local=True)["small"] == "succeeded"


def test_branches_meet_again():
    @task("take:one")
    def take(some: Optional[int], other: Optional[int]) -> int:
        return other if some is None else some

    @pipeline
    def either(n: int):
        a = load(n)
        many = tell.options(name="many", when=a.count > 2)(100)
        few = tell.options(name="few", when=a.count <= 2)(1)
        return take.options(join="any_succeeded")(many, few)

    assert (either.run(3, local=True), either.run(1, local=True)) == (100, 1)


def test_what_its_function_calls_may_be_written_anew():
    """As in a notebook, whose cells are run again."""
    scope = {"pipeline": pipeline, "task": task}
    exec("@task('say:it')\ndef say() -> str:\n    return 'old'\n", scope)
    exec("@pipeline\ndef inner():\n    return say()\n@pipeline\ndef outer():\n    return inner()\n", scope)
    assert scope["outer"].run(local=True) == "old"
    exec("@task('say:it', retries=7)\ndef say() -> str:\n    return 'new'\n", scope)
    assert scope["outer"].run(local=True) == "new"
    assert scope["inner"].steps[0]["attempts_max"] == 8 and scope["outer"].tasks == [scope["say"]]


def test_failed_attempts_are_retried_as_often_as_the_step_says():
    calls = []

    @task("flaky:thing", retries=9)
    def flaky(succeeds_at: int) -> int:
        calls.append(1)
        if len(calls) < succeeds_at:
            raise RuntimeError(f"call {len(calls)}")
        return len(calls)

    def made(at: int):
        return flaky.options(retries=2, retry_delay=0.01, retry_delay_max=0.02)(at)

    assert pipeline(made).run(3, local=True) == 3
    calls.clear()
    said = r"run 1 of pipeline 'made' failed: step \"flaky\": RuntimeError: call 3 \(at test_pipelines_run.py:"
    with pytest.raises(RunFailed, match=said):
        pipeline(made).run(4, local=True)
    assert len(calls) == 3


def test_a_failure_names_the_step_and_what_was_raised():
    @pipeline
    def made():
        fine = tell(1)
        fail.options(name="broken", after=fine)("no such thing")

    with pytest.raises(RunFailed) as e:
        made.run(local=True)
    assert "step \"broken\": ValueError: no such thing (at test_pipelines_run.py:" in str(e.value)
    assert [s["name"] for s in e.value.steps] == ["broken"] and e.value.run["state"] == "failed"
    assert repr(e.value.__cause__) == "ValueError('no such thing')"  # with its traceback
    assert pickle.loads(pickle.dumps(e.value)).run == e.value.run


def test_what_was_raised_is_found_through_maps_and_pipelines():
    @pipeline
    def inner(why: str):
        fail(why)

    @pipeline
    def outer(reasons: List[str]):
        for_one = fail.options(on_failure="continue")("another")
        inner.options(after=for_one, join="all_done").map(reasons)

    with pytest.raises(RunFailed, match='step "inner": element 0: run 2 of pipeline "inner" failed: step "fail": ValueError: this') as e:
        outer.run(["this"], local=True)
    assert repr(e.value.__cause__) == "ValueError('this')"
    with pytest.raises(RunFailed) as e:
        outer.run(["long" * 1000, "x"], local=True)  # of which a step keeps the beginning
    assert str(e.value.__cause__) in ("x", "long" * 1000)


def test_what_was_raised_is_looked_for_while_other_tasks_fail():
    over, failed = threading.Event(), []
    run = LocalRun(pipeline("one")(lambda: fail("x")), {}, [], None)
    raised = run._worker.raised
    raised.extend(ValueError(f"no {i}") for i in range(raised.maxlen))

    def look():
        try:
            for _ in range(300):
                run._cause("another error")
        except BaseException as e:
            failed.append(e)
        over.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    looking = threading.Thread(target=look)
    looking.start()
    try:
        while not over.is_set():
            raised.append(ValueError("more"))
    finally:
        looking.join()
        sys.setswitchinterval(before)
    assert failed == []


def test_a_failure_may_be_continued_and_looked_at():
    @pipeline
    def made():
        bad = fail.options(on_failure="continue")("oh")
        return tell.options(join="all_done", when=state_of(bad) == "failed")(error_of(bad))

    assert made.run(local=True).startswith("ValueError: oh")


def test_pipelines_run_in_pipelines():
    @pipeline
    def inner(numbers: List[int], label: str = ""):
        return total(numbers, label=label)

    @pipeline
    def middle(count: int):
        return inner(load(count).rows, label=f"{count}: ")

    @pipeline
    def outer(counts: List[int]):
        return {"all": middle.map(counts), "first": middle(counts[0]), "indexes": tell.map(counts, [index, item])}

    assert outer.tasks == [total, load, tell]
    assert outer.run([2, 3], local=True) == {"all": ["2: 1", "3: 3"], "first": "2: 1", "indexes": [[0, 2], [1, 3]]}


def test_coroutines_are_tasks_too():
    @pipeline
    def made(numbers: List[int]):
        return double.map(numbers)

    assert made.run([1, 2, 3], local=True) == [2, 4, 6]


def test_placement_does_not_count_here_and_texts_stay_texts():
    @pipeline
    def made(n: int):
        return square.options(placement=Placement(zone="aws", gpu="required", labels={"disk": "ssd"}))(n), tell("${params.n} $${x}")

    assert made.run(3, local=True) == [9, "${params.n} $${x}"]
    assert "placement" in made.document["steps"][0]


def test_documents_run_with_functions_that_are_given():
    document = {
        "name": "written",
        "params": {"n": {"type": "integer", "default": 4}},
        "service_registry": {"sq": "square:number@^1.0"},
        "steps": [{"name": "a", "capability": "sq", "input": {"n": "${params.n}"}}, {"name": "b", "pipeline": "squares", "input": {}}],
    }
    worker = pipeorch.Worker("unused")
    worker.add(square)
    for tasks in ([square, squares], [worker, squares]):
        assert Pipeline.from_json(document).run(local=True, tasks=tasks) == {"a": 16, "b": "sum of 3: 14"}
    chain = {"name": "chain", "start_node": "a", "steps": [{"name": "a", "capability": "any:params"}]}

    @task("any:params")
    def any_params(params: Any, **rest: Any) -> Any:
        return params

    assert Pipeline.from_json(chain).run(local=True, tasks=[any_params], x=1) == {"x": 1}
    assert Pipeline.from_json(chain).run(local=True, tasks=[any_params]) is None


def test_what_nobody_here_serves_is_told_at_once():
    @pipeline
    def made():
        step("squar:number")(n=1)
        step("other:thing", name="more")()
        square(1)

    with pytest.raises(errors.NoCapability) as e:
        made.run(local=True)
    assert "step 'squar' of pipeline 'made' needs 'squar:number'; the nearest is \"square:number\"" in str(e.value)
    assert "step 'more' of pipeline 'made' needs 'other:thing'" in str(e.value)

    @pipeline
    def versions():
        square.options(version="^2.0")(1)

    with pytest.raises(errors.NoCapability, match=r"step 'square' of pipeline 'versions' needs square:number@\^2.0, and 1.0.0 is here"):
        versions.run(local=True)

    @pipeline
    def by_name():
        step(pipeline="elsewhere")()

    with pytest.raises(errors.InvalidArgument, match="step 'elsewhere' of pipeline 'by_name' runs 'elsewhere'"):
        by_name.run(local=True, tasks=[square])

    twice = task("square:number")(lambda n: n)

    @pipeline
    def both():
        square(1)
        twice(1)

    with pytest.raises(errors.InvalidArgument, match="have the same capability; one of them would never run"):
        both.run(local=True)


@pytest.mark.parametrize(
    "call, kind, said",
    [
        (lambda: squares.run("3", local=True), TypeError, 'pipeline \'squares\': at /count: expected an integer, found the string "3"'),
        (lambda: squares.run(cuont=3, local=True), TypeError, "pipeline 'squares' has no param 'cuont'; the nearest is \"count\""),
        (lambda: squares.run(object(), local=True), errors.InvalidArgument, "pipeline 'squares': at /count: a value of type object"),
        (lambda: CALLED_SO.run(timeout=3, local=True), TypeError, "'timeout' is an option of run and submit as well"),
        (lambda: squares.run(local=True, tasks=[7]), errors.InvalidArgument, "tasks has 7; expected functions decorated with @task"),
        (lambda: squares.run(local=True, tasks=square), errors.InvalidArgument, "tasks is <task square:number 1.0.0: square>; expected a list"),
        (lambda: squares.run(1, local=True, timeout="5"), errors.InvalidArgument, "timeout is '5'; expected a number of seconds"),
        (lambda: squares.run(1, local=True, timeout=-1), errors.InvalidArgument, "timeout is -1; expected a number of seconds"),
        (lambda: squares.run(tasks=[square]), errors.InvalidArgument, "tasks are given for a run that is not local"),
        (lambda: squares.run(), errors.InvalidArgument, "where should pipeline 'squares' run? Give local=True to run it here"),
        (lambda: squares.run(client="here"), errors.InvalidArgument, "the client is 'here'; expected a Client or an AsyncClient"),
        (lambda: squares.submit(pipeorch.Worker()), errors.InvalidArgument, "expected a Client or an AsyncClient; give its client"),
    ],
)
def test_wrong_runs_are_told(call, kind, said, monkeypatch):
    monkeypatch.delenv("PO_CONTROLLERS", raising=False)
    monkeypatch.delenv("CONTROLLER_URL", raising=False)
    with pytest.raises(kind) as e:
        call()
    assert said in str(e.value)


def test_a_local_run_has_no_use_for_the_environment(monkeypatch):
    monkeypatch.setenv("PO_CONTROLLERS", "127.0.0.1:1")
    assert squares.run(local=True) == "sum of 3: 14"


def test_a_run_that_takes_too_long_is_ended_and_said_to_be_where():
    cancelled = threading.Event()
    over = threading.Event()

    @task("wait:long")
    def wait(ctx: pipeorch.Context) -> None:
        while not ctx.cancelled and not over.wait(0.005):
            pass
        cancelled.set()

    @pipeline
    def made():
        tell.options(after=wait())(1)

    try:
        with pytest.raises(errors.TimedOut, match="pipeline 'made' did not end within 0.2 s: step 'wait' was running"):
            made.run(local=True, timeout=0.2)
        assert cancelled.wait(GUARD)
    finally:
        over.set()


def test_a_local_run_can_be_awaited_and_cancelled():
    started, cancelled = threading.Event(), threading.Event()

    @task("wait:long")
    def wait(ctx: pipeorch.Context) -> None:
        started.set()
        while not ctx.cancelled:
            pass
        cancelled.set()

    @pipeline
    def long():
        wait()

    async def main():
        assert await squares.arun(4, local=True) == "sum of 4: 30"
        assert await asyncio.gather(*(squares.arun(n, local=True) for n in (1, 2))) == ["sum of 1: 1", "sum of 2: 5"]
        running = asyncio.ensure_future(long.arun(local=True))
        await asyncio.get_running_loop().run_in_executor(None, started.wait, GUARD)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert cancelled.is_set()
        with pytest.raises(RunFailed) as e:
            await pipeline("bad")(lambda: fail("oh")).arun(local=True)
        assert repr(e.value.__cause__) == "ValueError('oh')"
        with pytest.raises(TypeError, match="no param 'x'"):
            await squares.arun(x=1, local=True)

    asyncio.run(main())


@pytest.mark.parametrize("step", ["_close", "_release"])
def test_a_run_that_is_cancelled_as_it_ends_was_cancelled(step):
    ends, goes_on = threading.Event(), threading.Event()

    async def main():
        run = LocalRun(pipeline("one")(lambda: tell(1)), {}, [], None)
        close = getattr(run._worker, step)

        def slow(*arguments):  # the run is over; or the worker and its client are, too
            if step == "_release":
                close(*arguments)
            ends.set()
            goes_on.wait(GUARD)
            if step == "_close":
                close()

        setattr(run._worker, step, slow)
        running = asyncio.ensure_future(run.awaited())
        await asyncio.get_running_loop().run_in_executor(None, ends.wait, GUARD)
        running.cancel()
        asyncio.get_running_loop().call_later(0, goes_on.set)
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())


INTERRUPTED = """
import pipeorch

@pipeorch.task("wait:long")
def wait(ctx: pipeorch.Context) -> None:
    print("running", flush=True)
    while not ctx.cancelled:
        pass
    print("cancelled", flush=True)

@pipeorch.pipeline
def made():
    wait()

try:
    made.run(local=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_local_run(program):
    process = program(INTERRUPTED)
    assert process.stdout.readline() == "running\n"
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=GUARD)
    assert sorted(out.split()) == ["cancelled", "interrupted"] and process.returncode == 0, err


# ---- in a cluster ----


@pytest.fixture
def cluster(node):
    worker = pipeorch.Worker("w1", node.worker_address)
    for function in (load, square, total, tell):
        worker.add(function)
    with worker:
        yield node


def test_a_pipeline_is_submitted(cluster, client):
    run = squares.submit(client, 4, key="order-1", priority=3)
    assert run.result(GUARD) == "sum of 4: 30"
    assert squares.submit(client, 4, key="order-1", priority=3).id == run.id
    assert squares.run(2, client=client, timeout=GUARD) == "sum of 2: 5"
    assert squares.submit(client, count=2, define=False).result(GUARD) == "sum of 2: 5"
    with pytest.raises(errors.NotFound):
        pipeline("never")(lambda: tell(1)).submit(client, define=False)
    assert squares.submit(cluster.client, 2).result(GUARD) == "sum of 2: 5"


def test_a_run_is_where_the_environment_says(cluster, monkeypatch):
    monkeypatch.setenv("PO_CONTROLLERS", cluster.worker_address)
    assert squares.run(2, timeout=GUARD) == "sum of 2: 5"
    assert asyncio.run(squares.arun(2, timeout=GUARD)) == "sum of 2: 5"


def test_a_pipeline_is_submitted_and_awaited(cluster):
    @pipeline
    def outer(count: int):
        return {"below": squares(count)}

    async def main():
        async with pipeorch.AsyncClient(cluster.worker_address, timeout=GUARD) as client:
            await squares.define(client)
            run = await outer.submit(client, 2)
            assert await squares.arun(2, client=client, timeout=GUARD) == "sum of 2: 5"
            with pytest.raises(errors.InvalidArgument, match="the client is an AsyncClient; use `await"):
                squares.run(2, client=client)
            with pytest.raises(errors.InvalidArgument, match="which would hold up the event loop; use an AsyncClient"):
                await squares.arun(2, client=cluster.client)
            return await run.result(GUARD), await (await squares.submit(client, 3, define=False)).result(GUARD)

    assert asyncio.run(main()) == ({"below": "sum of 2: 5"}, "sum of 3: 14")


def test_defining_defines_what_it_runs_and_refuses_what_is_wrong(cluster, client):
    @pipeline
    def outer(count: int):
        squares(count)

    outer.define(client)
    assert {p["name"] for p in client.pipelines()} == {"outer", "squares"}
    assert client.start_run(squares, params={"count": 2}).result(GUARD) == "sum of 2: 5"
    client.define_schedule("later", pipeline=squares, cron="0 0 1 1 *", paused=True)
    assert client.schedule("later")["pipeline"] == "squares"
    with pytest.raises(errors.InvalidArgument, match=r"the document is <pipeline squares>; call its define\(client\)"):
        client.define_pipeline(squares)
    with pytest.raises(errors.InvalidArgument, match="the pipeline is 7; expected its name, or a Pipeline"):
        client.start_run(7)

    @pipeline
    def wrong():
        step("X")()

    with pytest.raises(InvalidPipeline):
        wrong.submit(client)
    with pytest.raises(RunFailed) as e:
        pipeline("bad")(lambda: square(tell({"a": 1}))).submit(client).result(GUARD)
    assert "expected an integer" in str(e.value) or "/n" in str(e.value)
