"""Watching a cluster: ordered events, without gaps.

Events come through a completion queue of the watch's own. While nobody takes them, at most 1024 wait, and the watch stands
still: a slow reader loses nothing. A failover is waited out; what cannot be is raised, and another watch goes on behind the
last event.
"""

from __future__ import annotations

import collections
import ctypes
import json
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Deque, Dict, Iterable, Optional, Tuple, Union

from . import _ffi
from ._wait import Queue, pause_ms
from .errors import Closed, Error, InvalidArgument, TimedOut, error_of

if TYPE_CHECKING:
    import asyncio

    from .aclient import AsyncClient
    from .client import Client

Event = Dict[str, Any]
Position = Tuple[int, int]

# Sets of kinds (PO_WATCH_* of watch.h), each with one bit per kind.
KINDS: Dict[str, int] = {
    "tasks": sum(1 << kind for kind in range(2, 8)),
    "workers": sum(1 << kind for kind in range(8, 11)),
    "runs": sum(1 << kind for kind in range(11, 16)),
    "members": sum(1 << kind for kind in range(16, 19)),
}
_OLDEST = (1 << 64) - 1
_OPEN_SLICE = 5.0  # seconds


def options(
    kinds: Union[str, Iterable[str]],
    after: Union[Position, str, None],
    task_id: int,
    run_id: int,
    worker_id: Optional[str],
    pipeline: Optional[str],
) -> Any:
    bits = 0
    for name in [kinds] if isinstance(kinds, str) else kinds:
        if name not in KINDS:
            raise InvalidArgument(f"kinds has {name!r}; expected some of {', '.join(KINDS)}")
        bits |= KINDS[name]
    if isinstance(after, str):
        if after != "oldest":
            raise InvalidArgument(f'after is {after!r}; expected "oldest", the position of an event, or None for what happens from now on')
        index, position = _OLDEST, 0
    else:
        index, position = after or (0, 0)
    return _ffi.sized(
        _ffi.po_watch_opts,
        after_index=index,
        after_position=position,
        kinds=bits,
        task_id=task_id,
        run_id=run_id,
        worker_id=_ffi.text(worker_id),
        pipeline=_ffi.text(pipeline),
    )


class Watch:
    """Events of a cluster, one after the other: iterate over it, with `for` or with `async for`.

    An event is a mapping: "event" (its kind, "task_granted"), "index" and "position" (where it happened: together they are
    the `after` of a watch that goes on behind it), "time_ms", and what it is about ("task_id", "run_id", "worker_id", "state",
    "error" and others). The event "gone" says that what came before is not kept any more.

    Made by `Client.watch`. Ends when it is closed, or with its client. One reader at a time.
    """

    def __init__(self, client: Union[Client, AsyncClient], opts: Any, timeout: float) -> None:
        """Blocks, without heed of signals, until the position is settled with the leader."""
        self._client = client  # lives as long as its watch
        self._queue = Queue()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._events: Deque[Event] = collections.deque()
        self._error: Optional[Error] = None
        self._closed = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._ticket = ctypes.c_void_p()
        self.position: Position = (0, 0)
        try:
            _ffi.check(client._sliced(lambda pointer, ms: self._open(pointer, opts, ms), timeout, _OPEN_SLICE))
        except BaseException:
            os.close(self._wake_write)
            self._closed = True
            raise

    def _open(self, client: int, opts: Any, timeout_ms: int) -> int:
        """As one use of the client: when it closes, the watch is not there yet, or among those that it closes before."""
        watch = ctypes.c_void_p()
        call = _ffi.sized(_ffi.po_call_opts, timeout_ms=timeout_ms)
        code: int = _ffi.lib.po_watch_open(ctypes.byref(watch), client, opts, call)
        if code == 0:
            code = _ffi.quick.po_queue_watch(self._queue.pointer, 1, watch, ctypes.byref(self._ticket))
            if code:
                _ffi.quick.po_watch_close(watch)
            else:
                self._client._watches.add(self)
        return code

    def close(self) -> None:
        """End it; whoever iterates comes to the end. May be called again, from any thread."""
        if self._pid != os.getpid():  # a fork's is its parent's
            return
        with self._lock:
            ticket, self._ticket = self._ticket, ctypes.c_void_p()
            first, self._closed = not self._closed, True
        if first:
            _ffi.lib.po_ticket_drop(ticket)
            os.close(self._wake_write)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "position"):  # else it has no descriptors yet
            self.close()
            os.close(self._wake_read)

    def _take(self) -> Optional[Event]:
        """The next event that has come; None: there is none yet."""
        if not self._events:
            with self._lock:
                outcomes = [] if self._closed or self._error else self._queue.take()
            for outcome in outcomes:
                if outcome.code:
                    self._error = error_of(outcome.code, outcome.message)
                else:
                    self._events.append(json.loads(outcome.data))
        if self._events:
            event = self._events.popleft()
            self.position = (event["index"], event["position"])
            return event
        if self._error and not isinstance(self._error, Closed):
            raise self._error
        return None

    @property
    def _over(self) -> bool:
        return self._closed or self._error is not None

    def next(self, timeout: Optional[float] = None) -> Optional[Event]:
        """Wait for the next event, at most `timeout` seconds (None: for ever); None: the watch is closed. Raises TimedOut, and what
        the watch cannot wait out, after which another one goes on at `position`."""
        until = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._queue.fd, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            event = self._take()
            if event is not None or self._over:
                return event
            pause, left = pause_ms(), None if until is None else max(0.0, until - time.monotonic()) * 1000
            sleeps = [ms for ms in (pause, left) if ms is not None]
            if not poll.poll(min(sleeps) if sleeps else None) and left == 0:
                raise TimedOut(f"nothing happened within {timeout:g} s")

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        import asyncio

        loop = asyncio.get_running_loop()
        while True:
            event = self._take()
            if event is not None:
                return event
            if self._over:
                raise StopAsyncIteration
            woken: asyncio.Future[None] = loop.create_future()
            for fd in (self._queue.fd, self._wake_read):
                loop.add_reader(fd, _wake, woken)
            try:
                await woken
            finally:
                for fd in (self._queue.fd, self._wake_read):
                    loop.remove_reader(fd)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
