"""Watches: each event once, in order, from any position, until they are closed."""

import asyncio
import contextlib
import gc
import os
import signal
import threading

import pytest

import pipeorch
from pipeorch import errors

GUARD = 60.0


def submitted(client, count):
    return [h.id for h in client.submit_many("a:b", range(count))]


def test_events_come_in_order_and_from_any_position(client):
    with client.watch("tasks") as watch:
        ids = submitted(client, 3000)  # more than wait in the queue at a time
        events = [watch.next(GUARD) for _ in ids]
        assert [e["task_id"] for e in events] == ids
        assert {e["event"] for e in events} == {"task_submitted"}
        assert watch.position == (events[-1]["index"], events[-1]["position"])
        with pytest.raises(errors.TimedOut):
            watch.next(0.01)
    middle = events[1234]
    with client.watch("tasks", after=(middle["index"], middle["position"])) as again:
        assert again.next(GUARD) == events[1235]
    with client.watch(after="oldest") as oldest:
        assert any(e["event"] == "leader" for e in (oldest.next(GUARD) for _ in range(5)))


def test_filters_choose_what_comes(client):
    with client.watch(task_id=client.submit("a:b").id + 1) as watch:
        first, second = client.submit("a:b"), client.submit("a:b")
        second.cancel()
        first.cancel()
        assert [watch.next(GUARD)["event"] for _ in range(2)] == ["task_submitted", "task_finished"]
        with pytest.raises(errors.TimedOut):
            watch.next(0.01)


def test_closing_ends_whoever_iterates(client):
    watch = client.watch()
    seen, ready = [], threading.Event()

    def read():
        ready.set()
        seen.extend(watch)

    thread = threading.Thread(target=read)
    thread.start()
    ready.wait(GUARD)
    client.submit("a:b")
    watch.close()
    thread.join(GUARD)
    assert not thread.is_alive()
    watch.close()


def test_a_watch_ends_with_its_client(node):
    client = pipeorch.Client(node.worker_address)
    watch = client.watch()
    client.close()
    assert watch.next(GUARD) is None
    with node.client.watch("tasks") as inside:
        node.client.submit("a:b")
        assert inside.next(GUARD)["event"] == "task_submitted"


def test_one_that_nobody_has_is_closed(client):
    def mine():  # the node in this process opens files of its own meanwhile
        fds = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile, as that of listdir is
                fds.append(os.readlink(f"/proc/self/fd/{fd}"))
        return sorted(f for f in fds if f.startswith(("anon_inode:", "pipe:")))

    client.status()  # it is connected
    gc.collect()  # what earlier tests left
    before = mine()
    watch = client.watch()
    assert len(mine()) > len(before)
    del watch
    gc.collect()
    assert mine() == before


def test_async_for(node):
    async def main() -> None:
        async with pipeorch.AsyncClient(node.worker_address) as client:
            async with await client.watch("tasks") as watch:
                ids = [h.id for h in await client.submit_many("a:b", range(200))]
                seen = []
                async for event in watch:
                    seen.append(event["task_id"])
                    if len(seen) == len(ids):
                        break
                assert seen == ids
                waiting = asyncio.ensure_future(watch.__anext__())
                await asyncio.sleep(0)
                watch.close()
                with pytest.raises(StopAsyncIteration):
                    await waiting

    asyncio.run(main())


def test_what_is_wrong_is_said(client):
    with pytest.raises(errors.InvalidArgument, match="expected some of tasks, workers, runs, members"):
        client.watch(["tasks", "leaders"])
    with pytest.raises(errors.InvalidArgument, match="oldest"):
        client.watch(after="newest")
    ahead = client.watch(after=(1 << 40, 0))
    with pytest.raises(errors.InvalidArgument):
        ahead.next(GUARD)


WATCH = """
import pipeorch, tempfile
with pipeorch.Node(tempfile.mkdtemp()) as node:
    node.wait_leader()
    with node.client.watch() as watch:
        try:
            print("watching", flush=True)
            for event in watch: pass
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


def test_ctrl_c_interrupts_it(program):
    process = program(WATCH)
    assert process.stdout.readline() == "watching\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=GUARD)
    assert (out, process.returncode) == ("interrupted\n", 0), err
