"""The processes of a worker, for tasks with execution="process": the worker's side. _child.py is what happens inside of them.

They are spawned, never forked: this process has threads of the library. One is started when a task finds none idle, so
there are never more than process tasks that may run at a time, and it is kept for the next one. The worker's thread that
has taken a task hands it over a socket to a process and waits there: for what the handler tells, its answer, the end of
the process, or being woken because the lease is lost. Then the handler is told, after a grace period gets SIGTERM, which
raises Cancelled in it, and after another one SIGKILL. A process that has ended fails the attempt that it ran, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from multiprocessing import spawn
from multiprocessing.connection import Connection
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from . import _child, _store
from ._child import Address, Order, Setting
from ._handler import Failure
from ._task import TaskFunction, address_of
from .context import Context
from .errors import Cancelled, Error, InvalidArgument

_TOLD = 3.0  # seconds that a handler gets once it is told that its attempt is cancelled
_TERMINATED = 1.0  # and from SIGTERM on, until SIGKILL
_AT_CLOSE = 0.5  # each of both, when the worker ends
_START = 120.0  # for a process to import its functions
_STALL = 10.0  # for a message to pass once it is begun
_LOOK = 0.002  # between two looks whether a process has ended
_PAUSE, _PAUSE_MAX = 0.1, 5.0  # before a process is started after one that could not be; doubled each time


class Processes:
    """All processes of one worker.

    name: the worker's. tasks_max: how many one process runs before another takes its place; 0: any number.
    """

    def __init__(self, name: str, functions: Sequence[TaskFunction[Any]], tasks_max: int) -> None:
        self._name = name
        self._setting, self._addresses = _setting_of(functions)
        self._tasks_max = tasks_max
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._idle: List[_Process] = []  # the last one is used first
        self._all: Set[_Process] = set()
        self._failed_starts = 0
        self._start_after = 0.0
        self.closing = False

    def start(self) -> None:
        """Start the first process, which shows whether the functions can be imported there. Raises InvalidArgument; Cancelled."""
        try:
            self._give_back(self._take())
        except Failure as e:
            raise InvalidArgument(f"worker {self._name}: {e}") from None

    def hurry(self) -> None:
        """Have `start` end at once, by Cancelled. Does not wait, and takes no lock that it might wait for: signal handlers call it."""
        self.closing = True
        for process in list(self._all):
            process.wake()

    def run(self, function: TaskFunction[Any], input: bytes, context: Context) -> bytes:
        """Run a task; its result. Raises Failure, and Cancelled if the worker ends."""
        order = Order(
            self._addresses[function],
            context.id,
            context.token,
            context.attempt,
            context.capability,
            context.deadline,
            context._checkpoint,
            input,
        )
        process = self._take()
        try:
            context.raise_if_cancelled()  # while a process started
            return process.run(order, context)
        finally:
            self._give_back(process)

    def close(self) -> None:
        """End all processes. What they run gets a last short time; its threads see to that, and this waits for them."""
        with self._lock:
            self.closing = True
            self._changed.notify_all()
            idle, self._idle = self._idle, []
            for process in self._all:
                process.wake()
        for process in idle:
            process.say(_child.END)
        until = time.monotonic() + _AT_CLOSE
        for process in idle:
            self._bury(process, until - time.monotonic())
        with self._lock:
            while self._all:
                self._changed.wait()

    def _take(self) -> _Process:
        """An idle process, or a new one."""
        with self._lock:
            while True:
                if self.closing:
                    raise Cancelled("the worker ends")
                while self._idle:
                    process = self._idle.pop()
                    if process.alive():
                        return process
                    self._all.discard(process)
                    process.end(0)
                pause = self._start_after - time.monotonic()
                if pause <= 0:
                    break
                self._changed.wait(pause)
            process = _Process(self, self._setting, self._name)
            self._all.add(process)
        try:
            process.start()
        except BaseException:
            self._bury(process, 0 if self.closing else _AT_CLOSE)
            with self._lock:
                pause = min(_PAUSE * 2**self._failed_starts, _PAUSE_MAX)
                self._failed_starts = min(self._failed_starts + 1, 10)
                self._start_after = time.monotonic() + pause
            raise
        with self._lock:
            self._failed_starts = 0
        return process

    def _give_back(self, process: _Process) -> None:
        with self._lock:
            if process.idle and process.alive() and not self.closing and not 0 < self._tasks_max <= process.ran:
                self._idle.append(process)
                self._changed.notify()
                return
        process.say(_child.END)
        self._bury(process)

    def _bury(self, process: _Process, patience: float = _AT_CLOSE) -> None:
        process.end(patience)
        with self._lock:
            self._all.discard(process)
            self._changed.notify_all()


class _Process:
    """One process. Used by one thread at a time; any may call wake."""

    def __init__(self, pool: Processes, setting: Setting, name: str) -> None:
        self._pool = pool
        self._setting = setting
        self._name = name
        self._popen: Optional[subprocess.Popen[bytes]] = None
        self._connection: Optional[Connection] = None
        self._lifeline = -1
        self._woken = self._waker = -1
        self._lock = threading.Lock()  # wake against end
        self._poll = select.poll()
        self.ran = 0
        self.idle = True
        _processes.add(self)

    # ---- its life ----

    def start(self) -> None:
        """Raises Failure: it could not start or import its functions; Cancelled: the worker ends."""
        try:
            with self._lock:
                self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            connection = self._launch()
        except OSError as e:
            raise Failure(f"no process could be started for it: {e}") from None
        if self._pool.closing:  # nobody could wake it before
            raise Cancelled("the worker ends")
        self._poll.register(connection.fileno(), select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._send(_child.LOAD, self._setting)
        until = time.monotonic() + _START
        while True:
            message = self._receive(until)
            if message is not None:
                break
            if self._pool.closing:
                raise Cancelled("the worker ends")
            if time.monotonic() >= until:
                raise Failure(f"the process that was to run it has not imported the tasks' modules within {_START:g} s")
        if message[1] is not None:
            raise Failure(f"the process that was to run it cannot import the tasks' functions: {message[1]}")

    def _launch(self) -> Connection:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(_STALL), int(_STALL % 1 * 1e6)))  # a timeval
            held, self._lifeline = os.pipe2(os.O_CLOEXEC)
            try:
                self._popen = _spawned(self._name, theirs.fileno(), held)
            finally:
                os.close(held)
            self._connection = Connection(ours.detach())
        return self._connection

    def alive(self) -> bool:
        return self._popen is not None and not self._ended(0)

    def say(self, *message: Any) -> None:
        """Send what a process that has ended, or will be killed, need not hear."""
        if self.alive():
            try:
                self._send(*message)
            except Failure:
                pass

    def wake(self) -> None:
        """Have the thread that waits for the process look what has changed."""
        with self._lock:
            if self._waker >= 0:
                try:
                    os.write(self._waker, b"x")
                except BlockingIOError:  # it will wake as it is
                    pass

    def end(self, patience: float) -> None:
        """Wait so many seconds for its end, kill what is left, and release what it had here."""
        if self._popen is not None:
            self._ended(patience)
            self._kill()
            self._popen.wait()
        self.release()

    def _ended(self, patience: float) -> bool:
        """Whether it ends within so many seconds. It is still to be waited for."""
        assert self._popen is not None
        until = time.monotonic() + patience
        try:
            while self._popen.returncode is None and os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if time.monotonic() >= until:
                    return False
                time.sleep(_LOOK)
        except ChildProcessError:  # somebody else in this process has waited for it
            pass
        return True

    def _kill(self) -> None:
        """It, if it lives, and what it has started and not put into another group. Before it is waited for: until then its number is
        its group's."""
        assert self._popen is not None
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def release(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            for fd in (self._lifeline, self._woken, self._waker):
                if fd >= 0:
                    os.close(fd)
            self._lifeline = self._woken = self._waker = -1

    # ---- what it runs ----

    def run(self, order: Order, context: Context) -> bytes:
        """Raises Failure: the handler's, or the process has ended."""
        self.ran += 1
        self.idle = False
        context._on_lost = self.wake
        self._send(_child.RUN, order)
        stage, since = 0, 0.0  # 1: told; 2: terminated
        while True:
            now, until = time.monotonic(), None
            if stage == 0 and context.cancelled:
                self._send(_child.CANCEL)
                stage, since = 1, now
            if stage:
                until = since + (_AT_CLOSE if self._pool.closing else _TOLD if stage == 1 else _TERMINATED)
                if now >= until:
                    assert self._popen is not None
                    if stage == 2:
                        self._kill()
                        raise self._lost()
                    self._popen.terminate()
                    stage, since = 2, now
                    continue
            message = self._receive(until)
            if message is None:
                continue
            kind, *rest = message
            if kind in (_child.DONE, _child.FAILED):
                self.idle = stage < 2  # after SIGTERM it ends
                if kind == _child.FAILED:
                    raise Failure(*rest)
                return bytes(rest[0])
            self._answer(kind, context, *rest)

    def _answer(self, kind: str, context: Context, number: int, *arguments: Any) -> None:
        failed: Optional[Tuple[int, str]] = None
        try:
            (context._tell if kind == _child.TELL else context._extend)(*arguments)
        except Error as e:
            failed = (e.code, e.message)
        self._send(_child.REPLY, number, failed)

    # ---- messages ----

    def _send(self, *message: Any) -> None:
        assert self._connection is not None
        try:
            self._connection.send(message)
        except OSError:  # it has ended, or does not read
            raise self._lost() from None

    def _receive(self, until: Optional[float]) -> Optional[Tuple[Any, ...]]:
        """What the process says; None: nothing until then (of time.monotonic), or woken."""
        assert self._connection is not None
        ready = dict(self._poll.poll(None if until is None else max(0, (until - time.monotonic()) * 1000 + 1)))
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._connection.fileno() not in ready:
            return None
        try:
            message: Tuple[Any, ...] = self._connection.recv()
            return message
        except (EOFError, OSError):
            raise self._lost() from None

    def _lost(self) -> Failure:
        """The process speaks no more. Why."""
        assert self._popen is not None
        ended = self._ended(_AT_CLOSE)
        self._kill()
        status = self._popen.wait()
        why = _ending(status) if ended else "had closed its connection, or did not answer, and was killed"
        return Failure(f"the process that ran it ({self._popen.pid}) {why}")


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (for lack of memory?)" if status == -signal.SIGKILL else "")


# ---- starting ----


def _spawned(name: str, connection: int, lifeline: int) -> subprocess.Popen[bytes]:
    """A process of the same interpreter, with the same options and search path, that cannot be interrupted before it knows how."""
    executable = os.fsdecode(spawn.get_executable() or "")
    if not executable:
        raise OSError("this interpreter does not know its executable; name it with multiprocessing.set_executable")
    path = [os.path.abspath(p) for p in sys.path if isinstance(p, str)]
    code = f"import sys; sys.path[:] = {ascii(path)}; from pipeorch._child import main; main({connection}, {lifeline})"
    flags: List[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        return subprocess.Popen(
            [executable, *flags, "-c", code, f"pipeorch {name}"],
            stdin=subprocess.DEVNULL,
            pass_fds=(connection, lifeline),
            start_new_session=True,  # so that it can be killed with what it has started
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _setting_of(functions: Sequence[TaskFunction[Any]]) -> Tuple[Setting, Dict[TaskFunction[Any], Address]]:
    """Raises InvalidArgument: another process would not find a function."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    path = getattr(main, "__file__", None)
    addresses: Dict[TaskFunction[Any], Address] = {}
    main_path = None
    for f in functions:
        module, name = address_of(f)
        try:
            same = _child.find(module, name) is f.fn
        except (ImportError, AttributeError):
            same = False
        if not same:
            raise InvalidArgument(f"{f!r} cannot run in another process: {module}.{name} is not that function there")
        if module == "__main__":
            if spec is not None and spec.name != "__main__":  # of python -m; that one is of a folder
                module = spec.name
            elif path is not None and os.path.exists(path):
                main_path = os.path.abspath(path)
            else:
                raise InvalidArgument(
                    f"{f!r} cannot run in another process: it is defined in an interactive session or an archive; put it into a module"
                )
        addresses[f] = (module, name)
    shared = _store.current
    store = None if shared is None else (shared.directory, shared.max_bytes, shared.keep)
    return Setting(list(addresses.values()), main_path, list(sys.argv), os.getcwd(), store), addresses


_processes: "weakref.WeakSet[_Process]" = weakref.WeakSet()


def _after_fork() -> None:
    """A fork of the worker's process must not hold their lifelines."""
    for process in list(_processes):
        process._lock = threading.Lock()
        process.release()
        process._popen = None


os.register_at_fork(after_in_child=_after_fork)
