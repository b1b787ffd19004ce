"""Waiting for outcomes, without a C thread ever running Python.

A call of the library is started with a ticket of a completion queue. Each thread that blocks has a queue of its own and
sleeps in poll() on its descriptor, which a signal interrupts: Ctrl-C works in every blocking call. Each asyncio loop has
one, too, whose descriptor is among those that the loop watches: no thread waits there.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import ctypes
import os
import select
import sys
import threading
import time
import weakref
from typing import Any, Callable, Deque, Dict, Generic, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple, TypeVar

from . import _ffi
from .errors import Closed, Forked, InvalidArgument, error_of

T = TypeVar("T")

ITEMS_AT_ONCE = 256  # taken out of a queue by one call
CALLS_AT_ONCE = 256  # under way, of those that are waited for together
TIMEOUT_MAX = 3600.0  # seconds, of any call
SLICE = 0.5  # seconds of a blocking call at a time, so that closing need not wait longer
TIMED_OUT = -6


class Outcome(NamedTuple):
    """What a ticket brought."""

    what: int
    code: int
    tag: int
    id: int
    log_index: int
    position: int
    lost: int
    data: bytes
    message: str
    name: str


class Op(Generic[T]):
    """A call that is not made yet: a function of the library, its arguments behind the handle, and how to read what comes.

    subject: what it is about, if the message of its failure has to say so.
    """

    __slots__ = ("function", "arguments", "read", "subject")

    def __init__(self, function: Any, arguments: Tuple[Any, ...], read: Callable[[Outcome], T], subject: str = "") -> None:
        self.function = function
        self.arguments = arguments
        self.read = read
        self.subject = subject


def milliseconds(seconds: float, name: str, most: float = TIMEOUT_MAX, least: float = 0.001) -> int:
    """Seconds, as all of this package counts them, as the library's milliseconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not least <= seconds <= most:
        raise InvalidArgument(f"{name} is {seconds!r}; expected {least:g} to {most:g} seconds")
    return max(1, round(seconds * 1000))


def deadline(timeout: float) -> float:
    """When a wait of any length is over, as time.monotonic() tells it."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InvalidArgument(f"timeout is {timeout!r}; expected a number of seconds, 0 or more")
    return time.monotonic() + timeout


class Handle:
    """A pointer of the library's with its life: not used after it was closed, nor in a forked child.

    Calls that the library bounds to microseconds are made under `_lock`; those that block are counted, and closing waits
    for them. The lock is one that its thread may take again: in a signal handler it does.
    """

    _closed_at = 1  # at exit, lower ones first
    _kept = False  # until it is closed, although nobody has a reference any more: C calls into it
    _inner = False  # of another handle, which closes it

    def __init__(self, what: str) -> None:
        self._what = what
        self._pointer: Optional[int] = None
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._users = 0
        self._closing = threading.RLock()

    def _open(self, pointer: Optional[int]) -> None:
        self._pointer = pointer
        with _live_lock:
            _live.add(self)
        if self._kept:
            _kept.add(self)

    def _check_process(self) -> None:
        """Before a lock is touched, which another thread may have held when this process was forked."""
        if self._pid != os.getpid():
            raise Forked(f"{self._what} was opened by process {self._pid}, of which this one is a fork; a forked child opens its own")

    def _get(self) -> int:
        if self._pointer is None:
            raise Closed(f"{self._what} is closed, or was not started")
        return self._pointer

    def _quick(self, function: Any, *arguments: Any) -> int:
        self._check_process()
        with self._lock:
            return int(function(self._get(), *arguments))

    def _blocking(self, function: Callable[..., int], *arguments: Any) -> int:
        """To be called on a thread that may be left behind: see in_thread."""
        self._check_process()
        with self._lock:
            pointer = self._get()
            self._users += 1
        try:
            return int(function(pointer, *arguments))
        finally:
            with self._lock:
                self._users -= 1
                self._idle.notify_all()

    def _sliced(self, function: Callable[..., int], timeout: float, most: float = SLICE) -> int:
        """A blocking call that takes a timeout in ms, in slices, so that closing does not wait for all of it."""
        until = time.monotonic() + timeout
        while True:
            left = min(max(until - time.monotonic(), 0.001), most)
            code = self._blocking(function, milliseconds(left, "timeout"))
            if code != TIMED_OUT or time.monotonic() >= until:
                return code

    def _close(self) -> None:
        """Once nobody uses it any more. Of several threads one closes it, and the others wait for that."""
        if self._pid != os.getpid():
            return
        with self._closing:
            with self._lock:
                pointer, self._pointer = self._pointer, None
                while self._users:
                    self._idle.wait()
            if pointer is not None:
                self._release(pointer)
            with _live_lock:
                _live.discard(self)
            _kept.discard(self)

    def _ask_to_end(self) -> None:
        """Before several are closed: what takes its time begins at once, with all of them."""

    def _release(self, pointer: int) -> None:
        raise NotImplementedError


_live: "weakref.WeakSet[Handle]" = weakref.WeakSet()
_live_lock = threading.RLock()  # a WeakSet that is gone through must not change; again by one thread: in a signal handler
_kept: Set[Handle] = set()


def live_handles() -> List[Handle]:
    """Those that are open, in this process."""
    with _live_lock:
        return list(_live)


def _close_all() -> None:
    """At exit, while threads can still run Python: workers first, then clients, then nodes."""
    handles = sorted(live_handles(), key=lambda h: h._closed_at)
    for handle in handles:
        handle._ask_to_end()
    for handle in handles:
        try:
            handle._close()
        except Exception as e:  # the others have to be closed all the same
            sys.excepthook(type(e), e, e.__traceback__)
    for thread in list(_helpers):
        if thread.is_alive():  # a signal may have come before its start
            thread.join()
    for end in list(at_end):
        end()


at_end: List[Callable[[], None]] = []  # what is left to be done then: no thread of ours may run when the interpreter ends
atexit.register(_close_all)


class Queue:
    """A completion queue of the library's."""

    def __init__(self) -> None:
        pointer = ctypes.c_void_p()
        _ffi.check(_ffi.quick.po_queue_open(ctypes.byref(pointer), None))
        self.pointer = pointer
        self.fd: int = _ffi.quick.po_queue_fd(pointer)
        self._pid = os.getpid()
        self._tag = 0
        self._items = (_ffi.po_queue_item * ITEMS_AT_ONCE)()
        self._items[0].size = ctypes.sizeof(_ffi.po_queue_item)
        self._count = ctypes.c_size_t()

    def __del__(self) -> None:
        if getattr(self, "pointer", None) and self._pid == os.getpid() and _ffi is not None:
            _ffi.quick.po_queue_close(self.pointer)

    def start(self, handle: Handle, op: Op[Any]) -> int:
        """Start a call; its outcome will have the tag that is returned.

        A signal handler may raise at any point in here. From the call on the ticket may be the library's; whoever is in
        doubt leaves it alone: if it was not taken, a few bytes are lost, while dropping one that was would end in its use.
        """
        handle._check_process()
        self._tag += 1
        ticket = ctypes.c_void_p()
        _ffi.check(_ffi.quick.po_queue_ticket(self.pointer, self._tag, ctypes.byref(ticket)))
        called = False
        try:
            with handle._lock:
                pointer = handle._get()
                called = True
                code = op.function(pointer, *op.arguments, _ffi.ON_RESULT, ticket)
        except ctypes.ArgumentError:  # of ctypes: it was not called
            _ffi.quick.po_ticket_drop(ticket)
            raise
        except BaseException:
            if not called:
                _ffi.quick.po_ticket_drop(ticket)
            raise
        if code:
            refused = _ffi.last_error(code)
            _ffi.quick.po_ticket_drop(ticket)
            raise refused
        return self._tag

    def take(self) -> List[Outcome]:
        """What has come; nothing: an empty list."""
        code = _ffi.quick.po_queue_take(self.pointer, self._items, ITEMS_AT_ONCE, 0, ctypes.byref(self._count))
        if code:
            return []
        return [_outcome(self._items[i]) for i in range(self._count.value)]


def _outcome(item: Any) -> Outcome:
    message, name = item.message, item.name
    return Outcome(
        item.what,
        item.code,
        item.tag,
        item.id,
        item.index,
        item.position,
        item.lost,
        ctypes.string_at(item.data, item.len) if item.data else b"",
        message.decode("utf-8", "replace") if message else "",
        name.decode("utf-8", "replace") if name else "",
    )


def value_of(op: Op[T], outcome: Outcome) -> T:
    if outcome.code:
        raise error_of(outcome.code, f"{op.subject}: {outcome.message}" if op.subject else outcome.message)
    return op.read(outcome)


# ---- threads that block ----


class _OfThread(threading.local):
    queue: Optional[Queue] = None


_of_thread = _OfThread()


@contextlib.contextmanager
def _own_queue() -> Iterator[Queue]:
    """This thread's queue, for one wait. A signal handler that calls something meanwhile finds none and gets another: it would take,
    and drop, what is waited for here."""
    queue, _of_thread.queue = _of_thread.queue or Queue(), None
    try:
        yield queue
    finally:
        _of_thread.queue = queue


def _come(queue: Queue) -> List[Outcome]:
    """Sleep until something comes, and take it. It may be nothing."""
    poll = select.poll()
    poll.register(queue.fd, select.POLLIN)
    poll.poll(pause_ms())
    return queue.take()


def run(handle: Handle, op: Op[T]) -> T:
    """Start a call and wait for it; a signal handler that raises ends the wait, not the call."""
    with _own_queue() as queue:
        tag = queue.start(handle, op)
        while True:
            for outcome in _come(queue):
                if outcome.tag == tag:  # others are those of calls that a signal ended
                    return value_of(op, outcome)


def run_many(handle: Handle, ops: Iterable[Op[T]]) -> List[T]:
    """As run, for many calls: CALLS_AT_ONCE of them are under way. Their values in order; the first failure ends the wait."""
    values: List[Any] = []
    waiting: Dict[int, Tuple[int, Op[T]]] = {}  # by tag
    with _own_queue() as queue:

        def wait_below(most: int) -> None:
            while len(waiting) >= most:
                for outcome in _come(queue):
                    place, op = waiting.pop(outcome.tag, (0, None))
                    if op is not None:
                        values[place] = value_of(op, outcome)

        for op in ops:
            wait_below(CALLS_AT_ONCE)
            values.append(None)
            waiting[queue.start(handle, op)] = (len(values) - 1, op)
        wait_below(1)
    return values


def pause_ms() -> Optional[int]:
    """How long to sleep at most. A signal that comes between Python's last look for signals and the system call is noticed when
    that returns, so the thread that handles signals does not sleep for ever; others may."""
    return 500 if threading.current_thread() is threading.main_thread() else None


_helpers: Set[threading.Thread] = set()  # of in_thread: joined when they are waited for, or at exit


def in_thread(function: Callable[[], T], undo: Optional[Callable[[T], None]] = None) -> T:
    """Run something that blocks in C, where no signal reaches it, on a thread of its own, and wait interruptibly.

    undo: what to do with the result if a signal ended the wait.
    """
    lock = threading.Lock()
    results: List[Tuple[Any, Optional[BaseException]]] = []
    abandoned: List[bool] = []

    over = threading.Lock()  # until the results are there; a signal within Thread.join() has Python take the thread for one that has ended
    over.acquire()

    def body() -> None:
        result: Any = None
        failed: Optional[BaseException] = None
        try:
            result = function()
        except BaseException as e:
            failed = e
        with lock:
            results.append((result, failed))
            over.release()
            if not abandoned:
                return
        if failed is None and undo is not None:
            undo(result)

    thread = threading.Thread(target=body, name="pipeorch-call", daemon=True)
    _helpers.difference_update([t for t in list(_helpers) if not t.is_alive() and t.ident is not None])  # others add to it meanwhile
    _helpers.add(thread)
    try:
        thread.start()
        while not over.acquire(timeout=(pause_ms() or 3600000) / 1000):
            pass
        thread.join()
    except BaseException:
        with lock:
            abandoned.append(True)
            ended = list(results)
        if ended and ended[0][1] is None and undo is not None:
            undo(ended[0][0])
        raise
    _helpers.discard(thread)
    value, error = results[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


# ---- asyncio ----


class _OfLoop(Queue):
    def __init__(self) -> None:
        super().__init__()
        self._waiting: Dict[int, Tuple[Any, Op[Any]]] = {}

    def ready(self) -> None:
        for outcome in self.take():
            future, op = self._waiting.pop(outcome.tag, (None, None))
            if future is None or op is None or future.done():
                continue  # cancelled: nobody waits any more
            try:
                future.set_result(value_of(op, outcome))
            except Exception as e:
                future.set_exception(e)

    def call(self, loop: Any, handle: Handle, op: Op[Any]) -> Any:
        future = loop.create_future()
        tag = self._tag + 1
        self._waiting[tag] = (future, op)
        try:
            self.start(handle, op)
        except BaseException:
            del self._waiting[tag]
            raise
        return future


_of_loops: "weakref.WeakKeyDictionary[Any, _OfLoop]" = weakref.WeakKeyDictionary()


def _queue_of(loop: Any) -> _OfLoop:
    queue = _of_loops.get(loop)
    if queue is None:
        queue = _of_loops[loop] = _OfLoop()
        loop.add_reader(queue.fd, queue.ready)
    return queue


async def run_async(handle: Handle, op: Op[T]) -> T:
    """Start a call and await its outcome. Cancelling ends the wait, not the call."""
    import asyncio

    loop = asyncio.get_running_loop()
    result: T = await _queue_of(loop).call(loop, handle, op)
    return result


async def run_many_async(handle: Handle, ops: Iterable[Op[T]]) -> List[T]:
    """As run_many, awaited."""
    import asyncio

    loop = asyncio.get_running_loop()
    queue = _queue_of(loop)
    values: List[T] = []
    waiting: Deque[Any] = collections.deque()
    try:
        for op in ops:
            if len(waiting) == CALLS_AT_ONCE:
                values.append(await waiting.popleft())
            waiting.append(queue.call(loop, handle, op))
        while waiting:
            values.append(await waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()
    return values


async def in_thread_async(function: Callable[[], T], undo: Optional[Callable[[T], None]] = None) -> T:
    """As in_thread, awaited; undo: what to do with the result if the wait was cancelled."""
    import asyncio

    def over(done: "asyncio.Future[T]") -> None:
        if undo is not None and not done.cancelled() and done.exception() is None:
            undo(done.result())

    future = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(over)
        raise


def _after_fork() -> None:
    """A child has none of the library's threads: what it inherits is left alone, and is refused if used."""
    global _of_thread, _of_loops, _live, _live_lock, _kept, _helpers
    _of_thread = _OfThread()
    _of_loops = weakref.WeakKeyDictionary()
    _live = weakref.WeakSet()
    _live_lock = threading.RLock()
    _kept = set()
    _helpers = set()


os.register_at_fork(after_in_child=_after_fork)
