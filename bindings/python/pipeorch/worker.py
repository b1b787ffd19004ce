"""A worker: this process executes tasks.

Tasks are pulled out of the library in batches, by one of the worker's threads at a time: it puts what came into a deque
and goes to work itself, while the next one takes its place or helps to empty the deque. So a batch of short tasks runs
on one thread without a switch, and a long one never holds up those behind it. An answer crosses by itself, with the GIL
held: that is two microseconds, and no answer waits for another task. Coroutines run on an event loop: the one that
entered `async with`, or one on a thread of the worker's own.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import functools
import json
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, TypeVar, Union

from . import _ffi, _handler, _ops, _task
from ._log import LogStream, logger
from ._task import TaskFunction, Traits
from ._task import task as make_task
from ._wait import Handle, in_thread, in_thread_async, milliseconds
from .client import Client, InProcessClient
from .context import Context, current_context
from .errors import Cancelled, Closed, Error, InvalidArgument, TimedOut, error_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._processes import Processes
    from .aclient import AsyncClient

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", "Client", "AsyncClient")

_AT_ONCE = 64  # tasks taken by one call
_THREADS_MAX = 64  # unless the worker says otherwise
_WAIT_MS = 3600000
_LEFT_TO_ITSELF = 0.5  # seconds that threads and coroutines get to end once nobody waits for their results
_CLOSED = -5
_TIMED_OUT = -6
_LOST = 2
_STANDALONE = {"auto": 0, "never": 1, "always": 2}


class _Grant(NamedTuple):
    function: int
    pointer: int
    id: int
    token: int
    attempt: int
    timeout_ms: int
    input: bytes
    checkpoint: Optional[bytes]


class Worker(Handle):
    """Executes tasks, in this process.

    controllers: control nodes' worker addresses, as of Client; None: those of the environment; without any, the worker is
    standalone: it carries a control node of its own, and `worker.client` submits to it. With controllers that cannot be
    reached at the start it can be standalone meanwhile: see `standalone`, "auto" (if standalone_dir or standalone_listen
    is given), "never", "always".

    id: unique in the cluster; None: made of the host's name and the process's number. zone: where it lives. address: where it
    can be reached, for information. labels, resources: what tasks may ask for, {"disk": "ssd"}, {"memory_bytes": 1 << 34}.
    slots: tasks at a time over all capabilities, at most 65536; 0: only their own limits count. threads: that run plain
    functions, at most 1024; 0: as many as may run at a time, at most 64. heartbeat: seconds, 0.1 to 60. drain: seconds that
    running tasks get to finish when the worker stops. ready_timeout: seconds that a `with` block waits for the registration
    before it begins; when they are over it begins all the same, and the worker goes on trying; 0: it begins at once.
    standalone_dir: keeps the standalone queue; None: nothing is durable. standalone_listen: "host:port" for clients of other
    processes. insecure: allow one that is not loopback, without TLS. tasks_per_process: how many a process runs, of tasks with
    execution="process", before another takes its place, which gives back the memory that it has gathered; 0: any number.

    Use it in a `with` block, in an `async with` block, or call `run()`. Attributes: id; controllers; error, why it ended if
    nobody asked it to: see `run`; None: it has not.
    """

    _closed_at = 0

    def __init__(
        self,
        id: Optional[str] = None,
        controllers: Union[str, Sequence[str], None] = None,
        *,
        zone: Optional[str] = None,
        address: Optional[str] = None,
        labels: Mapping[str, str] = {},
        resources: Mapping[str, int] = {},
        slots: int = 0,
        threads: int = 0,
        heartbeat: float = 5.0,
        drain: float = 8.0,
        ready_timeout: float = 10.0,
        standalone: str = "auto",
        standalone_dir: Union[str, "os.PathLike[str]", None] = None,
        standalone_listen: Optional[str] = None,
        insecure: bool = False,
        tasks_per_process: int = 0,
    ) -> None:
        super().__init__("the worker")
        self.id = id if id is not None else f"{socket.gethostname()}-{os.getpid()}"
        self.controllers = _ops.addresses_of(controllers)
        self._options: Dict[str, Any] = dict(
            zone=_ffi.text(zone),
            address=_ffi.text(address),
            slots=_count(slots, "slots", 65536),
            heartbeat_ms=milliseconds(heartbeat, "heartbeat", 60.0, 0.1),
            drain_ms=milliseconds(drain, "drain"),
            standalone=_ops.choice(standalone, _STANDALONE, "standalone"),
            standalone_dir=_ffi.text(os.fspath(standalone_dir) if standalone_dir is not None else None),
            standalone_listen=_ffi.text(standalone_listen),
            insecure=insecure,
        )
        self._labels = dict(labels)
        self._resources = {name: _count(amount, f"resource {name!r}", 1 << 62) for name, amount in resources.items()}
        milliseconds(ready_timeout, "ready_timeout", least=0.0)
        self._ready_timeout = ready_timeout
        self._threads_wanted = _count(threads, "threads", 1024)
        self._functions: List[TaskFunction[Any]] = []
        self._ready: Deque[_Grant] = collections.deque()
        self._poll_lock = threading.Lock()
        self._slots = threading.Semaphore(0)  # of those threads that may execute
        self._contexts: Dict[int, Context] = {}  # of the tasks in hand
        self._contexts_lock = threading.Lock()
        self._gone = False  # nothing is executed or answered any more; under _contexts_lock
        self._stop_wanted = False
        self._threads: List[threading.Thread] = []
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._loop_thread: Optional[threading.Thread] = None
        self._ended = threading.Event()
        self.error: Optional[Error] = None  # why it ended, if nobody asked it to
        self._started = False
        self._runner: Optional[threading.Thread] = None
        self._client: Optional[Client] = None
        self._async_client: Optional[AsyncClient] = None
        self._client_lock = threading.Lock()
        self._log: Optional[LogStream] = None
        self._tasks_per_process = _count(tasks_per_process, "tasks_per_process", 1 << 62)
        self._processes: Optional[Processes] = None  # if there are tasks that want them

    # ---- what it offers ----

    def task(self, capability: str, **traits: Unpack[Traits]) -> Callable[[F], TaskFunction[F]]:
        """Decorate a function to be served by this worker: see `pipeorch.task` for the parameters.

        Plain and generator functions run on threads, or in other processes; coroutine functions and asynchronous
        generators on an event loop. What a generator yields is its progress, 0 to 1, or a Progress; what it returns is the
        result. A parameter annotated Context, or called ctx, gets the Context.
        """
        decorate = make_task(capability, **traits)

        def add(fn: F) -> TaskFunction[F]:
            return self.add(decorate(fn))

        return add

    def add(self, function: TaskFunction[F]) -> TaskFunction[F]:
        """Serve a function made by `pipeorch.task`. Before the worker starts."""
        if not isinstance(function, TaskFunction):
            raise InvalidArgument(f"{function!r} is no task; expected a function decorated with pipeorch.task")
        if self._started:
            raise InvalidArgument(f"worker {self.id} runs already; add {function!r} before")
        function.signature  # what is wrong with it is told here
        self._functions.append(function)
        return function

    @property
    def tasks(self) -> List[TaskFunction[Any]]:
        """The functions that it serves."""
        return list(self._functions)

    # ---- life ----

    def _open_handle(self) -> None:
        if not self._functions:
            raise InvalidArgument(f"worker {self.id} has no task; decorate a function with @worker.task(\"verb:name\") first")
        log = self._log = LogStream()
        labels = _ffi.array(_ffi.po_label, ((_ffi.text(k), _ffi.text(v)) for k, v in self._labels.items()))
        resources = _ffi.array(_ffi.po_resource, ((_ffi.text(k), v) for k, v in self._resources.items()))
        opts = _ffi.sized(
            _ffi.po_worker_opts,
            id=_ffi.text(self.id),
            addresses=_ffi.text(self.controllers),
            labels=labels,
            labels_count=len(labels),
            resources=resources,
            resources_count=len(resources),
            log=log.options(),
            **self._options,
        )
        pointer = ctypes.c_void_p()
        _ffi.check(_ffi.lib.po_worker_open(ctypes.byref(pointer), opts, None, 0))
        try:
            for f in self._functions:
                _ffi.check(_ffi.lib.po_worker_handle(pointer, _capability(f), None, None))
        except BaseException:
            _ffi.lib.po_worker_close(pointer)
            raise
        self._open(pointer.value)

    def _prepare(self) -> None:
        """Start what the worker needs before it may get a task."""
        if _task.loading:
            raise InvalidArgument(
                f"worker {self.id} is started by a process that another worker has started to run its tasks, while it imports the module "
                'that both are in; put what is to run once only under `if __name__ == "__main__":`'
            )
        wanted = [f for f in self._functions if f.execution == "process"]
        if wanted and not self._started:
            from ._processes import Processes

            self._processes = Processes(self.id, wanted, self._tasks_per_process)
            try:
                self._processes.start()
            except Cancelled:
                raise Closed(f"worker {self.id} was stopped before it had begun") from None

    def _hurry(self) -> None:
        """What has begun need not go on: nobody waits for the modules of the tasks to be imported."""
        if not self._started and self._processes is not None:
            self._processes.hurry()

    def _end_processes(self) -> None:
        if self._processes is not None:
            self._processes.close()

    def _begin_here(self) -> None:
        """On a thread of its own: a signal that raised in the middle would leave a worker that runs, and that nobody can close."""
        try:
            in_thread(lambda: self._begin(None), undo=lambda _: self._close())
        except BaseException:
            self._hurry()
            raise

    def _begin(self, loop: Optional[asyncio.AbstractEventLoop]) -> None:
        self._prepare()
        if self._started:
            raise InvalidArgument(f"worker {self.id} was started before; make another one")
        try:
            self._open_handle()
        except BaseException:
            if self._log:
                self._log.close()
            self._end_processes()
            raise
        self._started = True
        asynchronous = any(f.execution == "asyncio" for f in self._functions)
        if asynchronous and loop is None:
            loop = asyncio.new_event_loop()
            self._loop_thread = threading.Thread(target=_run_loop, args=(loop,), name="pipeorch-loop", daemon=True)
            self._loop_thread.start()
        self._loop = loop
        self._runner = threading.Thread(target=self._run, name="pipeorch-worker", daemon=True)
        self._runner.start()
        if self._stop_wanted:  # meanwhile, by a signal
            self.stop()
        most = sum(f.max_concurrency for f in self._functions if f.execution != "asyncio")
        executing = self._threads_wanted or min(most, _THREADS_MAX)
        self._slots = threading.Semaphore(executing)
        for i in range(executing + 1):  # one is left to hear what is cancelled, and to take what is for the loop
            thread = threading.Thread(target=self._serve, name=f"pipeorch-task-{i}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        code = self._blocking(_ffi.lib.po_worker_run)
        if code:
            self.error = _ffi.last_error(code)
            logger.error("worker %s ended: %s", self.id, self.error)
        self._ended.set()

    def start(self, timeout: float = 10.0) -> None:
        """Start serving, and wait until the worker is registered, at most `timeout` seconds; 0: do not wait.

        Raises InvalidArgument, BadAddress, Stale (another process took the id over), TimedOut: it goes on trying.
        """
        self._begin_here()
        if timeout:
            self.wait_ready(timeout)

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Wait until the worker is registered with the cluster, or with its own node. Raises TimedOut, or why it ended."""
        milliseconds(timeout, "timeout")
        in_thread(lambda: self._wait_ready(timeout))

    def _wait_ready(self, timeout: float) -> None:
        code = self._sliced(_ffi.lib.po_worker_wait_ready, timeout)
        if code == _CLOSED:
            self._ended.wait(timeout)
            raise self.error or Closed(f"worker {self.id} has ended")
        if code == _TIMED_OUT:
            where = f"by {self.controllers}" if self.controllers else "by its own control node"
            raise TimedOut(f"worker {self.id} was not registered {where} within {timeout:g} s; it goes on trying")
        if code:
            raise error_of(code, "waiting for the registration failed")

    @property
    def ready(self) -> bool:
        """Whether it serves: it was registered with the cluster, or with its own node, and has not ended. Asks nobody: whether the
        cluster can be reached now is what `client` tells."""
        try:
            return self._quick(_ffi.quick.po_worker_wait_ready, 0) == 0
        except Closed:  # also before it starts
            return False

    def stop(self) -> None:
        """Ask the worker to finish what runs and to end; does not wait. May be called from any thread, and again."""
        if self._pid != os.getpid():
            return
        self._stop_wanted = True
        self._hurry()
        with self._lock:
            if self._pointer is not None:
                _ffi.quick.po_worker_stop(self._pointer)

    def close(self) -> None:
        """Stop, and wait until running tasks have finished or `drain` seconds are over. May be called again.

        A plain function that still runs then is left to itself: its answer goes nowhere, and the cluster gives the task
        to another worker."""
        self._refuse_within()
        in_thread(self._close)

    def _refuse_within(self) -> None:
        here = threading.current_thread()
        if here in self._threads or here is self._loop_thread or (self._loop is not None and asyncio._get_running_loop() is self._loop):
            raise InvalidArgument(
                f"worker {self.id} was asked to close by one of its own tasks, or on their event loop, for which it would wait; call stop()"
            )

    def _ask_to_end(self) -> None:
        self.stop()

    def _close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._closing:
            if self._runner is not None and self._runner.ident is not None:
                self.stop()
                self._ended.wait()
                self._runner.join()
            with self._contexts_lock:
                self._gone = True
                left = list(self._contexts.values())
            for context in left:
                context._give_up()
            self._cancel(left)
            self._end_processes()
            super()._close()

    def _release(self, pointer: int) -> None:
        with self._client_lock:
            clients = [self._client, self._async_client]
            self._client = self._async_client = None
        for client in clients:
            if client is not None:
                client._close()
        _ffi.lib.po_worker_close(pointer)
        if self._log:
            self._log.close()
        if self._loop_thread and self._loop:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join(2 * _LEFT_TO_ITSELF)
        until = time.monotonic() + _LEFT_TO_ITSELF
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def __enter__(self) -> Worker:
        self._begin_here()
        try:
            in_thread(self._registered)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _registered(self) -> None:
        """Wait for the registration, but not for ever: a worker without controllers that answer goes on trying."""
        try:
            if self._ready_timeout:
                self._wait_ready(self._ready_timeout)
        except TimedOut as e:
            logger.warning("%s", e)

    async def __aenter__(self) -> Worker:
        loop = asyncio.get_running_loop()
        try:
            await in_thread_async(lambda: self._begin(loop), undo=lambda _: self._close())
        except BaseException:
            self._hurry()
            raise
        try:
            await in_thread_async(self._registered)
        except BaseException:
            await in_thread_async(self._close)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await in_thread_async(self._close)

    def run(self) -> None:
        """Serve until Ctrl-C, SIGTERM or `stop()`; then finish what runs, deregister, and return.

        Signals are handled only if this is called on the main thread; their handlers are put back. Raises what makes going on
        useless: Stale, InvalidArgument, BadAddress and others.
        """
        before: Dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, lambda *_: self.stop())
        try:
            self._begin_here()
            while not self._ended.wait(0.5):  # a signal between two looks at them is noticed then
                pass
        except Closed:
            if not self._stop_wanted:
                raise
        finally:
            in_thread(self._close)
            for handled, handler in before.items():
                signal.signal(handled, handler)
        if self.error:
            raise self.error

    @property
    def client(self) -> Client:
        """A client of the cluster that the worker serves: of its own node, if it is standalone. Closed with the worker."""
        self._check_process()
        with self._client_lock:
            if self._client is None:
                self._client = self._new_client(InProcessClient, Client)
            return self._client

    @property
    def async_client(self) -> AsyncClient:
        """As `client`, for asyncio."""
        from .aclient import AsyncClient, AsyncInProcessClient

        self._check_process()
        with self._client_lock:
            if self._async_client is None:
                self._async_client = self._new_client(AsyncInProcessClient, AsyncClient)
            return self._async_client

    def _new_client(self, inner: Callable[..., C], remote: Callable[..., C]) -> C:
        with self._lock:
            own = _ffi.quick.po_worker_client(self._get())
        if own:
            return inner(own, "the worker's client")
        if self.controllers:
            return remote(self.controllers, name=self.id)
        raise Closed(f"the control node of worker {self.id} does not run, or not yet; see wait_ready")

    @property
    def standalone_address(self) -> Optional[str]:
        """The address of the standalone endpoint, with the port that was picked; None: there is none."""
        buffer = ctypes.create_string_buffer(257)
        if self._quick(_ffi.quick.po_worker_standalone_address, buffer, len(buffer)):
            return None
        return buffer.value.decode()

    # ---- pulling ----

    def _serve(self) -> None:
        grants = (_ffi.po_grant * _AT_ONCE)()
        grants[0].size = ctypes.sizeof(_ffi.po_grant)
        while True:
            grant = self._next()
            if grant is None:
                with self._poll_lock:
                    grant = self._next()
                    if grant is None:
                        if not self._pull(grants):
                            return
                        continue
            try:
                self._execute(grant)
            finally:
                self._slots.release()

    def _next(self) -> Optional[_Grant]:
        """A task that may begin, and a slot for it. Whoever gives a slot back looks again: nothing that may begin is left."""
        while self._ready and self._slots.acquire(blocking=False):
            try:
                return self._ready.popleft()
            except IndexError:  # another thread was faster
                self._slots.release()
        return None

    def _pull(self, grants: Any) -> bool:
        """Wait for tasks and spread them. False: the worker has ended."""
        count = ctypes.c_size_t()
        try:
            code = self._blocking(_ffi.lib.po_worker_take, grants, _AT_ONCE, _WAIT_MS, ctypes.byref(count))
        except Error:  # closed meanwhile
            return False
        if code and code != _TIMED_OUT:
            return False
        lost: List[Context] = []
        asynchronous: List[_Grant] = []
        for i in range(count.value):
            g = grants[i]
            if g.what == _LOST:
                lost += self._in_hand(g)
                continue
            grant = _grant(g)
            (asynchronous if self._functions[grant.function].execution == "asyncio" else self._ready).append(grant)
        self._cancel(lost)
        if self._loop and asynchronous:
            self._loop.call_soon_threadsafe(self._spread, asynchronous)
        return True

    def _in_hand(self, g: Any) -> List[Context]:
        """The task whose lease is lost, unless it was answered meanwhile: its pointer may be another task's by now."""
        with self._contexts_lock:
            context = self._contexts.get(g.task)
        return [context] if context and (context.id, context.token) == (g.id, g.token) else []

    def _cancel(self, contexts: List[Context]) -> None:
        """Coroutines; plain functions ask."""
        for context in contexts:
            context._on_lost()

    def _context(self, g: _Grant) -> Optional[Context]:
        """Of a task that begins; None: the worker is gone, and the task with it."""
        context = Context(g.pointer, g.id, g.token, g.attempt, self._functions[g.function].capability, g.timeout_ms, g.checkpoint)
        with self._contexts_lock:
            if self._gone:
                return None
            self._contexts[g.pointer] = context
        return context

    def _forget(self, context: Context) -> None:
        """After its answer, when the pointer may be another task's already."""
        with self._contexts_lock:
            if self._contexts.get(context._key) is context:
                del self._contexts[context._key]

    # ---- executing ----

    def _execute(self, g: _Grant) -> None:
        f = self._functions[g.function]
        context = self._context(g)
        if context is None:
            return
        token = current_context.set(context)
        try:
            run = self._processes.run if f.execution == "process" and self._processes else _handler.call
            result = run(f, g.input, context)
            self._complete(context, result)
        except BaseException as e:
            self._fail(context, e)
        finally:
            current_context.reset(token)
            self._forget(context)

    def _spread(self, grants: List[_Grant]) -> None:
        """On the loop."""
        for g in grants:
            context = self._context(g)
            if context is not None:
                context._on_lost = functools.partial(self._cancel_coroutine, asyncio.ensure_future(self._execute_async(g, context)))

    def _cancel_coroutine(self, running: asyncio.Task[None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(running.cancel)

    async def _execute_async(self, g: _Grant, context: Context) -> None:
        current_context.set(context)  # of this asyncio task alone
        try:
            self._complete(context, await _handler.call_async(self._functions[g.function], g.input, context))
        except BaseException as e:
            self._fail(context, e)
            if not isinstance(e, (Exception, asyncio.CancelledError)):
                raise
        finally:
            self._forget(context)

    def _complete(self, context: Context, result: bytes) -> None:
        context._answer(_ffi.quick.po_task_complete, result, len(result))

    def _fail(self, context: Context, e: BaseException) -> None:
        text, retryable = _handler.failure_of(Cancelled("the lease is lost") if isinstance(e, asyncio.CancelledError) else e)
        try:
            context._answer(_ffi.quick.po_task_fail, text.replace("\0", "?").encode("utf-8", "replace"), int(retryable))
        except Error as refused:
            logger.error("worker %s: the failure of task %d could not be told: %s; its lease will expire", self.id, context.id, refused)


def _count(value: int, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidArgument(f"{name} is {value!r}; expected 0 to {most}")
    return value


def _grant(g: Any) -> _Grant:
    return _Grant(
        g.capability,
        g.task,
        g.id,
        g.token,
        g.attempt,
        g.timeout_ms,
        ctypes.string_at(g.input, g.input_len),
        ctypes.string_at(g.checkpoint, g.checkpoint_len) if g.checkpoint else None,
    )


def _schema_text(schema: Optional[Mapping[str, Any]]) -> Optional[bytes]:
    return None if schema is None else json.dumps(schema, ensure_ascii=False).encode()


def _capability(f: TaskFunction[Any]) -> Any:
    return _ffi.sized(
        _ffi.po_capability,
        name=_ffi.text(f.capability),
        version=_ffi.text(f.version),
        input_schema=_schema_text(f.signature.input_schema),
        output_schema=_schema_text(f.signature.output_schema),
        requires_gpu=f.requires_gpu,
        max_concurrency=f.max_concurrency,
    )


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    pending: Set["asyncio.Task[Any]"] = asyncio.all_tasks(loop)
    for running in pending:
        running.cancel()
    if pending:  # one that will not be cancelled is left to itself, as plain functions are
        loop.run_until_complete(asyncio.wait(pending, timeout=_LEFT_TO_ITSELF))
    loop.close()
