"""An application's own state, replicated through nodes in one process."""

import asyncio

import pytest

import pipeorch
from pipeorch import errors
from test_node import free_ports

GUARD = 60.0


class Journal(pipeorch.StateMachine):
    def __init__(self):
        self.lines = []
        self.restored = 0

    def apply(self, index, command):
        if command == b"raise":
            raise RuntimeError("on purpose")
        if command == b"huge":
            return b"x" * ((1 << 20) + 1)
        self.lines.append(command)
        return b"%d" % len(self.lines)

    def snapshot(self):
        return b"\n".join(self.lines)

    def restore(self, data):
        self.restored += 1
        self.lines = data.split(b"\n") if data else []


def opened(tmp_path, machine, **options):
    node = pipeorch.Node(tmp_path / "n", state_machine=machine, **options)
    node.wait_leader(GUARD)
    return node


def test_it_survives_by_log_and_by_snapshot(tmp_path, until):
    machine = Journal()
    with opened(tmp_path, machine, snapshot_bytes=64 * 1024) as node:
        for i in range(40):
            assert node.apply(b"%04d" % i * 1000) == b"%d" % (i + 1)
        until(lambda: node.status.snapshot_index > 0)
        before = list(machine.lines)
    again = Journal()
    with opened(tmp_path, again) as node:
        node.read_barrier(GUARD)
        assert again.lines == before and again.restored >= 1
        assert node.apply(b"more") == b"41"


def test_a_key_applies_once_and_both_forms_work(tmp_path):
    machine = Journal()

    async def main(node):
        first = await node.apply_async(b"a", key="k")
        assert await node.apply_async(b"a", key="k") == first == b"1"
        await node.read_barrier_async()

    with opened(tmp_path, machine) as node:
        asyncio.run(main(node))
        assert machine.lines == [b"a"]
        with pytest.raises(errors.InvalidArgument):
            node.apply(b"")


@pytest.mark.parametrize("command", [b"raise", b"huge"])
def test_one_that_raises_stops_its_node_and_no_more(tmp_path, caplog, command):
    with opened(tmp_path, Journal()) as node:
        assert node.apply(b"fine") == b"1"
        with pytest.raises(errors.Error):
            node.apply(command, timeout=GUARD)
        assert node.status.role == "stopped"
        with pytest.raises(errors.NodeFault):
            node.apply(b"after")
    assert "state machine Journal failed" in caplog.text
    assert "on purpose" in caplog.text or "at most 1048576" in caplog.text


def test_without_one_it_is_refused(node, tmp_path):
    with pytest.raises(errors.Refused):
        node.apply(b"x")
    with pytest.raises(errors.InvalidArgument, match="subclass of pipeorch.StateMachine"):
        pipeorch.Node(tmp_path / "n", state_machine=object())


def test_three_nodes_have_the_same(tmp_path, until):
    members = {f"n{i}": f"127.0.0.1:{port}" for i, port in enumerate(free_ports(3))}
    machines = {name: Journal() for name in members}
    nodes = [
        pipeorch.Node(tmp_path / name, name=name, members=members, listen=at, state_machine=machines[name], election=0.3, heartbeat=0.03)
        for name, at in members.items()
    ]
    try:
        for node in nodes:
            node.wait_leader(GUARD)
        for i in range(60):
            assert nodes[i % 3].apply(b"%d" % i, key=f"k{i}", timeout=GUARD) == b"%d" % (i + 1)
        until(lambda: all(m.lines == [b"%d" % i for i in range(60)] for m in machines.values()))
    finally:
        for node in nodes:
            node.close()
