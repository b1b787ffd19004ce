"""Workers: handlers of all kinds, what they are told and can tell, and how they end."""

import asyncio
import dataclasses
import os
import re
import signal
import threading
from typing import List

import pytest

import pipeorch
from pipeorch import errors
from pipeorch.worker import _Grant

GUARD = 60.0


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


def test_plain_async_and_generator_functions_are_tasks():
    worker = pipeorch.Worker()

    @worker.task("greet:person")
    def greet(name: str, greeting: str = "Hello") -> str:
        return f"{greeting}, {name}"

    @worker.task("mirror:point")
    async def mirror(point: Point) -> Point:
        await asyncio.sleep(0)
        return Point(-point.x, -point.y)

    @worker.task("count:up")
    def count(n: int):
        for i in range(n):
            yield i / n
        return n

    @worker.task("count:later")
    async def later(n: int):
        for i in range(n):
            yield i / n

    with worker:
        client = worker.client
        assert client.submit(greet, "Ada").result() == "Hello, Ada"
        assert client.submit(greet, "Ada", greeting="Hi").result() == "Hi, Ada"
        assert client.submit("greet:person", input={"name": "Bob"}).result() == "Hello, Bob"
        assert client.submit(mirror, Point(1, 2)).result() == {"x": -1, "y": -2}
        assert client.submit(count, 3).result() == 3
        assert client.submit(later, 3).result() is None
    assert greet("Eve") == "Hello, Eve"  # still a function


def test_an_input_that_breaks_the_schema_is_refused_at_once():
    worker = pipeorch.Worker()

    @worker.task("mirror:point")
    def mirror(point: Point) -> Point:
        return point

    with worker:
        with pytest.raises(errors.InvalidArgument, match="/x"):
            worker.client.submit("mirror:point", input={"x": "one"})
        with pytest.raises(ValueError):  # it is one of those, too
            worker.client.submit("mirror:point", input={})


def test_failures_are_retried_unless_final_and_say_where(until):
    worker = pipeorch.Worker()
    attempts: List[int] = []

    @worker.task("fail:twice", retries=2)
    def twice(ctx: pipeorch.Context) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise RuntimeError("not yet")
        return "done"

    @worker.task("fail:for_good")
    def for_good():
        raise pipeorch.Final("no such image")

    @worker.task("fail:with_place", retries=0)
    def with_place():
        return {}["missing"]

    @worker.task("fail:result")
    def result():
        return object()

    @worker.task("fail:schema")
    def schema() -> int:
        return "no integer"  # type: ignore[return-value]

    with worker:
        client = worker.client
        assert client.submit(twice, retry_delay=0.001).result() == "done"
        assert attempts == [1, 2, 3]
        with pytest.raises(pipeorch.TaskFailed, match="no such image") as failed:
            client.submit(for_good).result()
        assert failed.value.task.attempts == 1
        with pytest.raises(pipeorch.TaskFailed, match=r"KeyError: 'missing' \(at test_worker.py:\d+ in with_place\)"):
            client.submit(with_place).result()
        with pytest.raises(pipeorch.TaskFailed, match="object"):
            client.submit(result).result()
        refused = client.submit(schema).wait()
        assert (refused.state, refused.attempts) == ("failed", 1) and "no integer" in refused.error


def test_checkpoints_pass_to_the_next_attempt_and_progress_is_seen(until):
    worker = pipeorch.Worker()
    release = threading.Event()
    found = []

    @worker.task("work:long", retries=1)
    def long(ctx: pipeorch.Context) -> int:
        found.append(ctx.checkpoint)
        if ctx.attempt == 1:
            ctx.save({"done": [1, 2]}, 0.5)
            release.wait(GUARD)
            raise RuntimeError("half-way")
        return len(ctx.checkpoint["done"])

    with worker:
        task = worker.client.submit(long, retry_delay=0.001)
        until(lambda: task.info().get("progress") == 500)
        release.set()
        assert task.result() == 2
    assert found == [None, {"done": [1, 2]}]


def test_cancelling_reaches_functions_and_coroutines(until):
    worker = pipeorch.Worker()
    seen = threading.Event()
    begun = threading.Semaphore(0)

    @worker.task("wait:thread")
    def wait_thread(ctx: pipeorch.Context) -> None:
        begun.release()
        until(lambda: ctx.cancelled)
        seen.set()
        ctx.raise_if_cancelled()

    told = threading.Event()

    @worker.task("end:at_once")
    def at_once() -> None:
        pass

    @worker.task("wait:loop")
    async def wait_loop() -> None:
        begun.release()
        try:
            await asyncio.sleep(GUARD)
        except asyncio.CancelledError:
            told.set()
            raise

    with worker:
        for fn, event in ((wait_thread, seen), (wait_loop, told)):
            task = worker.client.submit(fn)
            assert begun.acquire(timeout=GUARD)
            task.cancel()
            assert event.wait(GUARD)
            assert task.wait().state == "cancelled"
            task.cancel()  # again: it is what was wanted
        done = worker.client.submit(at_once)
        done.wait()
        with pytest.raises(errors.WrongState):
            done.cancel()


def test_a_single_function_that_is_busy_hears_of_it_and_holds_up_no_coroutine(until):
    worker = pipeorch.Worker()
    begun, seen = threading.Event(), threading.Event()

    @worker.task("busy:alone")
    def busy(ctx: pipeorch.Context) -> None:
        begun.set()
        until(lambda: ctx.cancelled)
        seen.set()

    @worker.task("quick:loop")
    async def quick() -> int:
        return 1

    @worker.task("count:on")
    def endless():
        while True:
            yield None
            begun.set()

    with worker:
        task = worker.client.submit(busy)
        assert begun.wait(GUARD)
        assert worker.client.submit(quick).result() == 1
        task.cancel()
        assert seen.wait(GUARD)
        begun.clear()
        task = worker.client.submit(endless)
        assert begun.wait(GUARD)
        task.cancel()
        until(lambda: not worker._contexts)  # the generator was told, too


def test_a_lease_that_is_lost_is_that_of_the_same_task_only():
    worker = pipeorch.Worker()
    worker.add(pipeorch.task("a:b")(lambda: None))
    context = worker._context(_Grant(0, 4096, 7, 70, 1, 1000, b"null", None))

    class Lost:
        def __init__(self, task, id, token):
            self.task, self.id, self.token = task, id, token

    assert worker._in_hand(Lost(4096, 7, 70)) == [context]
    assert worker._in_hand(Lost(4096, 8, 80)) == worker._in_hand(Lost(8192, 7, 70)) == []
    newer = worker._context(_Grant(0, 4096, 8, 80, 1, 1000, b"null", None))
    worker._forget(context)
    assert worker._in_hand(Lost(4096, 8, 80)) == [newer]


def test_coroutines_that_outlast_the_drain_are_cancelled():
    told = []

    async def main() -> None:
        worker = pipeorch.Worker(drain=0.1)
        begun = asyncio.Event()

        @worker.task("sleep:long")
        async def sleep() -> None:
            begun.set()
            try:
                await asyncio.sleep(GUARD)
            except asyncio.CancelledError:
                told.append(True)
                raise

        async with worker:
            await asyncio.get_running_loop().run_in_executor(None, worker.client.submit, sleep)
            await asyncio.wait_for(begun.wait(), GUARD)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert told == [True]


def test_more_time_is_asked_for(until):
    worker = pipeorch.Worker()
    release, deadlines = threading.Event(), []

    @worker.task("need:more")
    def more(ctx: pipeorch.Context) -> None:
        deadlines.append(ctx.deadline)
        ctx.extend(3600)
        deadlines.append(ctx.deadline)
        release.wait(GUARD)

    with worker:
        task = worker.client.submit(more, attempt_timeout=60)
        until(lambda: len(deadlines) == 2 and (task.info()["deadline_ms"] or 0) > (deadlines[0] + 1000) * 1000)
        release.set()
        task.result()
    assert deadlines[1] > deadlines[0] + 1000


def test_no_more_run_at_a_time_than_allowed():
    worker = pipeorch.Worker()
    lock, now, most = threading.Lock(), [0], [0]

    @worker.task("hold:slot", max_concurrency=3)
    def hold(x: int, /) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.002)
        with lock:
            now[0] -= 1
        return x

    with worker:
        handles = worker.client.submit_many(hold, range(60), key="sixty")
        again = worker.client.submit_many(hold, range(60), key="sixty")
        assert [h.id for h in again] == [h.id for h in handles]
        assert [h.result() for h in handles] == list(range(60))
    assert most[0] == 3


def test_a_long_task_holds_up_none_behind_it():
    worker = pipeorch.Worker()
    release = threading.Event()

    @worker.task("be:slow", max_concurrency=4)
    def slow(x: int, /) -> int:
        if x == 0:
            release.wait(GUARD)
        return x

    with worker:
        handles = worker.client.submit_many(slow, range(20))
        assert [h.result() for h in handles[1:]] == list(range(1, 20))
        release.set()
        assert handles[0].result() == 0


def test_current_is_the_attempt_that_runs():
    worker = pipeorch.Worker()

    @worker.task("tell:id")
    def tell() -> int:
        return pipeorch.current().id

    @worker.task("tell:token")
    async def token() -> int:
        return pipeorch.current().token

    with worker:
        task = worker.client.submit(tell)
        assert task.result() == task.id
        assert worker.client.submit(token).result() > 0
    with pytest.raises(LookupError, match="no task runs here"):
        pipeorch.current()


def test_ending_waits_for_what_runs_and_gives_up_what_does_not_end():
    worker = pipeorch.Worker(drain=0.2)
    begun, release = threading.Event(), threading.Event()

    ended, seen = threading.Event(), []

    @worker.task("never:end")
    def never(ctx: pipeorch.Context) -> str:
        begun.set()
        release.wait(GUARD)
        seen.append(ctx.cancelled)
        ctx.progress(0.5)  # after the worker is gone: told to nobody
        ended.set()
        return "late"

    with worker:
        worker.client.submit(never)
        assert begun.wait(GUARD)
    release.set()
    assert ended.wait(GUARD) and seen == [True]
    worker.close()  # again
    with pytest.raises(errors.Closed):
        worker.standalone_address


def test_what_was_taken_and_not_begun_does_not_run_after_the_end():
    worker = pipeorch.Worker(threads=1, drain=0.1)
    begun, release, ran = threading.Event(), threading.Event(), []

    @worker.task("run:late", max_concurrency=8)
    def late(x: int, /) -> None:
        ran.append(x)
        begun.set()
        release.wait(GUARD)

    with worker:
        worker.client.submit_many(late, range(8))
        assert begun.wait(GUARD)
        threads = list(worker._threads)
    release.set()
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()
    assert len(ran) == 1


def test_closing_from_a_task_is_refused():
    worker = pipeorch.Worker()
    said = []

    @worker.task("close:thread")
    def on_thread() -> None:
        with pytest.raises(errors.InvalidArgument, match="call stop"):
            worker.close()
        said.append("thread")

    @worker.task("close:loop")
    async def on_loop() -> None:
        with pytest.raises(errors.InvalidArgument, match="call stop"):
            worker.close()
        said.append("loop")

    with worker:
        worker.client.submit(on_thread).result()
        worker.client.submit(on_loop).result()
    assert said == ["thread", "loop"]


def test_the_client_refuses_when_the_worker_has_ended():
    worker = pipeorch.Worker()
    worker.add(pipeorch.task("a:b")(lambda: None))
    worker.start()
    client, said = worker.client, []

    def submit() -> None:
        while True:
            try:
                client.submit("a:b")
            except errors.Closed:
                said.append("closed")
                return
            except errors.OutcomeUnknown:
                pass

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    worker.stop()
    for thread in threads:
        thread.join(GUARD)
    assert said == ["closed"] * 3
    worker.close()


def test_a_stop_before_the_start_is_not_lost():
    worker = pipeorch.Worker()
    worker.add(pipeorch.task("a:b")(lambda: None))
    before = signal.getsignal(signal.SIGTERM)
    worker.stop()
    worker.run()
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(errors.InvalidArgument, match="was started before"):
        worker.start()


def test_a_worker_whose_id_is_taken_over_ends_with_that(node):
    first, ended = pipeorch.Worker("same", node.worker_address, heartbeat=0.1), []
    first.add(pipeorch.task("a:b")(lambda: None))

    def run() -> None:
        try:
            first.run()
        except errors.Error as e:
            ended.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    while not first._started:
        threading.Event().wait(0.005)
    first.wait_ready(GUARD)
    second = pipeorch.Worker("same", node.worker_address)
    second.add(pipeorch.task("a:b")(lambda: None))
    with second:
        thread.join(GUARD)
        assert ended == [first.error] and type(first.error) is errors.Stale and not first.ready
    assert second.error is None


@pytest.mark.parametrize("standalone", [True, False])
def test_a_worker_has_a_client_for_asyncio(node, standalone):
    worker = pipeorch.Worker("w", [] if standalone else node.worker_address)

    @worker.task("double:it")
    async def double(n: int) -> int:
        return 2 * n

    async def main() -> None:
        async with worker:
            client = worker.async_client
            assert await (await client.submit(double, 4)).result() == 8
            assert [known["id"] for known in await client.workers()] == ["w"]
            assert [known["id"] for known in node.client.workers()] == ([] if standalone else ["w"])
        with pytest.raises(errors.Closed):
            await client.status()

    asyncio.run(main())


def test_controllers_that_do_not_answer_are_waited_for(caplog):
    worker = pipeorch.Worker("w", "127.0.0.1:1", standalone="never", ready_timeout=0.05)
    worker.add(pipeorch.task("a:b")(lambda: None))
    with worker:
        assert "was not registered by 127.0.0.1:1" in caplog.text
        with pytest.raises(errors.TimedOut):
            worker.wait_ready(0.01)
    caplog.clear()
    again = pipeorch.Worker("w", "127.0.0.1:1", standalone="never", ready_timeout=0)
    again.add(pipeorch.task("a:b")(lambda: None))

    async def main() -> None:
        async with again:
            assert not again.ready

    asyncio.run(main())
    assert "was not registered" not in caplog.text
    with pytest.raises(errors.InvalidArgument, match="ready_timeout"):
        pipeorch.Worker(ready_timeout=-1)


def test_a_worker_tells_what_it_serves_and_whether_it_does(node):
    worker = pipeorch.Worker("w", node.worker_address)
    functions = [worker.add(pipeorch.task(capability)(lambda: None)) for capability in ("a:b", "c:d")]
    assert worker.tasks == functions and not worker.ready
    with worker:
        assert worker.ready
    assert not worker.ready


def test_async_with_runs_coroutines_on_the_loop_of_the_caller():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        worker = pipeorch.Worker()
        seen = []

        @worker.task("on:loop")
        async def on_loop() -> int:
            seen.append(asyncio.get_running_loop())
            return 1

        async with worker:
            handle = worker.client.submit(on_loop)
            assert (await loop.run_in_executor(None, handle.result)) == 1
        assert seen == [loop]

    asyncio.run(main())


def test_a_worker_serves_a_cluster(client, node):
    worker = pipeorch.Worker("w1", node.worker_address, zone="aws", labels={"disk": "ssd"}, resources={"gpus": 1})

    @worker.task("add:numbers", version="1.2.0", requires_gpu=True)
    def add(a: int, b: int) -> int:
        return a + b

    with worker:
        assert client.submit(add, 1, 2).result() == 3
        placement = pipeorch.Placement(version="^1.2", gpu="required", labels={"disk": "ssd", "spot": False}, resources={"gpus": 1})
        assert client.submit(add, 1, b=2, placement=placement).wait().worker == "w1"
        assert client.route("add:numbers@^1", zone="aws")
        waiting = client.submit(add, 1, 2, placement=pipeorch.Placement(labels={"disk": {"not": "ssd"}}))
        assert "disk" in str(client.explain(waiting.id))
        (row,) = client.workers()
        assert (row["id"], row["zone"], row["status"]) == ("w1", "aws", "online")
    assert client.workers() == []  # it deregistered


def started(*args, **kwargs):
    worker = pipeorch.Worker(*args, **kwargs)
    worker.add(pipeorch.task("a:b")(lambda: None))
    worker.start()


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: started("a b"), '"a b"'),
        (lambda: started(heartbeat=0), "heartbeat is 0; expected 0.1 to 60"),
        (lambda: started(standalone="maybe"), "expected one of 'auto', 'never', 'always'"),
        (lambda: started(standalone="never"), "no address of a control node"),
        (lambda: started(standalone_listen="192.0.2.1:0"), "not a loopback address"),
        (lambda: pipeorch.Worker().add(len), "expected a function decorated"),
        (lambda: pipeorch.Worker().start(), "has no task"),
    ],
)
def test_what_is_wrong_with_a_worker_is_said(make, told):
    with pytest.raises(pipeorch.Error) as e:
        make()
    assert told in str(e.value)


# ---- processes ----

SERVE = """
import pipeorch, threading, time
worker = pipeorch.Worker()

@worker.task("be:slow")
def slow() -> str:
    print("begun", flush=True)
    time.sleep(0.3)
    print("finished", flush=True)
    return "x"

def submit():
    while True:
        try:
            worker.client.submit(slow)
            return
        except pipeorch.errors.Closed:  # it does not run yet
            time.sleep(0.01)

threading.Thread(target=submit, daemon=True).start()
worker.run()
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_worker_gracefully(program, number):
    process = program(SERVE)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=GUARD)
    assert out == "finished\nended\n", err
    assert process.returncode == 0


WAIT = """
import pipeorch
worker = pipeorch.Worker()

@worker.task("never:submitted")
def never() -> None: ...

with worker:
    task = worker.client.submit(never, delay=10000)
    try:
        print("waiting", flush=True)
        {wait}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("wait", ["task.result(1000)", "worker.client.wait(task.id, 1000)"])
def test_ctrl_c_interrupts_a_wait(program, wait):
    process = program(WAIT.format(wait=wait))
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=GUARD)
    assert (out, process.returncode) == ("interrupted\n", 0), err


LEFT_OPEN = """
import pipeorch, tempfile
worker = pipeorch.Worker()

@worker.task("say:hi")
async def hi() -> str:
    return "hi"

worker.start()
print(worker.client.submit(hi).result())
node = pipeorch.Node(tempfile.mkdtemp())
node.wait_leader()
print(node.client.status()["leader_id"])
"""


def test_the_interpreter_ends_with_nodes_and_workers_that_run(program):
    process = program(LEFT_OPEN)
    out, err = process.communicate(timeout=GUARD)
    assert (out, err, process.returncode) == ("hi\n1\n", "", 0)


def test_a_forked_child_is_refused_and_opens_its_own(node, tmp_path):
    assert node.client.status()  # this thread has a queue: the child must not use it
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "nothing was said"
        try:
            try:
                node.client.status()
            except errors.Forked as e:
                said = str(e)
            node.close()  # of the parent's nothing
            with pipeorch.Node(tmp_path / "own") as own:
                own.wait_leader(GUARD)
                said += f"; task {own.client.submit('a:b').id}"
        except BaseException as e:
            said = repr(e)
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.waitpid(pid, 0)
    said = os.read(read, 1000).decode()
    os.close(read), os.close(write)
    assert "a forked child opens its own (forked); task 1" in said
    assert node.client.status()


FORKED = """
import os, pipeorch, time
worker = pipeorch.Worker()
worker.add(pipeorch.task("a:b")(lambda: None))
worker.start()
read, write = os.pipe()
if os.fork() == 0:
    os.close(write)
    os.read(read, 1)  # until the program has ended
    os._exit(0)
worker.client.submit("a:b").result()
"""


def test_the_interpreter_ends_while_a_fork_goes_on(program):
    process = program(FORKED)
    assert process.wait(GUARD) == 0


ENDS = """
import pipeorch, tempfile
for kind in (pipeorch.Worker, pipeorch.Client, pipeorch.Node):
    def release(self, pointer, kind=kind, real=kind._release):
        print(kind.__name__, flush=True)
        real(self, pointer)
        raise RuntimeError("on purpose")
    kind._release = release
node = pipeorch.Node(tempfile.mkdtemp(), worker_listen="127.0.0.1:0")
client = pipeorch.Client(node.worker_address)
worker = pipeorch.Worker("w", node.worker_address)
worker.add(pipeorch.task("a:b")(lambda: None))
worker.start()
"""


def test_at_exit_each_is_closed_in_order_whatever_becomes_of_others(program):
    process = program(ENDS)
    out, err = process.communicate(timeout=GUARD)
    assert (out, process.returncode) == ("Worker\nClient\nNode\n", 0), err
    assert err.count("RuntimeError: on purpose") == 3


OPENING = """
import os, pipeorch, signal, tempfile, threading
directory = tempfile.mkdtemp()
real = pipeorch._ffi.lib.po_node_start
def slow(*arguments):
    code = real(*arguments)
    os.kill(os.getpid(), signal.SIGINT)
    interrupted.wait(60)
    return code
interrupted = threading.Event()
pipeorch._ffi.lib.po_node_start = slow
try:
    pipeorch.Node(directory)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    interrupted.set()
pipeorch._ffi.lib.po_node_start = real
while True:
    try:
        pipeorch.Node(directory).close()
        break
    except pipeorch.errors.Locked:
        pass
print("opened", flush=True)
"""


def test_a_node_whose_opening_was_interrupted_is_stopped(program):
    process = program(OPENING)
    out, err = process.communicate(timeout=GUARD)
    assert (out, process.returncode) == ("interrupted\nopened\n", 0), err


BEGINNING = """
import os, pipeorch, signal, threading
from pipeorch import _wait
worker = pipeorch.Worker()
worker.add(pipeorch.task("a:b")(lambda: None))
real = worker._open_handle
def slow():
    real()
    os.kill(os.getpid(), signal.SIGINT)
    interrupted.wait(60)
interrupted = threading.Event()
worker._open_handle = slow
try:
    with worker:
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
    interrupted.set()
for thread in list(_wait._helpers):
    thread.join()
print(worker._pointer, [t.name for t in threading.enumerate() if "pipeorch-task" in t.name], flush=True)
"""


def test_a_worker_whose_beginning_was_interrupted_is_closed(program):
    process = program(BEGINNING)
    out, err = process.communicate(timeout=GUARD)
    assert (out, process.returncode) == ("interrupted\nNone []\n", 0), err


@pytest.mark.parametrize(
    "options, told",
    [
        ({"threads": -1}, "threads is -1; expected 0 to 1024"),
        ({"threads": 1025}, "threads is 1025; expected 0 to 1024"),
        ({"slots": "2"}, "slots is '2'; expected 0 to 65536"),
        ({"tasks_per_process": "3"}, "tasks_per_process is '3'; expected 0"),
        ({"tasks_per_process": True}, "tasks_per_process is True; expected 0"),
        ({"resources": {"memory_bytes": 1.5}}, "resource 'memory_bytes' is 1.5; expected 0"),
        ({"labels": {"disk": 1}}, "1 is no text"),
        ({"id": 5}, "5 is no text"),
    ],
)
def test_wrong_options_are_told(options, told):
    with pytest.raises(errors.InvalidArgument, match=told):
        worker = pipeorch.Worker(**options)
        worker.add(pipeorch.task("a:b")(lambda: None))
        worker.start()


WRONG_TRAITS = [
    ({"max_concurrency": 0}, "max_concurrency of task 'a:b' is 0; expected 1 to 1024"),
    ({"max_concurrency": 5000}, "max_concurrency of task 'a:b' is 5000"),
    ({"retries": -5}, "retries of task 'a:b' is -5; expected 0 to 99, or None"),
    ({"retries": "x"}, "retries of task 'a:b' is 'x'"),
    ({"timeout": "soon"}, "timeout of task 'a:b' is 'soon'; expected 0.1 to 86400 seconds, or None"),
    ({"timeout": 1e9}, "timeout of task 'a:b' is 1000000000.0"),
    ({"requires_gpu": "yes"}, "requires_gpu of task 'a:b' is 'yes'; expected True or False"),
    ({"version": 1}, "version of task 'a:b' is 1; expected a text"),
]


@pytest.mark.parametrize("traits, told", WRONG_TRAITS)
def test_what_cannot_be_said_of_a_task_is_told_where_it_is_said(traits, told):
    with pytest.raises(errors.InvalidArgument, match=re.escape(told)):
        pipeorch.task("a:b", **traits)(len)


def test_a_capability_that_is_none_is_told():
    with pytest.raises(errors.InvalidArgument, match='the capability is \'a b\'; expected "verb:name"'):
        pipeorch.task("a b")(len)
    with pytest.raises(errors.InvalidArgument, match=r'without a capability; write @task\("verb:name"\)'):

        @pipeorch.task
        def bare(): ...


BOTH = """
import pipeorch, threading
workers = [pipeorch.Worker(name, drain=600) for name in "ab"]
begun = threading.Barrier(3)

def wait():
    begun.wait()
    while not all(w._stop_wanted for w in workers):
        threading.Event().wait(0.005)

for w in workers:
    w.add(pipeorch.task("wait:both")(wait))
    w.start()
    w.client.submit("wait:both")
begun.wait()
"""


def test_at_the_end_of_the_interpreter_all_workers_stop_at_a_time(program):
    process = program(BOTH)
    _, err = process.communicate(timeout=GUARD)
    assert (process.returncode, err) == (0, "")
