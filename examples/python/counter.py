"""A counter that three nodes keep together, embedded in a Python program: no increment is lost, none is counted twice.

    pip install pipeorch                    # or ./bindings/python of a checkout
    python3 counter.py                      # three nodes in this process, of which the leader is closed half-way
    python3 counter.py 0                    # node 0 alone; node 1 and node 2 in terminals of their own:
                                            # each Enter counts one more, "=" reads, end of input (Ctrl-D) leaves

Options: --ports A,B,C: of the nodes, 7401,7402,7403 by default. --data DIR: where they keep their state; without it, the first
form takes a temporary folder, and the second one ./counter-data.
"""

import argparse
import itertools
import pathlib
import sys
import tempfile
import threading
import uuid
from typing import Dict, List, Optional

from pipeorch import Node, StateMachine, errors

EACH = 100  # increments that each of three threads wants counted
PATIENCE = 60.0  # seconds, for one increment, over the death of a leader


class Counter(StateMachine):
    """The state, alike on every node."""

    value = 0

    def apply(self, index: int, command: bytes) -> bytes:
        self.value += int(command)
        return str(self.value).encode()

    def snapshot(self) -> bytes:
        return str(self.value).encode()

    def restore(self, data: bytes) -> None:
        self.value = int(data or 0)


class Member:
    """One of the nodes, with its counter. What it does may be asked for on any of them: they find the leader themselves."""

    def __init__(self, number: int, ports: List[str], data: pathlib.Path) -> None:
        members: Dict[str, str] = {f"node{i}": f"127.0.0.1:{port}" for i, port in enumerate(ports)}
        self.name = f"node{number}"
        self.counter = Counter()
        data.mkdir(parents=True, exist_ok=True)
        self.node = Node(
            data / self.name,
            name=self.name,
            members=members,
            listen=members[self.name],
            election=0.3,  # short, so that the death of a leader is soon over
            heartbeat=0.03,
            state_machine=self.counter,
        )

    def increment(self, key: Optional[str] = None) -> int:
        """Count one more; the new value. It is on the disks of a majority then.

        A call that was under way when a leader died may or may not have counted. With the same key it can be repeated, here or
        on another node: it counts once.
        """
        return int(self.node.apply(b"1", key=key or uuid.uuid4().hex, timeout=PATIENCE))

    def read(self) -> int:
        """The value, with all increments in it that anybody was told of before."""
        self.node.read_barrier(timeout=PATIENCE)
        return self.counter.value


def count(members: List[Member], first: int, half: threading.Barrier) -> None:
    """EACH increments, through the member `first`; from when that one is closed, through the next."""
    through = itertools.cycle(members[first:] + members[:first])
    member = next(through)
    for i in range(EACH):
        if i == EACH // 2:
            half.wait()
        key = uuid.uuid4().hex
        while True:
            try:
                member.increment(key)
                break
            except (errors.Closed, errors.OutcomeUnknown):
                member = next(through)  # there the same increment again


def together(ports: List[str], data: pathlib.Path) -> bool:
    """All three in this process; whether the counter is right in the end."""
    members = [Member(i, ports, data) for i in range(3)]
    try:
        for member in members:
            member.node.wait_leader(PATIENCE)
        wanted = members[0].read() + EACH * len(members)
        half = threading.Barrier(len(members) + 1, timeout=PATIENCE)
        threads = [threading.Thread(target=count, args=(members, i, half)) for i in range(len(members))]
        for thread in threads:
            thread.start()
        half.wait()
        roles = [member.node.status.role for member in members]
        leader = roles.index("leader") if "leader" in roles else 0  # an election is under way: then anyone
        print(f"{members[leader].name}, {roles[leader]}, has counted to {members[leader].counter.value}, and is closed")
        members[leader].node.close()
        for thread in threads:
            thread.join()
        members[leader] = Member(leader, ports, data)  # comes back, and learns what it missed
        read = {member.name: member.read() for member in members}
    finally:
        for member in members:
            member.node.close()
    print("  ".join(f"{name} reads {value}" for name, value in read.items()), f"of {wanted}", sep="  ")
    return set(read.values()) == {wanted}


def alone(number: int, ports: List[str], data: pathlib.Path) -> None:
    """One of three processes."""
    member = Member(number, ports, data)
    print(f"{member.name} runs; Enter counts one more, = reads, Ctrl-D leaves", flush=True)
    with member.node:
        for line in sys.stdin:
            try:
                print(member.read() if line.strip() == "=" else member.increment(), flush=True)
            except errors.Error as error:
                print(f"{member.name}: {error}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", nargs="?", type=int, choices=range(3))
    parser.add_argument("--ports", default="7401,7402,7403")
    parser.add_argument("--data", type=pathlib.Path)
    arguments = parser.parse_args()
    ports = arguments.ports.split(",")
    if len(ports) != 3:
        parser.error(f"--ports is {arguments.ports}; expected three, as 7401,7402,7403")
    if arguments.number is not None:
        alone(arguments.number, ports, arguments.data or pathlib.Path("counter-data"))
        return
    with tempfile.TemporaryDirectory(prefix="counter-") as folder:
        sys.exit(0 if together(ports, arguments.data or pathlib.Path(folder)) else 1)


if __name__ == "__main__":
    main()
