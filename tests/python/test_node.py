"""Control nodes inside of a Python process."""

import asyncio
import gc
import os
import socket
import weakref

import pytest

import pipeorch
from pipeorch import errors

GUARD = 60.0


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_what_was_submitted_survives_the_node(tmp_path):
    with pipeorch.Node(tmp_path / "n") as node:
        node.wait_leader(GUARD)
        task = node.client.submit("later:work", input={"x": 1})
        assert node.status.role == "leader"
        assert node.worker_address is None
    with pipeorch.Node(tmp_path / "n") as node:
        node.wait_leader(GUARD)
        assert node.client.task(task.id)["input"] == {"x": 1}


def test_three_nodes_go_on_without_their_leader(tmp_path, until):
    ports = free_ports(3)
    members = {f"n{i}": f"127.0.0.1:{port}" for i, port in enumerate(ports)}
    nodes = [
        pipeorch.Node(tmp_path / name, name=name, members=members, listen=at, worker_listen="127.0.0.1:0", election=0.3, heartbeat=0.03)
        for name, at in members.items()
    ]
    try:
        for node in nodes:
            node.wait_leader(GUARD)
        with pipeorch.Client([n.worker_address for n in nodes], timeout=GUARD) as client:
            before = client.submit("a:b").id
            leader = until(lambda: next((n for n in nodes if n.status.role == "leader"), None))
            leader.close()
            nodes.remove(leader)
            assert client.submit("a:b").id > before
            assert nodes[0].client.task(before)["state"] == "pending"
            assert len(client.members()) == 3
    finally:
        for node in nodes:
            node.close()


def test_what_is_wrong_with_a_directory_is_said(tmp_path):
    with pipeorch.Node(tmp_path / "n"):
        with pytest.raises(errors.Locked, match="n"):
            pipeorch.Node(tmp_path / "n")
    with pytest.raises(errors.WrongIdentity):
        pipeorch.Node(tmp_path / "n", name="other")
    with pytest.raises(errors.NotBootstrapped):
        pipeorch.Node(tmp_path / "empty", bootstrap=False)
    with pytest.raises(errors.InvalidArgument, match="NUL"):
        pipeorch.Node(tmp_path / "x", name="a\0b")


def test_a_closed_node_says_so(tmp_path):
    node = pipeorch.Node(tmp_path / "n")
    client = node.client
    node.close()
    node.close()
    with pytest.raises(errors.Closed):
        node.status
    with pytest.raises(errors.Closed):
        client.status()


def test_async_with(tmp_path):
    async def main() -> None:
        async with pipeorch.Node(tmp_path / "n", worker_listen="127.0.0.1:0") as node:
            async with pipeorch.AsyncClient(node.worker_address) as client:
                assert (await client.status())["leader_id"] == 1

    asyncio.run(main())


def test_the_own_client_is_there_for_asyncio(tmp_path):
    @pipeorch.pipeline
    def one() -> object:
        return pipeorch.step("do:it")(1)

    async def main() -> None:
        async with pipeorch.Node(tmp_path / "n") as node:
            client = node.async_client
            assert client is node.async_client
            task = await client.submit("a:b")
            async with await client.watch("tasks") as watch:
                await task.cancel()
                assert (await watch.__anext__())["state"] == "cancelled"
            run = await one.submit(client)
            assert (await run.info())["state"] == "running"
            with pytest.raises(errors.TimedOut) as e:
                await run.wait(0.05)
            assert e.value.leader_hint == "node 1"
        with pytest.raises(errors.Closed):
            await client.status()

    asyncio.run(main())


def test_what_c_holds_lives_until_it_is_closed(tmp_path):
    node = pipeorch.Node(tmp_path / "n", state_machine=pipeorch.StateMachine())
    watched = weakref.ref(node)
    del node
    gc.collect()
    assert watched() is not None  # its thread may call the state machine at any time
    watched().close()
    gc.collect()
    assert watched() is None


def test_a_client_that_nobody_has_is_closed(node):
    def threads():
        return set(os.listdir("/proc/self/task"))

    before = threads()
    client = pipeorch.Client(node.worker_address)
    watch = client.watch("tasks")
    assert client.status()
    its = threads() - before  # and the node's, if it needed more
    kept = weakref.ref(client)
    del client
    gc.collect()
    assert kept() is not None and node.client.submit("a:b") and watch.next(GUARD)["event"] == "task_submitted"
    assert its and its <= threads()
    del watch
    gc.collect()
    assert kept() is None and not its <= threads()
