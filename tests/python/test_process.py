"""Tasks that run in other processes: what they can do, how they end, and that nothing is left of them."""

import asyncio
import contextlib
import errno
import os
import pathlib
import random
import re
import signal
import threading

import process_tasks as tasks
import pytest

import pipeorch
from pipeorch import _processes, errors

GUARD = 60.0


def worker_of(*functions, **options):
    worker = pipeorch.Worker(**options)
    for function in functions:
        worker.add(function)
    return worker


def children(pid="self"):
    """Of a process, those that have ended and were not waited for included."""
    found = set()
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ends at this moment
            found.update(map(int, (task / "children").read_text().split()))
    return found


def runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def warm():
    """What the first worker of a process opens for good: the queues of the log and of this thread."""
    with worker_of(tasks.echo) as worker:
        worker.client.submit(tasks.echo, 1).result()


@pytest.fixture(autouse=True)
def nothing_is_left(warm):
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    yield
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def kill_idle(worker, until):
    """Kill the process that waits for a task; it is to be seen that it has ended, all its threads included."""
    (process,) = worker._processes._idle
    process._popen.kill()
    until(lambda: not process.alive())


def test_a_task_runs_in_a_process_that_is_kept():
    with worker_of(tasks.tell) as worker:
        task = worker.client.submit(tasks.tell)
        told = task.result()
        assert told["pid"] in children() and told["main"] and told["same"]
        assert (told["id"], told["capability"]) == (task.id, "tell:process") and told["token"] > 0 and told["deadline"] > 0
        again = worker.client.submit(tasks.tell).result()
        assert (again["pid"], again["descriptors"]) == (told["pid"], told["descriptors"])
        assert again["token"] > told["token"]


def test_a_process_imports_no_more_than_it_needs():
    with worker_of(tasks.modules) as worker:
        assert set(worker.client.submit(tasks.modules).result()).isdisjoint({"asyncio", "logging", "pipeorch.client", "pipeorch.worker"})


def test_a_process_is_replaced_after_the_number_of_tasks_that_it_may_run():
    with worker_of(tasks.tell, tasks_per_process=2) as worker:
        pids = [worker.client.submit(tasks.tell).result()["pid"] for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_as_many_run_at_a_time_as_are_allowed(tmp_path):
    with worker_of(tasks.meet) as worker:
        met = [worker.client.submit(tasks.meet, str(tmp_path), name) for name in "ab"]
        assert len({task.result() for task in met} & children()) == 2


ENDS = {
    "raise": (r"^KeyError: 'missing' \(at process_tasks.py:\d+ in die\)$", 2),
    "final": ("^no such image$", 1),
    "unprintable": (r"^process_tasks.Unprintable: <.*> \(at process_tasks.py:\d+ in die\)$", 1),
    "result": ("object has no JSON form", 1),
    "exit": (r"^SystemExit: 3 \(at process_tasks.py", 2),
    "_exit": (r"^the process that ran it \(\d+\) ended with exit status 3$", 2),
    "segfault": (r"^the process that ran it \(\d+\) was killed by SIGSEGV$", 2),
    "SIGKILL": (r"^the process that ran it \(\d+\) was killed by SIGKILL \(for lack of memory\?\)$", 2),
}


def test_how_a_task_fails_is_told_and_the_next_one_runs():
    with worker_of(tasks.die, tasks.tell) as worker:
        for how, (told, attempts) in ENDS.items():
            failed = worker.client.submit(tasks.die, how, retries=1, retry_delay=0.001).wait()
            assert re.search(told, failed.error) and (failed.state, failed.attempts) == ("failed", attempts)
            assert worker.client.submit(tasks.tell).result()["pid"] in children()


@contextlib.contextmanager
def holder_killed(folder):
    try:
        yield
    finally:
        if (folder / "holder").exists():
            os.kill(int((folder / "holder").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("how, cleans_up", [("asks", True), ("busy", True), ("GIL", True), ("native", False), ("deaf", False), ("held", False)])
def test_what_is_cancelled_ends(tmp_path, until, monkeypatch, how, cleans_up):
    monkeypatch.setattr("pipeorch._processes._TOLD", GUARD if how == "asks" else 0.05)
    monkeypatch.setattr("pipeorch._processes._TERMINATED", GUARD if how in ("busy", "GIL") else 0.05)
    with worker_of(tasks.loop, tasks.tell) as worker, holder_killed(tmp_path):
        task = worker.client.submit(tasks.loop, str(tmp_path), how)
        until((tmp_path / "begun").exists)
        pid = int((tmp_path / "begun").read_text())
        task.cancel()
        assert task.wait().state == "cancelled"
        until(lambda: not worker._contexts)
        assert (tmp_path / "ended").exists() == cleans_up
        assert (worker.client.submit(tasks.tell).result()["pid"] == pid) == runs(pid) == (how == "asks")


def test_a_timeout_ends_it(tmp_path, until, monkeypatch):
    monkeypatch.setattr("pipeorch._processes._TOLD", 0.01)
    with worker_of(tasks.loop, tasks.tell) as worker:
        failed = worker.client.submit(tasks.loop, str(tmp_path), "busy", attempt_timeout=0.3).wait(GUARD)
        assert failed.state == "failed"
        until(lambda: not worker._contexts)
        assert worker.client.submit(tasks.tell).result()


def test_what_is_cancelled_before_its_process_has_started_never_begins(tmp_path, until, monkeypatch):
    start = _processes._Process.start

    def started_late(process):
        start(process)
        until(lambda: [context.cancelled for context in worker._contexts.values()] == [True])

    with worker_of(tasks.loop) as worker:
        kill_idle(worker, until)
        monkeypatch.setattr(_processes._Process, "start", started_late)
        task = worker.client.submit(tasks.loop, str(tmp_path), "asks")
        until(lambda: worker._contexts)
        task.cancel()
        until(lambda: not worker._contexts)
        assert os.listdir(tmp_path) == [] and len(worker._processes._idle) == 1


def test_forks_of_a_process_are_of_their_own():
    with worker_of(tasks.forks) as worker:
        ended, closed, told = worker.client.submit(tasks.forks).result()
    assert (ended, closed) == (-signal.SIGTERM, "0")
    assert "of which this one is a fork" in told


def test_progress_checkpoints_and_more_time_pass():
    with worker_of(tasks.steps) as worker:
        task = worker.client.submit(tasks.steps, 8, retry_delay=0.001)
        assert task.result() == 8  # the second attempt found what the first had left
        assert task.wait().attempts == 2


def test_large_values_pass():
    value = ["é" * 100000, {"x": list(range(100000))}]
    with worker_of(tasks.echo) as worker:
        assert worker.client.submit(tasks.echo, value).result() == value


def test_a_process_that_does_not_read_is_replaced(monkeypatch):
    monkeypatch.setattr("pipeorch._processes._STALL", 0.1)
    monkeypatch.setattr("pipeorch._processes._AT_CLOSE", 0.1)
    with worker_of(tasks.echo, tasks.tell) as worker:
        pid = worker.client.submit(tasks.tell).result()["pid"]
        os.kill(pid, signal.SIGSTOP)
        assert worker.client.submit(tasks.echo, "x" * 900000, retry_delay=0.001).result() == "x" * 900000
        assert not runs(pid)


def too_many():
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_one_that_cannot_be_started_fails_the_attempt_and_others_wait_longer_each_time(monkeypatch, until):
    monkeypatch.setattr("pipeorch._processes._PAUSE", 0.001)
    with worker_of(tasks.tell) as worker:
        kill_idle(worker, until)
        processes = worker._processes
        right, processes._setting = processes._setting, processes._setting._replace(functions=[("process_tasks", "missing")])
        failed = worker.client.submit(tasks.tell, retries=2, retry_delay=0.001).wait()
        assert failed.attempts == 3 and "cannot import the tasks' functions: AttributeError" in failed.error
        assert processes._failed_starts == 3
        processes._setting = right
        with monkeypatch.context() as exhausted:
            exhausted.setattr(_processes.socket, "socketpair", too_many)
            failed = worker.client.submit(tasks.tell, retries=0).wait()
            assert failed.error == "no process could be started for it: [Errno 24] Too many open files"
        assert worker.client.submit(tasks.tell).result()["pid"] in children()
        assert processes._failed_starts == 0


def test_async_with_starts_and_ends_them():
    async def main():
        async with worker_of(tasks.tell) as worker:
            task = worker.client.submit(tasks.tell)
            return await asyncio.get_running_loop().run_in_executor(None, task.result)

    assert not runs(asyncio.run(main())["pid"])


def test_the_end_of_the_worker_ends_what_runs_within_the_drain(tmp_path, until, monkeypatch):
    monkeypatch.setattr("pipeorch._processes._AT_CLOSE", 0.05)
    with worker_of(tasks.loop, drain=0.1) as worker:
        worker.client.submit(tasks.loop, str(tmp_path), "deaf")
        until((tmp_path / "begun").exists)
    assert not os.path.exists("/proc/" + (tmp_path / "begun").read_text())


def test_hundreds_of_tasks_have_their_one_right_result_whatever_is_killed():
    stop, killed = threading.Event(), []
    chance = random.Random(1)

    def kill():
        while not stop.wait(chance.uniform(0.005, 0.05)) and len(killed) < 8:
            with worker._processes._lock:  # they are released under it
                pids = [process._popen.pid for process in worker._processes._all if process.ran]
                if pids:
                    killed.append(chance.choice(pids))
                    os.kill(killed[-1], signal.SIGKILL)

    with worker_of(tasks.square) as worker:
        killer = threading.Thread(target=kill)
        killer.start()
        options = pipeorch.TaskOptions(retry_delay=0.001)
        while len(killed) < 8:
            handles = worker.client.submit_many(tasks.square, [{"n": n} for n in range(300)], options=options)
            assert [handle.result(GUARD) for handle in handles] == [[n * n, handle.id] for n, handle in enumerate(handles)]
        stop.set()
        killer.join()


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: pipeorch.task("a:b", execution="process")(lambda: None), "no lambda, local function"),
        (lambda: pipeorch.task("a:b", execution="process")(worker_of), None),
        (lambda: pipeorch.task("a:b", execution="fork")(worker_of), "expected 'thread', 'process' or 'asyncio'"),
        (lambda: worker_of(pipeorch.task("a:b", execution="asyncio")(children)), "'asyncio', and it is a plain function"),
        (lambda: worker_of(pipeorch.task("a:b", execution="thread")(coroutine)), "'thread', and it is asynchronous"),
        (lambda: worker_of(pipeorch.task("a:b", execution="process")(coroutine)), "'process', and it is asynchronous"),
        (lambda: worker_of(pipeorch.task("a:b", execution="process")(hidden)).start(), "test_process.children is not that function"),
    ],
)
def test_what_cannot_run_there_is_refused(make, told):
    if told is None:
        make()
        return
    with pytest.raises(errors.InvalidArgument, match=told):
        make()


async def coroutine() -> None:
    pass


def hidden() -> None:
    pass


hidden.__qualname__ = "children"


# ---- in programs ----

SCRIPT = """
import os, signal, sys, threading, time
import pipeorch
from pipeorch import _processes

worker = pipeorch.Worker(drain=0.1 if sys.argv[1] == "left" else 5)

@worker.task("add:numbers", execution="process")
def add(a: int, b: int) -> int:
    print("runs", __name__, flush=True)
    return a + b

@worker.task("loop:native", execution="process")
def loop() -> None:
    import re
    started = os.fork()
    if started == 0:
        time.sleep(1000)
    os.write(1, f"pid {os.getpid()}\\nstarted {started}\\n".encode())
    re.match(r"(a+)+$", "a" * 60 + "b")

@worker.task("be:slow", execution="process")
def slow() -> str:
    print("begun", flush=True)
    time.sleep(0.3)
    print("finished", flush=True)
    return "x"

def submit(f):
    while True:
        try:
            worker.client.submit(f)
            return
        except pipeorch.errors.Closed:  # it does not run yet
            time.sleep(0.01)

GUARD
    if sys.argv[1] == "add":
        with worker:
            print(worker.client.submit(add, 1, 2).result(), flush=True)
    elif sys.argv[1] == "fork":
        with worker:
            worker.client.submit(loop)
            if os.fork() == 0:
                os.write(1, f"fork {os.getpid()}\\n".encode())
                os.close(1), os.close(2)
            time.sleep(60)
    elif sys.argv[1] == "left":
        _processes._AT_CLOSE = 0.05
        worker.start()
        worker.client.submit(loop)
        while not worker._contexts:
            time.sleep(0.01)
    else:
        threading.Thread(target=submit, args=({"loop": loop, "slow": slow}[sys.argv[1]],), daemon=True).start()
        worker.run()
"""
GUARDED = SCRIPT.replace("GUARD", 'if __name__ == "__main__":')
UNGUARDED = SCRIPT.replace("GUARD", "if True:")


@pytest.fixture
def script(tmp_path, program):
    """script(text, argument): another process that runs a file, in a group of its own as at a terminal."""

    def start(text, *arguments, name="script.py"):
        path = tmp_path / name
        path.write_text(text)
        if name == "__main__.py":
            path = tmp_path
        run = "import os, sys; os.setpgid(0, 0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        return program(run, str(path), *arguments)

    return start


@pytest.mark.parametrize("name", ["script.py", "__main__.py"])
def test_functions_of_a_script(script, name):
    process = script(GUARDED, "add", name=name)
    out, err = process.communicate(timeout=GUARD)
    assert (out, err, process.returncode) == ("runs __mp_main__\n3\n", "", 0)


def test_a_script_without_a_guard_is_told(script):
    process = script(UNGUARDED, "add")
    out, err = process.communicate(timeout=GUARD)
    assert out == "" and process.returncode == 1
    assert 'only under `if __name__ == "__main__":`' in err.splitlines()[-1]


NO_FILE = """
import pipeorch
worker = pipeorch.Worker()

@worker.task("a:b", execution="process")
def function() -> None: ...

worker.start()
"""


def test_functions_of_no_file_are_refused(program):
    process = program(NO_FILE)
    _, err = process.communicate(timeout=GUARD)
    assert "defined in an interactive session or an archive; put it into a module" in err


def test_a_module_that_cannot_be_imported_there_is_told_at_the_start(script):
    process = script(GUARDED.replace("import pipeorch", 'assert __name__ == "__main__", "not here"\nimport pipeorch'), "add")
    out, err = process.communicate(timeout=GUARD)
    assert out == "" and process.returncode == 1
    assert "cannot import the tasks' functions: AssertionError: not here (at script.py:3 in <module>)" in err.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_lets_tasks_finish(script, number):
    process = script(GUARDED, "slow")
    assert process.stdout.readline() == "begun\n"
    for pid in (process.pid, *children(process.pid)):  # as a service manager does; a terminal reaches the first one alone
        os.kill(pid, number)
    out, err = process.communicate(timeout=GUARD)
    assert (out, err, process.returncode) == ("finished\n", "", 0)


def test_nothing_is_left_when_the_worker_is_killed(script, until):
    process = script(GUARDED, "loop")
    said = dict(process.stdout.readline().split() for _ in range(2))
    assert children(process.pid) >= {int(said["pid"])}
    process.kill()
    until(lambda: not runs(said["pid"]) and not runs(said["started"]))


def test_a_fork_of_the_worker_does_not_keep_them(script, until):
    process = script(GUARDED, "fork")
    said = dict(process.stdout.readline().split() for _ in range(3))
    process.kill()
    try:
        until(lambda: not runs(said["pid"]))
        assert runs(said["fork"])
    finally:
        os.kill(int(said["fork"]), signal.SIGKILL)


def test_the_interpreter_ends_although_one_is_busy(script):
    process = script(GUARDED, "left")
    out, err = process.communicate(timeout=GUARD)
    assert process.returncode == 0, err
    assert not runs(out.split()[1]) and not runs(out.split()[3])


SLOW = """
import os, pipeorch, signal, sys, threading, time
if __name__ != "__main__":
    os.kill(os.getppid(), getattr(signal, sys.argv[2]))
    time.sleep(60)
worker = pipeorch.Worker()

@worker.task("a:b", execution="process")
def function() -> None: ...

if __name__ == "__main__":
    try:
        getattr(worker, sys.argv[1])()
        print("ended")
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("call, number, told", [("run", "SIGTERM", "ended"), ("start", "SIGINT", "interrupted")])
def test_nobody_waits_for_imports_once_it_is_to_end(script, call, number, told):
    out, err = script(SLOW, call, number).communicate(timeout=GUARD / 2)
    assert (out, err) == (told + "\n", "")
