"""A whole cluster in this process, whose nodes can be killed, paused, cut off from each other and started again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import tempfile
import threading
import time
from typing import Any, Callable, Iterable, List, Optional, Sequence, Set, Tuple, TypeVar, Union

from .. import _ffi
from .._wait import at_end, in_thread, milliseconds
from ..client import Client
from ..errors import Closed, InvalidArgument, TimedOut, WrongState, error_of
from ..node import Node, NodeStatus
from ..statemachine import StateMachine
from ..worker import Worker

T = TypeVar("T")

SIZE_MAX = 7
_HOST = "127.0.0.1"
_POLL = 0.005  # seconds


class _Port:
    """A free port that stays ours while a node is down: bound and not listening, which keeps others from it, and does not hinder
    the node."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((_HOST, 0))
        self.address = f"{_HOST}:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


class _Member:
    """One node's place in the cluster: what stays the same when the node is started again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers = _Port()
        self.workers = _Port()
        self.id = 0
        self.node: Optional[Node] = None  # the latest
        self.paused = False

    @property
    def live(self) -> Optional[Node]:
        """The node, unless it is closed."""
        return self.node if self.node is not None and self.node._pointer is not None else None

    def status(self) -> Optional[NodeStatus]:
        """None: it is dead."""
        try:
            return self.live.status if self.live is not None else None
        except Closed:  # at this moment
            return None

    def state(self) -> str:
        status = self.status()
        return "dead" if status is None else "paused" if self.paused else status.role

    def resume(self) -> None:
        if self.paused and self.live is not None:
            _fault(self.live, "po_testing_pause", 0)
        self.paused = False

    def close(self) -> None:
        if self.node is not None:
            self.node.close()

    def release(self) -> None:
        """Others may have its ports."""
        self.peers.close()
        self.workers.close()


def _fault(node: Node, name: str, *arguments: Any) -> None:
    function = _ffi.provisional(name)
    code = in_thread(lambda: node._blocking(function, *arguments))
    if code:
        raise error_of(code, f"{name} failed on node {node.name}")


class Cluster:
    """Control nodes in this process, each with a directory, and with sockets on the loopback interface. Ready when it is made: a
    leader is elected, usually within half a second.

    size: 1 to 7 nodes, named by their index from 0. dir: where their directories are made, kept; None: a temporary one, removed
    at the end. election_timeout: seconds, 0.05 to 60, without a word from the leader until the others elect; a tenth of it is the
    heartbeat. Short ones make failover quick, and elections without need frequent on a busy machine. state_machine: makes the
    application's own state, for each node and each start. zones: one name for each node. timeout: seconds, at most, that each wait
    and each call of `client` takes. Further options are those of `Node`, for all nodes.

    Use it in a `with` block, or call `close()`. Methods block: a coroutine calls those that wait with asyncio.to_thread. All may
    be called from any thread. They raise WrongState if a node is not in the state that they need, and InvalidArgument for a node
    that does not exist.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        dir: Union[str, "os.PathLike[str]", None] = None,
        election_timeout: float = 0.3,
        state_machine: Optional[Callable[[], StateMachine]] = None,
        zones: Optional[Sequence[str]] = None,
        timeout: float = 30.0,
        **node_options: Any,
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= SIZE_MAX:
            raise InvalidArgument(f"size is {size!r}; expected 1 to {SIZE_MAX} nodes")
        if zones is not None and (isinstance(zones, str) or len(zones) != size):
            raise InvalidArgument(f"zones is {zones!r}; expected a list of {size} names, one for each node")
        milliseconds(timeout, "timeout")
        milliseconds(election_timeout, "election_timeout", 60.0, 0.05)
        self._timeout = timeout
        self._options = {"election": election_timeout, "heartbeat": election_timeout / 10, **node_options}
        self._state_machine = state_machine
        self._zones = zones
        self._lock = threading.RLock()
        self._closed = False
        self._client: Optional[Client] = None
        self._workers: List[Worker] = []
        self._groups: List[Set[int]] = []
        self._pid = os.getpid()
        self._temporary = dir is None
        self.dir = tempfile.mkdtemp(prefix="pipeorch-") if dir is None else os.path.abspath(dir)
        self._members: List[_Member] = []
        at_end.append(self._clear)
        try:
            os.makedirs(self.dir, exist_ok=True)
            if os.listdir(self.dir):
                raise InvalidArgument(f"dir is {self.dir}, which is not empty; expected a new or an empty directory")
            for i in range(size):
                self._members.append(_Member(f"n{i}"))
            for i in range(size):
                self._start(i)
            self.wait(self._settled, what="the nodes did not elect a leader")
        except BaseException:
            self.close()
            raise

    def _settled(self) -> bool:
        """Every node has heard of the leader: calls on any of them succeed at once."""
        leaders = {node.status.leader_id for node in self.nodes}
        return len(leaders) == 1 and 0 not in leaders

    # ---- life ----

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close client and workers, stop all nodes, and remove the temporary directory. May be called again."""
        if self._pid != os.getpid():
            return  # a forked child has no part in it
        with self._lock, contextlib.ExitStack() as last_first:
            self._closed = True
            last_first.callback(self._clear)
            for member in self._members:
                last_first.callback(member.close)
            if self._client is not None:
                last_first.callback(self._client.close)
            for worker in self._workers:
                last_first.callback(worker.close)
                worker.stop()
            for member in self._members:  # workers and clients may wait for their answers
                last_first.callback(member.resume)

    def _clear(self) -> None:
        """Ports and the temporary directory; at exit, if nobody closed the cluster. They are not a forked child's, which may
        exit earlier."""
        if self._pid != os.getpid() or self._clear not in at_end:
            return
        at_end.remove(self._clear)
        for member in self._members:
            member.release()
        if self._temporary:
            shutil.rmtree(self.dir)

    def __repr__(self) -> str:
        if self._closed:
            return "<closed cluster>"
        return f"<cluster: {', '.join(f'{i} {state}' for i, state in enumerate(self.states))}>"

    def _start(self, i: int) -> None:
        member = self._members[i]
        members = {m.name: m.peers.address for m in self._members}
        node = Node(
            os.path.join(self.dir, member.name),
            name=member.name,
            members=members,
            listen=member.peers.address,
            worker_listen=member.workers.address,
            zone=self._zones[i] if self._zones is not None else None,
            state_machine=self._state_machine() if self._state_machine is not None else None,
            **self._options,
        )
        member.node, member.paused, member.id = node, False, node.status.id

    # ---- what there is ----

    @property
    def nodes(self) -> Tuple[Node, ...]:
        """The nodes, in order. One that is dead raises Closed; after `restart` another object is in its place."""
        return tuple(m.node for m in self._members if m.node is not None)

    @property
    def addresses(self) -> Tuple[str, ...]:
        """Worker addresses of all nodes, for clients and workers; they stay the same over restarts."""
        return tuple(m.workers.address for m in self._members)

    @property
    def states(self) -> Tuple[str, ...]:
        """What each node is: "leader", "follower", "candidate", "paused", "dead" (killed or closed), or "stopped" (by a fault: see
        its status.message)."""
        return tuple(m.state() for m in self._members)

    @property
    def client(self) -> Client:
        """A client of the whole cluster, over the network: it finds the leader, whoever that is. A node that is paused while it owes an
        answer is given 5 seconds before another one is asked."""
        with self._lock:
            self._check_open()
            if self._client is None:
                self._client = Client(self.addresses, name="cluster", timeout=self._timeout)
            return self._client

    @property
    def leader(self) -> Optional[int]:
        """The index of the node that leads, as of now; None: none. Of two that believe it, as happens until a leader in a minority
        notices, the one of the later term. A paused or dead node does not lead."""
        return self._leader(range(len(self._members)))

    def _leader(self, among: Iterable[int]) -> Optional[int]:
        leaders = []
        for i in among:
            status = self._members[i].status()
            if status is not None and status.role == "leader" and not self._members[i].paused:
                leaders.append((status.term, i))
        return max(leaders)[1] if leaders else None

    def wait_leader(self, among: Optional[Iterable[int]] = None, timeout: Optional[float] = None) -> int:
        """Wait until a node leads, and return its index. among: only these count, such as the majority of a partition. timeout:
        seconds; None: the cluster's. Raises TimedOut."""
        wanted = list(range(len(self._members)) if among is None else among)
        for i in wanted:
            self._member(i)

        def found() -> Optional[Tuple[int]]:
            leader = self._leader(wanted)
            return None if leader is None else (leader,)

        return self.wait(found, timeout, f"no leader among the nodes {wanted}")[0]

    def wait(self, condition: Callable[[], Optional[T]], timeout: Optional[float] = None, what: Optional[str] = None) -> T:
        """Call `condition` again and again until it returns something true, and return that. timeout: seconds; None: the cluster's. what:
        what to say if it does not come. Raises TimedOut, which tells the states of the nodes, and what the condition raises."""
        seconds = self._timeout if timeout is None else timeout
        until = time.monotonic() + milliseconds(seconds, "timeout") / 1000
        while True:
            self._check_open()
            value = condition()
            if value:
                return value
            if time.monotonic() >= until:
                raise TimedOut(f"{what or 'the condition did not become true'} within {seconds:g} s: {self!r}")
            time.sleep(_POLL)

    def worker(self, *functions: Any, id: Optional[str] = None, heartbeat: float = 0.5, drain: float = 1.0, **options: Any) -> Worker:
        """A worker of this cluster that serves these tasks (see `pipeorch.task`), registered when this returns, and closed with the
        cluster. id: None: "w0", "w1", ... options: of `Worker`."""
        with self._lock:
            self._check_open()
            made = Worker(id if id is not None else f"w{len(self._workers)}", self.addresses, heartbeat=heartbeat, drain=drain, **options)
            for function in functions:
                made.add(function)
            self._workers.append(made)
        made.start(self._timeout)
        return made

    # ---- faults ----

    def kill(self, i: int) -> None:
        """As kill -9 of a process that is this node alone. Its connections end at once, without a word; whatever waits for the disk is
        not written; what has been written stays. Unlike a killed process it finishes the write that the disk is busy with, and
        callers in this process are told: calls under way on the node's own client raise Closed or OutcomeUnknown. Paused nodes can
        be killed, too. A loss of power, which takes what was not flushed and tears what was under way, is `simulate`'s to try."""
        with self._lock:
            node = self._alive(i)
            _fault(node, "po_testing_crash")
            node.close()
            self._members[i].paused = False

    def restart(self, i: int) -> None:
        """Start a dead or stopped node again, in its directory and with its addresses. Returns when it runs; what it missed comes later."""
        with self._lock:
            self._check_open()
            member = self._member(i)
            state = member.state()
            if state not in ("dead", "stopped"):
                raise WrongState(f"node {i} runs ({state}); kill it before it is restarted")
            if member.node is not None:
                member.node.close()
            self._start(i)
            self._apply_partition()

    def pause(self, i: int) -> None:
        """As SIGSTOP: the node stands still, its connections stay open, and nobody is told. When it is resumed, it believes for a
        moment that nothing has happened. Calls on its own client wait until then, whatever their timeout."""
        with self._lock:
            node = self._alive(i)
            if self._members[i].paused:
                raise WrongState(f"node {i} is paused already")
            self._members[i].paused = True  # also if a signal ends this wait
            _fault(node, "po_testing_pause", 1)

    def resume(self, i: int) -> None:
        """As SIGCONT: a paused node goes on."""
        with self._lock:
            self._alive(i)
            if not self._members[i].paused:
                raise WrongState(f"node {i} is not paused ({self._members[i].state()})")
            self._members[i].resume()

    def partition(self, *groups: Iterable[int]) -> None:
        """Cut the links between nodes of different groups, in both directions: nothing passes, and nothing is refused, as behind a
        router that drops packets. Nodes that no group names form one more: partition([0]) cuts node 0 off. What was under way
        arrives late, once it is healed. Replaces an earlier partition, and stays when a node is restarted. Clients and workers
        still reach all nodes."""
        chosen = [set(group) for group in groups]
        named = [i for group in chosen for i in group]
        with self._lock:
            self._check_open()
            for i in named:
                self._member(i)
            if not chosen or not all(chosen) or len(named) != len(set(named)):
                raise InvalidArgument(
                    f"groups are {groups!r}; expected one or more lists of nodes, none empty and each node in one at most"
                )
            rest = set(range(len(self._members))) - set(named)
            self._groups = [*chosen, rest] if rest else chosen
            self._apply_partition()

    def heal(self) -> None:
        """End the partition: all links are back."""
        with self._lock:
            self._check_open()
            self._groups = []
            self._apply_partition()

    def _apply_partition(self) -> None:
        for i, member in enumerate(self._members):
            own = next((group for group in self._groups if i in group), set(range(len(self._members))))
            ids = [m.id for k, m in enumerate(self._members) if k not in own]
            if member.live is not None:
                _fault(member.live, "po_testing_cut", (ctypes.c_uint64 * len(ids))(*ids), len(ids))

    # ---- what is asked for, checked ----

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the cluster is closed")

    def _member(self, i: int) -> _Member:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(self._members):
            raise InvalidArgument(f"there is no node {i!r}; expected 0 to {len(self._members) - 1}")
        return self._members[i]

    def _alive(self, i: int) -> Node:
        self._check_open()
        node = self._member(i).live
        if node is None:
            raise WrongState(f"node {i} is dead; restart it first")
        return node
