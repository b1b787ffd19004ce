"""Clients, blocking and for asyncio: the same calls over the network, and what they raise."""

import asyncio
import datetime
import inspect
import os
import sys
import threading
import time

import pytest

import pipeorch
from pipeorch import _ffi, _ops, _wait, errors

GUARD = 60.0
CHAIN = {
    "name": "shout",
    "start_node": "upper",
    "steps": [
        {"name": "upper", "capability": "text:upper", "next_node": "wrap"},
        {"name": "wrap", "capability": "text:wrap"},
    ],
}


@pytest.fixture
def worker(node):
    made = pipeorch.Worker("w1", node.worker_address)

    @made.task("text:upper")
    def upper(step, /) -> str:
        return (step["params"] if isinstance(step, dict) else step).upper()

    @made.task("text:wrap")
    def wrap(step, /) -> str:
        return f"<{step['input']}>"

    with made:
        yield made


def test_a_key_makes_a_repetition_the_same_task(client):
    first = client.submit("text:upper", input="a", key="k1")
    assert client.submit("text:upper", input="a", key=b"k1").id == first.id
    assert client.submit("text:upper", input="a").id != first.id


def test_tasks_are_listed_cancelled_and_retried(client, worker):
    late = client.submit("text:upper", input="a", delay=1000)
    assert late.info()["state"] == "scheduled"
    assert [t["id"] for t in client.tasks("scheduled")] == [late.id]
    late.cancel()
    assert late.wait() == pipeorch.TaskResult(late.id, "cancelled", None, None, 0, None, None)
    client.retry(late.id)
    assert late.info()["state"] == "scheduled"  # its time is still to come
    done = client.submit("text:upper", input="a")
    assert done.wait() == pipeorch.TaskResult(done.id, "succeeded", "A", None, 1, "w1", "default")
    assert client.task(done.id, stale=10)["state"] == "succeeded"


def test_pipelines_are_defined_run_and_resumed(client, worker):
    client.define_pipeline(CHAIN)
    run = client.start_run("shout", params="hi", key="once")
    assert client.start_run("shout", params="hi", key="once").id == run.id
    done = run.wait(GUARD)
    assert done["state"] == "succeeded"
    assert [step["name"] for step in done["steps"]] == ["upper", "wrap"]
    assert [r["id"] for r in client.runs("shout", "succeeded")] == [run.id]
    assert [p["name"] for p in client.pipelines()] == ["shout"]
    again = client.resume_run(run.id, from_step="wrap")
    assert again.wait(GUARD)["state"] == "succeeded"
    with pytest.raises(errors.WrongState):
        run.cancel()


def test_all_problems_of_a_document_are_told(client):
    with pytest.raises(errors.InvalidArgument) as e:
        client.define_pipeline({"name": "no good", "steps": [{"name": "a"}]})
    assert "name" in str(e.value) and "capability" in str(e.value)


def test_schedules(client):
    client.define_schedule("nightly", pipeline="shout", cron="30 2 * * *", time_zone="Europe/Berlin", overlap="skip", catch_up=0)
    (row,) = client.schedules()
    assert (row["name"], row["cron"], row["time_zone"]) == ("nightly", "30 2 * * *", "Europe/Berlin")
    client.pause_schedule("nightly")
    assert client.schedule("nightly")["paused"]
    client.pause_schedule("nightly", False)
    client.delete_schedule("nightly")
    assert client.schedules() == []
    with pytest.raises(errors.InvalidArgument, match="cron"):
        client.define_schedule("bad", pipeline="shout", cron="61 * * * *")


def test_draining_and_fencing(client, worker):
    client.drain("w1")
    assert client.workers()[0]["status"] == "draining"
    client.undrain("w1")
    task = client.submit("text:upper", input="a")
    token = task.wait() and task.info()["token"]
    with pytest.raises(errors.Stale):
        client.fence(task.id, token)  # it is finished


def test_what_calls_raise(client):
    with pytest.raises(errors.NotFound) as e:
        client.task(999)
    assert (e.value.code, e.value.name, e.value.retryable) == (-10, "PO_ENOTFOUND", False)
    with pytest.raises(LookupError):
        client.run(999)
    with pytest.raises(TimeoutError):
        client.submit("nobody:does").result(0.05)
    with pytest.raises(errors.NoCapability):
        client.route("nobody:does")
    with pytest.raises(errors.TooBig):
        client.submit("a:b", input="x" * (1 << 20))


@pytest.mark.parametrize(
    "options, told",
    [
        ({"retries": 100}, "retries is 100; expected 0 to 99"),
        ({"retries": "x"}, "retries is 'x'; expected 0 to 99"),
        ({"delay": 1, "run_at": 5}, "expected one of them"),
        ({"run_at": datetime.datetime(2026, 1, 1)}, "without a time zone"),
        ({"timeout": -1}, "timeout is -1; expected 0.001 to 3600 seconds"),
        ({"rate": 5}, "without the concurrency_key"),
        ({"placement": pipeorch.Placement(gpu="some")}, "expected one of None, 'required', 'forbidden'"),
        ({"placement": pipeorch.Placement(labels={"a": 5})}, "the demand on label 'a' is 5"),
        ({"key": ""}, "the idempotency key has 0 bytes"),
        ({"priority": 10}, "priority"),
    ],
)
def test_wrong_options_are_told(client, options, told):
    with pytest.raises(errors.InvalidArgument) as e:
        client.submit("a:b", **options)
    assert told in str(e.value)


def test_options_reach_the_cluster(client):
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    task = client.submit(
        "a:b", input=[1], retries=4, attempt_timeout=30, priority=7, run_at=soon, deadline=time.time() + 9000, concurrency_key="t", concurrency=2
    )
    info = task.info()
    assert (info["attempts_max"], info["timeout_ms"], info["priority"], info["concurrency_key"]) == (5, 30000, 7, "t")
    assert info["state"] == "scheduled"


def test_a_closed_client_says_so(node):
    client = pipeorch.Client([node.worker_address])
    client.close()
    client.close()
    with pytest.raises(errors.Closed):
        client.status()


def test_nobody_there():
    with pipeorch.Client("127.0.0.1:1", timeout=0.3) as client:
        with pytest.raises(errors.Error) as e:
            client.status()
        assert e.value.retryable
    with pytest.raises(errors.BadAddress):
        pipeorch.Client("no port")


def test_addresses_of_the_environment(node, monkeypatch):
    monkeypatch.delenv("PO_CONTROLLERS", raising=False)
    monkeypatch.delenv("CONTROLLER_URL", raising=False)
    with pytest.raises(errors.InvalidArgument, match="PO_CONTROLLERS"):
        pipeorch.Client()
    monkeypatch.setenv("CONTROLLER_URL", f"tcp://{node.worker_address}/")
    with pipeorch.Client() as client:
        assert client.status()["leader_id"] == 1


def test_options_are_filled_in():
    task = _ffi.po_task_opts()
    o = pipeorch.TaskOptions(
        retry_delay=2, retry_delay_max=8, concurrency_key="k", concurrency=3, rate=5, rate_period=60, keep=7, deadline=9, run_at=4
    )
    kept = _ops.fill_task(task, b"a:b", b"[1]", o)
    assert (task.retry_ms, task.retry_max_ms, task.concurrency_max, task.rate_max, task.rate_period_ms) == (2000, 8000, 3, 5, 60000)
    assert (task.keep_ms, task.deadline_ms, task.run_at_ms, task.attempts_max, task.timeout_ms) == (7000, 9000, 4000, 0, 0)
    assert kept and (_ops.catch_up_ms(0), _ops.catch_up_ms(None), _ops.catch_up_ms(1.5)) == (0xFFFFFFFF, 0, 1500)


def test_a_wait_may_be_longer_than_a_call(client, worker):
    assert client.submit("text:upper", input="a").wait(timeout=100000).output == "A"
    nobody = client.submit("nobody:does")
    for timeout in (0, 0.05):
        with pytest.raises(errors.TimedOut, match=f"task {nobody.id} was not finished within {timeout} s"):
            nobody.wait(timeout=timeout)
    for timeout in (-1, "5", True, float("nan")):
        with pytest.raises(errors.InvalidArgument, match=f"timeout is {timeout!r}; expected"):
            nobody.result(timeout=timeout)


def test_many_are_waited_for_together(client, worker):
    texts = [str(i) for i in range(1000)]  # more than are under way at a time
    tasks = client.submit_many("text:upper", texts)
    never = client.submit("text:upper", input="a", delay=1000)
    never.cancel()
    finished = client.wait_many([never, *reversed(tasks), tasks[3].id])
    assert [t.id for t in finished] == [never.id, *(t.id for t in reversed(tasks)), tasks[3].id]
    assert [t.output for t in finished] == [None, *reversed(texts), "3"]
    assert client.wait_many([]) == []


def test_what_waiting_for_many_raises(client, worker):
    tasks = client.submit_many("text:upper", ["a"] * 600)
    with pytest.raises(errors.NotFound, match="999999"):
        client.wait_many([*tasks, 999999])
    nobody = client.submit("nobody:does")
    with pytest.raises(errors.TimedOut, match="601 tasks were not all finished within 0.3 s"):
        client.wait_many([nobody, *tasks], timeout=0.3)
    with pytest.raises(errors.InvalidArgument, match="timeout is 4000"):
        client.wait_many([], timeout=4000)
    assert client.wait_many(tasks)[599].output == "A"  # answers that nobody waits for any more do no harm


def test_inputs_of_a_batch_are_mappings_of_arguments(client):
    @pipeorch.task("add:numbers")
    def add(a: int, b: int = 1) -> int: ...

    @pipeorch.task("negate:number")
    def negate(a: int, /) -> int: ...

    with pytest.raises(errors.InvalidArgument, match=r'input 1 of <task add.* is 2; expected a mapping .* {"a": ..., "b": ...}'):
        client.submit_many(add, [{"a": 1}, 2])
    assert len(client.submit_many(add, [{"a": 1}, {"a": 1, "b": 2}])) == len(client.submit_many(negate, [1, 2])) == 2


def test_refused_calls_leave_nothing_behind(client):
    for _ in range(70000):  # more than a queue has places
        with pytest.raises(errors.InvalidArgument):
            client._do(_ops.query(1000, client._opts(), _ops.json_of))


def test_a_signal_within_a_call_does_no_harm(node):
    """It may come when the library has accepted the call and Python does not know yet."""
    for _ in range(200):
        with pipeorch.Client(node.worker_address) as client:
            op = _ops.query(_ops.STATUS, client._opts(), _ops.json_of)

            def interrupted(*arguments, real=op.function):
                assert real(*arguments) == 0
                raise KeyboardInterrupt

            op.function = interrupted
            with pytest.raises(KeyboardInterrupt):
                client._do(op)
            assert client.status()["leader_id"] == 1


def test_a_client_whose_opening_was_interrupted_leaves_nothing(node, monkeypatch):
    def interrupted(*arguments, real=_ffi.lib.po_client_open):
        assert real(*arguments) == 0
        raise KeyboardInterrupt

    monkeypatch.setattr(_ffi.lib, "po_client_open", interrupted)
    before = len(os.listdir("/proc/self/task"))
    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            pipeorch.Client(node.worker_address)
    assert len(os.listdir("/proc/self/task")) < before + 20  # each client has a thread; those of earlier tests may come to their end


def test_a_signal_handler_may_call_while_its_thread_waits(client):
    def status(meanwhile):
        op = _ops.query(_ops.STATUS, client._opts(), _ops.json_of)

        def interrupted(*arguments, real=op.function):
            code = real(*arguments)
            meanwhile()
            return code

        op.function = interrupted
        return op

    def handler():
        for _ in range(3):  # long enough for the other answer to come, which is not theirs
            assert client.status()["leader_id"] == 1

    assert client._do(status(handler))["leader_id"] == 1
    assert [s["leader_id"] for s in client._do_many([status(handler), status(handler)])] == [1, 1]


def test_many_threads_may_block_at_a_time():
    before, failed = sys.getswitchinterval(), []

    def block():
        for _ in range(200):
            try:
                assert _wait.in_thread(lambda: 7) == 7
            except BaseException as e:
                failed.append(e)

    threads = [threading.Thread(target=block) for _ in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert failed == []


def test_what_a_signal_left_behind_is_waited_for_at_exit(program):
    process = program(
        """
import os, signal, sys, threading, time
from pipeorch import _wait
goes_on = threading.Event()
def main_waits():
    frame, names = sys._current_frames()[threading.main_thread().ident], []
    while frame:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return "in_thread" in names and "start" not in names
def block():
    while not main_waits():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
    goes_on.wait()
    time.sleep(0.3)  # longer than the end of the program would take without it
    return 7
try:
    _wait.in_thread(block, undo=lambda result: print("undone", result, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
_wait.in_thread(lambda: 8)  # which forgets those that have ended
_wait._helpers.add(threading.Thread())  # as one whose start a signal prevented
goes_on.set()
"""
    )
    out, err = process.communicate(timeout=GUARD)
    assert (out, process.returncode) == ("interrupted\nundone 7\n", 0), err


def test_handles_may_open_and_close_while_all_are_looked_at():
    before, failed, over = sys.getswitchinterval(), [], threading.Event()

    def until_over(body):
        while not over.is_set():
            try:
                body()
            except BaseException as e:
                failed.append(e)

    opening = [threading.Thread(target=until_over, args=(lambda: pipeorch.Client("127.0.0.1:1")._close(),)) for _ in range(3)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in opening:
            thread.start()
        for _ in range(3000):
            _wait.live_handles()
    finally:
        over.set()
        for thread in opening:
            thread.join()
        sys.setswitchinterval(before)
    assert failed == []


def test_closing_waits_for_a_batch_under_way(monkeypatch):
    monkeypatch.setattr(_ops, "BATCH_SLICE", 0.2)
    client = pipeorch.Client("127.0.0.1:1")
    said = []

    def submit():
        try:
            client.submit_many("a:b", range(10), timeout=3000)
        except errors.Error as e:
            said.append(type(e))

    thread = threading.Thread(target=submit)
    thread.start()
    while not client._users:
        time.sleep(0.001)
    client.close()
    assert client._users == 0
    thread.join(GUARD)
    assert said == [errors.Closed]


def test_errors_of_a_node_name_the_leader_that_it_knows(node):
    with pytest.raises(errors.TimedOut) as e:
        node.client.submit("nobody:does").result(0.02)
    assert e.value.leader_hint == "node 1"


# ---- asyncio ----


def test_the_same_calls_await(node, worker):
    async def main() -> None:
        async with pipeorch.AsyncClient(node.worker_address) as client:
            task = await client.submit("text:upper", input="hi")
            assert await task.result() == "HI"
            many = await client.submit_many("text:upper", [str(i) for i in range(500)])
            results = await asyncio.gather(*(h.result() for h in many))
            assert results == [str(i) for i in range(500)]
            assert [t.output for t in await client.wait_many(many)] == results
            with pytest.raises(errors.NotFound):
                await client.task(9999)
            waiting = asyncio.ensure_future(client.wait((await client.submit("nobody:does")).id, timeout=1000))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            problems = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
            late = asyncio.ensure_future(client.wait(task.id))
            await asyncio.sleep(0)
            late.cancel()  # its outcome comes all the same
            await client.status()
            await client.status()
            assert problems == []
            assert (await client.status())["leader_id"] == 1

    asyncio.run(main())
    asyncio.run(main())  # on another loop


def test_thousands_of_coroutines_may_wait_at_a_time(node):
    async def main():
        async with pipeorch.AsyncClient(node.worker_address, timeout=GUARD) as client:
            task = await client.submit("nobody:does")
            waiting = [asyncio.ensure_future(task.wait(timeout=GUARD)) for _ in range(3000)]
            await asyncio.sleep(0)  # all have called
            await task.cancel()
            assert {finished.state for finished in await asyncio.gather(*waiting)} == {"cancelled"}

    asyncio.run(main())


def test_a_wait_that_nobody_waits_for_any_more_ends(node, monkeypatch):
    monkeypatch.setattr("pipeorch.aclient._WAIT_SLICE", 0.05)
    monkeypatch.setattr("pipeorch.aclient._CALLS_MAX", 4)

    async def main():
        async with pipeorch.AsyncClient(node.worker_address, timeout=GUARD) as client:
            task = await client.submit("nobody:does")
            for _ in range(4):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(task.wait(timeout=100000), 0.01)
            end = time.monotonic() + GUARD / 2
            while True:
                try:
                    return await client.status()
                except errors.Busy:  # until the abandoned ones are over
                    assert time.monotonic() < end
                    await asyncio.sleep(0.001)

    assert asyncio.run(main())["leader_id"] == 1


def test_both_clients_have_the_same_calls():
    def calls(kind):
        return {n: str(inspect.signature(f)) for n, f in vars(kind).items() if not n.startswith("_") and inspect.isfunction(f)}

    blocking, awaited = calls(pipeorch.Client), calls(pipeorch.AsyncClient)
    assert blocking == {n: s.replace("Async", "") for n, s in awaited.items()}
    assert all(inspect.iscoroutinefunction(vars(pipeorch.AsyncClient)[n]) for n in awaited)
