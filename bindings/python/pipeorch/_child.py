"""A process that runs tasks with execution="process": what happens inside of it. _processes.py has the worker's side.

It gets its orders from the worker over a socket, one task at a time. The main thread runs the handler, as some libraries
and all signal handlers want it; another one reads what the worker says meanwhile.

Its life is the worker's. It has a session of its own, which a terminal's Ctrl-C does not reach; a service manager's
SIGTERM may, and does not end what runs: the worker decides. After the worker has told that an attempt is cancelled its
SIGTERM raises Cancelled in the handler, which may clean up; then the process ends. When the worker vanishes, the kernel
kills this process at once, whatever it does, and what it has started: it has the reading end of a pipe, the lifeline, whose
writing end only the worker has.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import _handler, _task
from ._task import TaskFunction
from .context import Context, current_context
from .errors import Cancelled, Forked, error_of

# What is said: tuples that begin with one of these.
LOAD, RUN, CANCEL, REPLY, END = "load", "run", "cancel", "reply", "end"  # by the worker
LOADED, TELL, EXTEND, DONE, FAILED = "loaded", "tell", "extend", "done", "failed"  # by the child

_SAME = 1.0  # seconds from a SIGTERM until the message that was sent before it is read

Address = Tuple[str, str]  # of a function: its module and its name there


class Setting(NamedTuple):
    """Where the functions are, and what the child takes over from the worker's process."""

    functions: List[Address]
    main_path: Optional[str]  # of the script, if a function is from there
    argv: Any
    directory: str
    store: Optional[Tuple[str, int, float]]  # what `share` was given


class Order(NamedTuple):
    """An attempt to run."""

    function: Address
    id: int
    token: int
    attempt: int
    capability: str
    deadline: float
    checkpoint: Optional[bytes]
    input: bytes


def main(socket: int, lifeline: int) -> None:
    child = _Child(Connection(socket), lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, child.terminated)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # blocked until here, by the worker
    for fd in (socket, lifeline):
        os.set_inheritable(fd, False)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())  # the whole group
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    os.register_at_fork(before=child.fork_begins, after_in_parent=child.fork_ended, after_in_child=child.forked)
    threading.Thread(target=child.read, name="pipeorch-child", daemon=True).start()
    child.serve()


class _Child:
    def __init__(self, connection: Connection, lifeline: int) -> None:
        self._connection = connection
        self._lifeline: Optional[int] = lifeline
        self._pid = os.getpid()
        self._forking = threading.local()
        self._send_lock = threading.Lock()
        self._orders: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
        self._replies: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
        self._ask_lock = threading.Lock()
        self._asked = 0
        self._context: Optional[_Context] = None  # of the newest order
        self._in_handler = False
        self._ending = False
        self._sigterm_at = -_SAME  # when one came of which it was not known that the worker had sent it

    # ---- the thread that reads ----

    def read(self) -> None:
        try:
            while True:
                kind, *rest = self._connection.recv()
                if kind == CANCEL:
                    if self._context is not None:
                        self._context.lost = True
                        if time.monotonic() - self._sigterm_at < _SAME:  # the worker's; somebody held the GIL until it came
                            os.kill(self._pid, signal.SIGTERM)
                elif kind == REPLY:
                    self._replies.put(rest)
                elif kind == RUN:
                    self._context = _Context(self, rest[0])
                    self._orders.put((rest[0], self._context))
                else:
                    self._orders.put(rest[0] if rest else None)
        except (EOFError, OSError):  # the worker is gone
            os._exit(1)

    # ---- the main thread ----

    def serve(self) -> None:
        try:
            functions = _load(self._orders.get())
        except BaseException as e:
            self.send(LOADED, _handler.described(e))
            return
        self.send(LOADED, None)
        while not self._ending:
            given = self._orders.get()
            if given is None:
                return
            order, context = given
            current_context.set(context)
            answer = self._answer_to(functions[order.function], order, context)
            _flush()
            self.send(*answer)

    def _answer_to(self, function: TaskFunction[Any], order: Order, context: _Context) -> Tuple[Any, ...]:
        try:
            self._in_handler = True
            try:
                return DONE, _handler.call(function, order.input, context)
            finally:
                self._in_handler = False
                context._give_up()
        except BaseException as e:
            return (FAILED, *_handler.failure_of(e))

    def terminated(self, *_: object) -> None:
        """The handler of SIGTERM. No lock may be taken here: this thread may have it."""
        context = self._context
        if self._in_handler and not self._ending and context is not None and context.lost:
            self._ending = True
            raise Cancelled(f"the lease of task {context.id}, attempt {context.attempt}, is lost")
        self._sigterm_at = time.monotonic()

    # ---- around a fork of this process, as of multiprocessing ----

    def fork_begins(self) -> None:
        self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))  # what the fork gets must not reach `terminated`

    def fork_ended(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._forking.mask)

    def forked(self) -> None:
        """In the fork: it must not keep what only this process may have, and SIGTERM ends it. Its own forks come here, too, and may have
        other files under these numbers."""
        lifeline, self._lifeline = self._lifeline, None
        with contextlib.suppress(OSError):  # the handler has closed what it does not know
            self._connection.close()
        with contextlib.suppress(OSError):
            if lifeline is not None:
                os.close(lifeline)
        if signal.getsignal(signal.SIGTERM) == self.terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.fork_ended()

    # ---- both, and those of the handler ----

    def _refuse_fork(self) -> None:
        """Before a lock is touched, which another thread may have held when this process was forked."""
        if self._pid != os.getpid():
            raise Forked(f"the task is that of process {self._pid}, of which this one is a fork; only that one may speak to the worker")

    def send(self, *message: Any) -> None:
        self._refuse_fork()
        with self._send_lock:
            self._connection.send(message)

    def ask(self, kind: str, *arguments: Any) -> None:
        """Say something that the worker answers. Raises the Error that its library returned; Forked."""
        self._refuse_fork()
        with self._ask_lock:
            self._asked += 1
            self.send(kind, self._asked, *arguments)
            while True:
                number, failed = self._replies.get()
                if number == self._asked:  # an earlier one is that of a call which SIGTERM ended
                    break
        if failed is not None:
            raise error_of(*failed)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):  # there is none, it is closed, nobody reads it: that is no task's failure
            pass


class _Context(Context):
    """What a handler in this process gets."""

    def __init__(self, child: _Child, order: Order) -> None:
        super().__init__(0, order.id, order.token, order.attempt, order.capability, 0, order.checkpoint)
        self.deadline = order.deadline
        self.lost = False
        self._child = child
        self._told = 0

    @property
    def cancelled(self) -> bool:
        return self.lost or self._pointer is None

    def _tell(self, progress: int, data: Optional[bytes]) -> None:
        if self._pointer is None or data is None and progress == self._told:
            return
        self._child.ask(TELL, progress, data)
        self._told = progress

    def _extend(self, ms: int) -> None:
        if self._pointer is not None:
            self._child.ask(EXTEND, ms)


# ---- finding the functions ----


def _load(setting: Setting) -> Dict[Address, TaskFunction[Any]]:
    sys.argv[:] = setting.argv
    os.chdir(setting.directory)
    if setting.store is not None:
        from ._store import share

        share(*setting.store)
    _task.loading = True
    try:
        if setting.main_path is not None:
            from multiprocessing import spawn

            spawn.prepare({"init_main_from_path": setting.main_path})  # as __mp_main__, which __main__ is another name of then
        functions = {address: TaskFunction(find(*address), ":".join(address)) for address in setting.functions}
        for function in functions.values():
            function.signature
        return functions
    finally:
        _task.loading = False


def find(module: str, name: str) -> Any:
    """The function at an address; where a task has its name, the task's function."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found.fn if isinstance(found, TaskFunction) else found
