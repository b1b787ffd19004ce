"""A control node in this process: a member of a Raft-replicated control plane."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Callable, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from . import _ffi
from ._log import LogStream
from ._ops import call_opts, nothing
from ._wait import Handle, Op, in_thread, in_thread_async, milliseconds, run, run_async
from .client import Client, InProcessClient
from .errors import Error, error_of
from .statemachine import StateMachine, bound

if TYPE_CHECKING:
    from .aclient import AsyncClient

_ERROR_BYTES = 4096
_ROLES = {1: "follower", 2: "candidate", 3: "leader", 4: "stopped"}


class NodeStatus(NamedTuple):
    """What a node knows of itself."""

    id: int
    role: str  # "leader", "follower", "candidate" or "stopped" (by a fault: see message)
    leader_id: int  # 0: none is known
    term: int
    commit_index: int
    applied_index: int
    last_index: int
    snapshot_index: int
    log_bytes: int
    message: str

    def _repr_html_(self) -> str:
        from ._html import fields

        return fields(f"node {self.id}: {self.role}", self._asdict())


class Node(Handle):
    """A control node in this process. Alone it is a cluster of one, without a network.

    data_dir: its directory, made if missing; one process at a time. name: unique in the cluster. bootstrap: an empty
    directory becomes a founding member's; False: it is refused. members: founding members, {name: "host:port"} with
    this node among them; None: this node alone. listen: peer address to bind; advertise: the one that others use.
    worker_listen, worker_advertise: likewise for workers and clients; port 0 picks one. join: worker addresses of a
    running cluster that an empty directory joins. insecure: allow addresses that are not loopback, without TLS.
    election, heartbeat: seconds. state_machine: the application's
    own replicated state. zone, cluster, prefer_zone, join_standby: as po_node_opts in node.h says.

    Opening blocks while the log is recovered. Raises InvalidArgument, InputOutputError, Corrupt, Locked, WrongIdentity,
    NotBootstrapped, BadAddress, Refused, VersionMismatch.
    """

    _closed_at = 2
    _kept = True

    def __init__(
        self,
        data_dir: Union[str, "os.PathLike[str]"],
        *,
        name: str = "node",
        bootstrap: bool = True,
        members: Optional[Mapping[str, str]] = None,
        zone: Optional[str] = None,
        cluster: Optional[str] = None,
        listen: Optional[str] = None,
        advertise: Optional[str] = None,
        worker_listen: Optional[str] = None,
        worker_advertise: Optional[str] = None,
        join: Union[str, Sequence[str], None] = None,
        join_standby: bool = False,
        prefer_zone: Optional[str] = None,
        insecure: bool = False,
        election: float = 1.0,
        heartbeat: float = 0.1,
        snapshot_bytes: int = 0,
        time_zone_dir: Union[str, "os.PathLike[str]", None] = None,
        state_machine: Optional[StateMachine] = None,
    ) -> None:
        super().__init__(f"node {name}")
        self.name = name
        founders = _ffi.array(_ffi.po_member, ((k.encode(), v.encode()) for k, v in (members or {}).items()))
        self._machine = bound(state_machine) if state_machine is not None else None
        opts = _ffi.sized(
            _ffi.po_node_opts,
            name=_ffi.text(name),
            data_dir=os.fsencode(data_dir),
            zone=_ffi.text(zone),
            cluster=_ffi.text(cluster),
            listen=_ffi.text(listen),
            advertise=_ffi.text(advertise),
            worker_listen=_ffi.text(worker_listen),
            worker_advertise=_ffi.text(worker_advertise),
            bootstrap=bootstrap and join is None,
            members=founders if members else None,
            members_count=len(founders),
            insecure=insecure,
            election_ms=milliseconds(election, "election", 60.0, 0.05),
            heartbeat_ms=milliseconds(heartbeat, "heartbeat", 20.0, 0.005),
            snapshot_bytes=snapshot_bytes,
            join=_ffi.text(join if isinstance(join, str) or join is None else ",".join(join)),
            join_standby=join_standby,
            prefer_zone=_ffi.text(prefer_zone),
            time_zone_dir=os.fsencode(time_zone_dir) if time_zone_dir is not None else None,
        )
        if self._machine is not None:
            opts.state_machine = ctypes.pointer(self._machine)
        self._log = LogStream()
        opts.log = self._log.options()
        pointer = ctypes.c_void_p()
        error = ctypes.create_string_buffer(_ERROR_BYTES)

        def start() -> int:
            code: int = _ffi.lib.po_node_start(ctypes.byref(pointer), opts, error, len(error))
            return code

        def undo(code: int) -> None:
            if code == 0:
                _ffi.lib.po_node_stop(pointer)
            self._log.close()

        code = in_thread(start, undo)
        if code:
            self._log.close()
            raise error_of(code, error.value.decode("utf-8", "replace"))
        self._open(pointer.value)
        self._client = InProcessClient(*self._client_of())
        self._async_client: Optional[AsyncClient] = None

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await in_thread_async(self._close)

    def close(self) -> None:
        """Stop the node; its data stays. Calls under way end with Closed or OutcomeUnknown, but for hand_over and those of its
        client that Client.close names: they are waited for. May be called again."""
        in_thread(self._close)

    def _release(self, pointer: int) -> None:
        self._client._close()
        if self._async_client is not None:
            self._async_client._close()
        _ffi.lib.po_node_stop(pointer)
        self._log.close()

    def apply(self, command: bytes, *, key: Union[str, bytes, None] = None, timeout: float = 10.0) -> bytes:
        """Replicate a command of the application's state machine and return its result: on any node, durable when it returns.

        command: 1 byte to 1 MiB. key: idempotency key; with the same key it is applied once. Raises Refused (there is no state
        machine), OutcomeUnknown (it may or may not have been applied: repeat it with the same key), TimedOut, NoLeader,
        TooBig, NodeFault."""
        return run(self, self._command(command, key, timeout))

    async def apply_async(self, command: bytes, *, key: Union[str, bytes, None] = None, timeout: float = 10.0) -> bytes:
        """As `apply`, awaited."""
        return await run_async(self, self._command(command, key, timeout))

    def _command(self, command: bytes, key: Union[str, bytes, None], timeout: float) -> Op[bytes]:
        raw = bytes(command)
        return Op(_ffi.quick.po_apply_async, (raw, len(raw), call_opts(timeout, key)), lambda outcome: outcome.data)

    def read_barrier(self, timeout: float = 10.0) -> None:
        """Wait until everything committed before is applied on this node: reads of the state machine are linearizable then."""
        run(self, Op(_ffi.quick.po_read_barrier_async, (call_opts(timeout, None),), nothing))

    async def read_barrier_async(self, timeout: float = 10.0) -> None:
        """As `read_barrier`, awaited."""
        await run_async(self, Op(_ffi.quick.po_read_barrier_async, (call_opts(timeout, None),), nothing))

    @property
    def client(self) -> Client:
        """Calls made with it go to this node in-process, and from there to the leader. Closed with the node."""
        return self._client

    @property
    def async_client(self) -> AsyncClient:
        """As `client`, for asyncio."""
        from .aclient import AsyncInProcessClient

        with self._lock:
            if self._async_client is None:
                self._async_client = AsyncInProcessClient(*self._client_of())
            return self._async_client

    def _client_of(self) -> Tuple[int, str, Callable[[], Optional[str]]]:
        """What a client in this process is made of."""
        with self._lock:
            pointer: int = _ffi.quick.po_node_client(self._get())
        return pointer, f"the client of node {self.name}", self._leader

    def _leader(self) -> Optional[str]:
        try:
            leader = self.status.leader_id
        except Error:
            return None
        return f"node {leader}" if leader else None

    @property
    def status(self) -> NodeStatus:
        """What the node knows of itself, now; no other is asked."""
        s = _ffi.sized(_ffi.po_node_status)
        _ffi.check(self._quick(_ffi.quick.po_node_status, s))
        return NodeStatus(
            s.id,
            _ROLES.get(s.role, str(s.role)),
            s.leader_id,
            s.term,
            s.commit_index,
            s.applied_index,
            s.last_index,
            s.snapshot_index,
            s.log_bytes,
            s.message.decode("utf-8", "replace"),
        )

    @property
    def worker_address(self) -> Optional[str]:
        """Where workers and clients connect, with the port that was picked; None: nowhere."""
        buffer = ctypes.create_string_buffer(257)
        if self._quick(_ffi.quick.po_node_worker_address, buffer, len(buffer)):
            return None
        return buffer.value.decode()

    def wait_leader(self, timeout: float = 10.0) -> None:
        """Wait until a leader is known. Raises TimedOut, NodeFault."""
        milliseconds(timeout, "timeout")
        code = in_thread(lambda: self._sliced(_ffi.lib.po_node_wait_leader, timeout))
        if code:
            raise error_of(code, f"node {self.name} knows of no leader after {timeout:g} s")

    def hand_over(self, timeout: float = 10.0) -> None:
        """Before a stop: if this node leads and another voter could, let that one lead. Raises Refused (no other voter is
        connected), Unreachable, TimedOut."""
        ms = milliseconds(timeout, "timeout")
        code = in_thread(lambda: self._blocking(_ffi.lib.po_node_hand_over, ms))
        if code:
            raise error_of(code, f"node {self.name} could not hand over within {timeout:g} s")
