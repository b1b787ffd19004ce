"""Calls on the control plane, blocking. `AsyncClient` (aclient.py) is made from this file and has the same calls.

Each call follows redirects to the leader by itself and retries until its timeout as long as that is safe. `timeout`, in
seconds, bounds the wait, not the outcome: after OutcomeUnknown it may or may not have happened; with a `key` it can be
repeated safely. All calls raise `pipeorch.Error`: InvalidArgument, TimedOut, NoLeader, Unreachable, OutcomeUnknown, Busy,
Closed, and what they name themselves.
"""

from __future__ import annotations

import ctypes
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

from . import _ffi, _ops
from ._ops import Placement, TaskOptions, TaskResult
from ._task import TaskFunction
from ._wait import Handle, Op, T, deadline, in_thread, milliseconds, run, run_many
from .answers import Answer, Answers, shown
from .errors import Error, InvalidArgument, NoLeader, TimedOut

if TYPE_CHECKING:
    from .pipelines import Pipeline
    from .watch import Position, Watch

Key = Union[str, bytes, None]
Task = Union[str, "TaskFunction[Any]"]
_ON, _DRAINING = 1, 3
_CALLS_MAX = 65536  # of a client at a time: as many as there are places in a completion queue
_WAIT_SLICE = 60.0  # seconds; a wait that nobody waits for any more, as its coroutine was cancelled, is under way so long at most


class TaskFailed(Exception):
    """A task that was waited for did not succeed. `task` is its TaskResult."""

    def __init__(self, task: TaskResult) -> None:
        super().__init__(f"task {task.id} {task.state} after {task.attempts} attempts: {task.error or 'no reason was given'}")
        self.task = task

    def __reduce__(self) -> Any:
        return type(self), (self.task,)


class RunFailed(Exception):
    """A run that was waited for did not succeed. `run` is what RunHandle.wait returns of it; `steps` are those that failed."""

    def __init__(self, run: Answer) -> None:
        super().__init__(f"run {run['id']} of pipeline {run['pipeline']!r} {run['state']}" + (f": {run['error']}" if run["error"] else ""))
        self.run = run
        self.steps = Answers(step for step in run["steps"] if step["state"] == "failed")

    def __reduce__(self) -> Any:
        return type(self), (self.run,)


class TaskHandle:
    """A task that was submitted."""

    def __init__(self, client: Client, id: int) -> None:
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"<task {self.id}>"

    def _repr_html_(self) -> str:
        return shown(self)

    def result(self, timeout: float = 60.0) -> Any:
        """Wait for its end, at most `timeout` seconds, and return its output. Raises TaskFailed, TimedOut."""
        finished = self._client.wait(self.id, timeout=timeout)
        if finished.state != "succeeded":
            raise TaskFailed(finished)
        return finished.output

    def wait(self, timeout: float = 60.0) -> TaskResult:
        """Wait for its end, however it ends. Raises TimedOut."""
        return self._client.wait(self.id, timeout=timeout)

    def info(self) -> Answer:
        """Its state, attempts, progress and more, as `poctl task show -o json` shows them."""
        return self._client.task(self.id)

    def cancel(self) -> None:
        """Cancel it. Raises WrongState if it is finished."""
        self._client.cancel(self.id)


class RunHandle:
    """A run of a pipeline."""

    def __init__(self, client: Client, id: int) -> None:
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def _repr_html_(self) -> str:
        return shown(self)

    def result(self, timeout: float = 60.0) -> Any:
        """Wait for its end, at most `timeout` seconds, and return its output. Raises RunFailed, TimedOut."""
        finished = self._client.wait_run(self.id, timeout=timeout)
        if finished["state"] != "succeeded":
            raise RunFailed(finished)
        return finished["result"]

    def wait(self, timeout: float = 60.0) -> Answer:
        """Wait for its end, however it ends; its state, steps and output. Raises TimedOut."""
        return self._client.wait_run(self.id, timeout=timeout)

    def info(self) -> Answer:
        """Its state and steps."""
        return self._client.run(self.id)

    def cancel(self) -> None:
        """Cancel it and all of its tasks. Raises WrongState if it is finished."""
        self._client.cancel_run(self.id)


class Client(Handle):
    """A client of a cluster, over the network.

    addresses: control nodes' worker addresses, "host:port,host:port" or a list; None: those of the environment variables
    PO_CONTROLLERS or CONTROLLER_URL. One of them that lives is enough. name: shown in logs. timeout: seconds, of each
    call that names none. May be used from any number of threads, for up to 65,536 calls at a time; Busy refuses more. Opening
    waits for no connection.

    Raises InvalidArgument, BadAddress.
    """

    def __init__(self, addresses: Union[str, Sequence[str], None] = None, *, name: str = "python", timeout: float = 10.0) -> None:
        super().__init__("the client")
        self._timeout = timeout
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        text = _ops.addresses_of(addresses)
        if not text:
            raise InvalidArgument(
                'no address of a control node is given: expected "host:port,host:port" as an argument, or in the environment '
                "variable PO_CONTROLLERS"
            )
        pointer = ctypes.c_void_p()
        opts = _ffi.sized(_ffi.po_client_opts, name=_ffi.text(name), calls_max=_CALLS_MAX)
        try:
            _ffi.check(_ffi.lib.po_client_open(ctypes.byref(pointer), _ffi.text(text), opts))
            self._open(pointer.value)
        except BaseException:
            if pointer and self._pointer is None:  # a signal came in between
                _ffi.lib.po_client_close(pointer)
            raise

    # ---- life ----

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; calls under way elsewhere end with Closed or OutcomeUnknown, but for submit_many and watch, which are waited for: a
        few seconds at most. May be called again."""
        in_thread(self._close)

    def _release(self, pointer: int) -> None:
        self._close_watches()
        _ffi.lib.po_client_close(pointer)

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self._close()

    def _do(self, op: Op[T]) -> T:
        return run(self, op)

    def _do_many(self, ops: Iterable[Op[T]]) -> List[T]:
        return run_many(self, ops)

    def _close_watches(self) -> None:
        for watch in list(self._watches):
            watch.close()

    def _opts(self, timeout: Optional[float] = None, key: Key = None) -> Any:
        return _ops.call_opts(self._timeout if timeout is None else timeout, key)

    # ---- tasks ----

    def submit(
        self,
        task: Task,
        /,
        *args: Any,
        key: Key = None,
        zone: Optional[str] = None,
        retries: Optional[int] = None,
        attempt_timeout: Optional[float] = None,
        retry_delay: Optional[float] = None,
        retry_delay_max: Optional[float] = None,
        priority: int = 0,
        delay: Optional[float] = None,
        run_at: Any = None,
        deadline: Any = None,
        concurrency_key: Optional[str] = None,
        concurrency: int = 0,
        rate: int = 0,
        rate_period: float = 1.0,
        keep: Optional[float] = None,
        placement: Placement = Placement(),
        timeout: Optional[float] = None,
        input: Any = None,
        **kwargs: Any,
    ) -> TaskHandle:
        """Submit a durable task.

        task: a function made by `task`, with the arguments of its call; or a capability, "verb:name" or
        "verb:name@^1.2", with its `input`, any value that JSON can say. A function's parameters that are called like an
        option here cannot be given by keyword: give them by position.

        key: idempotency key, up to 64 bytes; with the same key the same task is answered again. zone: preferred among
        equally loaded workers. retries: 0 to 99 further attempts; attempt_timeout: seconds of each; retry_delay: before the
        second, doubled from there on up to retry_delay_max. priority: 0 to 9. delay: seconds; or run_at, deadline: a
        datetime with a time zone, or seconds since 1970. concurrency_key: name that tasks share to be limited together,
        `concurrency` of them at a time, `rate` starts in `rate_period` seconds. keep: forget it so many seconds after
        its end. placement: where it may run.

        Raises InvalidArgument (also an input that breaks the capability's schema), TooBig (inputs of more than 1 MiB),
        QuotaExceeded, and what any call raises.
        """
        capability, raw, retries, attempt_timeout = _prepared(task, args, kwargs, input, retries, attempt_timeout)
        o = TaskOptions(
            zone,
            retries,
            attempt_timeout,
            retry_delay,
            retry_delay_max,
            priority,
            delay,
            run_at,
            deadline,
            concurrency_key,
            concurrency,
            rate,
            rate_period,
            keep,
            placement,
        )
        return TaskHandle(self, self._do(_ops.submit(capability, raw, o, self._opts(timeout, key))))

    def submit_many(
        self,
        task: Task,
        inputs: Iterable[Any],
        *,
        key: Key = None,
        options: TaskOptions = TaskOptions(),
        timeout: Optional[float] = None,
    ) -> List[TaskHandle]:
        """Submit up to 100,000 tasks in one call, which is a few messages.

        inputs: for a function, mappings of its arguments, [{"file": "a.png", "width": 640}]; for one that takes a single record
        or positional-only value, and for a capability, values. options: as of `submit`, the same for all. Repeating the call
        with the same key (at most 56 bytes) and inputs submits nothing twice.

        Raises as `submit`; the message names the first task concerned, and others may have been submitted: repeat with
        the same key.
        """
        from .schema import dumps

        retries, attempt_timeout = options.retries, options.attempt_timeout
        if isinstance(task, TaskFunction):
            capability = task.capability
            retries = task.retries if retries is None else retries
            attempt_timeout = task.timeout if attempt_timeout is None else attempt_timeout
        else:
            capability = task
        raw = [dumps(value) for value in inputs]
        if isinstance(task, TaskFunction):
            _ops.check_batch(task, raw)
        if not raw:
            return []
        tasks = _ops.batch(capability, raw, options._replace(retries=retries, attempt_timeout=attempt_timeout))
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        drawn = os.urandom(16) if key is None else key

        def send() -> List[int]:
            return _ops.send_batch(self, tasks, drawn, until)

        return [TaskHandle(self, id) for id in in_thread(send)]

    def wait(self, task_id: int, timeout: float = 60.0) -> TaskResult:
        """Wait until a task is finished, at most `timeout` seconds (of any length). Raises TimedOut, NotFound."""
        finished: TaskResult = self._finish("task", _ffi.quick.po_task_wait_async, task_id, _ops.result_of, timeout)
        return finished

    def wait_many(self, tasks: Iterable[Union[int, TaskHandle]], timeout: float = 60.0) -> List[TaskResult]:
        """Wait until all of these tasks, or their ids, are finished, at most `timeout` seconds (an hour); their results in
        the same order.

        Many answers are under way at a time, so that this takes a fraction of the time of one wait after the other. Raises
        TimedOut, NotFound.
        """
        ids = [task if isinstance(task, int) else task.id for task in tasks]
        until = time.monotonic() + timeout
        milliseconds(timeout, "timeout")

        def waits() -> Iterator[Op[TaskResult]]:
            for id in ids:
                opts = self._opts(max(until - time.monotonic(), 0.001))
                yield _ops.on_id(_ffi.quick.po_task_wait_async, id, opts, _ops.result_of, f"task {id}")

        try:
            return self._do_many(waits())
        except Error as e:
            if isinstance(e, TimedOut) or (e.retryable and time.monotonic() >= until):
                raise TimedOut(f"{len(ids)} tasks were not all finished within {timeout:g} s: {e.message}", e.leader_hint) from e
            raise

    def _finish(self, what: str, function: Any, id: int, read: Any, timeout: float) -> Any:
        """Wait for an end in slices that one call may last."""
        until = deadline(timeout)
        while True:
            left = min(max(until - time.monotonic(), 0.001), _WAIT_SLICE)
            try:
                return self._do(_ops.on_id(function, id, self._opts(left), read))
            except Error as e:
                if time.monotonic() < until and isinstance(e, TimedOut):
                    continue
                if e.retryable and time.monotonic() >= until:  # a last short slice may find nobody, which says nothing
                    raise TimedOut(f"{what} {id} was not finished within {timeout:g} s: {e.message}", e.leader_hint) from e
                raise

    def task(self, task_id: int, *, stale: float = 0) -> Answer:
        """A task's state, attempts, progress and more. stale: seconds that the answer may be old; 0: linearizable.
        Raises NotFound."""
        return self._do(_ops.query(_ops.TASK, self._opts(), _ops.json_of, id=task_id, stale=stale))

    def tasks(self, state: Optional[str] = None, *, after: int = 0, limit: int = 100, stale: float = 0) -> Answers:
        """Up to `limit` (1000) tasks with ids behind `after`, in one state ("failed": dead letters) or in any."""
        return self._do(_ops.query(_ops.TASKS, self._opts(), _ops.list_of("tasks"), id=after, name=state, limit=limit, stale=stale))

    def explain(self, task_id: int) -> Answer:
        """What a task waits for; each worker, and what turned it down. Raises NotFound."""
        return self._do(_ops.query(_ops.EXPLAIN, self._opts(), _ops.json_of, id=task_id))

    def cancel(self, task_id: int) -> None:
        """Cancel a task; a running attempt is told. Raises NotFound, WrongState (it is finished)."""
        self._do(_ops.on_id(_ffi.quick.po_task_cancel_async, task_id, self._opts()))

    def retry(self, task_id: int) -> None:
        """Give a failed or cancelled task all its attempts once more. Raises NotFound, WrongState, QuotaExceeded."""
        self._do(_ops.on_id(_ffi.quick.po_task_retry_async, task_id, self._opts()))

    def fence(self, task_id: int, token: int) -> None:
        """For sinks: is this fencing token still the right to act for the task? Returns if so; else raises Stale."""
        self._do(Op(_ffi.quick.po_fence_check_async, (task_id, token, self._opts()), _ops.nothing))

    # ---- workers and the cluster ----

    def status(self, *, stale: float = 0) -> Answer:
        """Members, leader and counts of the cluster."""
        return self._do(_ops.query(_ops.STATUS, self._opts(), _ops.json_of, stale=stale))

    def members(self) -> Answers:
        """The control nodes, with role, zone and lag."""
        return self._do(_ops.query(_ops.MEMBERS, self._opts(), _ops.list_of("members")))

    def workers(self, *, stale: float = 0) -> Answers:
        """Up to 1000 workers, with status, zone and load."""
        return self._do(_ops.query(_ops.WORKERS, self._opts(), _ops.list_of("workers"), limit=1000, stale=stale))

    def capabilities(self, *, stale: float = 0) -> Answers:
        """What the workers offer."""
        return self._do(_ops.query(_ops.CAPABILITIES, self._opts(), _ops.list_of("capabilities"), limit=1000, stale=stale))

    def route(self, capability: str, *, zone: Optional[str] = None, placement: Placement = Placement()) -> Answer:
        """Which worker a task would get now, and how the choice falls. Raises NoCapability, Busy (all are full)."""
        what = _ffi.sized(_ffi.po_route_opts, capability=_ffi.text(capability), zone=_ffi.text(zone))
        demands = _ops.placement_struct(placement)
        if demands is not None:
            what.placement = ctypes.pointer(demands)
        return self._do(Op(_ffi.quick.po_route_with_async, (what, self._opts()), _ops.json_of))

    def drain(self, worker_id: str) -> None:
        """Let a worker finish what it runs and get nothing new. Raises NotFound."""
        self._do(Op(_ffi.quick.po_update_worker_status_async, (_ffi.text(worker_id), _DRAINING, self._opts()), _ops.nothing))

    def undrain(self, worker_id: str) -> None:
        """Give a worker new tasks again. Raises NotFound."""
        self._do(Op(_ffi.quick.po_update_worker_status_async, (_ffi.text(worker_id), _ON, self._opts()), _ops.nothing))

    def watch(
        self,
        kinds: Union[str, Iterable[str]] = (),
        *,
        after: Union[Position, str, None] = None,
        task_id: int = 0,
        run_id: int = 0,
        worker_id: Optional[str] = None,
        pipeline: Optional[str] = None,
    ) -> Watch:
        """Watch what happens, event by event: see Watch.

        kinds: some of "tasks", "workers", "runs", "members"; none: all. after: None: what happens from now on, which is
        settled with the leader before this returns; an event's (index, position): what follows it; (index, 0): that entry and
        all later ones; "oldest": all that is kept. The others: only events about these.
        """
        from .watch import Watch, options

        opts = options(kinds, after, task_id, run_id, worker_id, pipeline)
        return in_thread(lambda: Watch(self, opts, self._timeout), Watch.close)

    # ---- pipelines ----

    def define_pipeline(self, document: Union[str, bytes, Mapping[str, Any]]) -> None:
        """Define a pipeline, or replace the one of that name; runs under way keep theirs.

        Raises InvalidArgument, which lists every problem with its place, QuotaExceeded, VersionMismatch.
        """
        if not isinstance(document, (str, bytes, Mapping)):
            hint = "call its define(client), which defines the pipelines that it runs, too" if hasattr(document, "define") else "expected JSON"
            raise InvalidArgument(f"the document is {document!r}; {hint}")
        raw = _ops.document_of(document)
        self._do(Op(_ffi.quick.po_pipeline_define_async, (raw, len(raw), self._opts()), _ops.nothing))

    def start_run(
        self,
        pipeline: Union[str, Pipeline],
        *,
        params: Any = None,
        zone: Optional[str] = None,
        priority: int = 0,
        key: Key = None,
    ) -> RunHandle:
        """Start a run of a pipeline that is defined. Raises NotFound, InvalidArgument (of the params), QuotaExceeded."""
        from .schema import dumps

        name = _ops.pipeline_name(pipeline)
        r = _ffi.sized(_ffi.po_run_opts, pipeline=name, params=dumps(params), zone=_ffi.text(zone), priority=priority)
        return RunHandle(self, self._do(Op(_ffi.quick.po_run_start_with_async, (r, self._opts(None, key)), _ops.id_of)))

    def resume_run(self, run_id: int, *, from_step: Optional[str] = None, key: Key = None) -> RunHandle:
        """Start a new run that goes on where a finished one ended, or from a step. Raises NotFound, WrongState."""
        arguments = (run_id, _ffi.text(from_step), self._opts(None, key))
        return RunHandle(self, self._do(Op(_ffi.quick.po_run_resume_async, arguments, _ops.id_of)))

    def wait_run(self, run_id: int, timeout: float = 60.0) -> Answer:
        """Wait until a run is finished, at most `timeout` seconds (of any length). Raises TimedOut, NotFound."""
        finished: Answer = self._finish("run", _ffi.quick.po_run_wait_async, run_id, _ops.json_of, timeout)
        return finished

    def run(self, run_id: int) -> Answer:
        """A run, with its steps. Raises NotFound."""
        return self._do(_ops.query(_ops.RUN, self._opts(), _ops.json_of, id=run_id))

    def cancel_run(self, run_id: int) -> None:
        """Cancel a run and all of its tasks. Raises NotFound, WrongState."""
        self._do(_ops.on_id(_ffi.quick.po_run_cancel_async, run_id, self._opts()))

    def runs(
        self, pipeline: Optional[str] = None, state: Optional[str] = None, *, after: int = 0, limit: int = 100
    ) -> Answers:
        """Up to `limit` (1000) runs with ids behind `after`."""
        return self._do(_ops.query(_ops.RUNS, self._opts(), _ops.list_of("runs"), id=after, name=pipeline, name2=state, limit=limit))

    def pipelines(self) -> Answers:
        """The pipelines that are defined."""
        return self._do(_ops.query(_ops.PIPELINES, self._opts(), _ops.list_of("pipelines"), limit=1000))

    def pipeline(self, name: str) -> Answer:
        """A pipeline's definition. Raises NotFound."""
        return self._do(_ops.query(_ops.PIPELINE, self._opts(), _ops.json_of, name=name))

    # ---- schedules ----

    def define_schedule(
        self,
        name: str,
        *,
        pipeline: Union[str, Pipeline],
        cron: str,
        time_zone: str = "UTC",
        params: Any = None,
        zone: Optional[str] = None,
        overlap: str = "allow",
        catch_up: Optional[float] = None,
        paused: bool = False,
    ) -> None:
        """Run a pipeline at the times of a cron expression, each tick exactly once.

        overlap: "allow", or "skip" a tick while a run that the schedule started is under way. catch_up: seconds that a
        tick may be late, 0: not at all; None: an hour. Raises InvalidArgument, QuotaExceeded, VersionMismatch.
        """
        from .schema import dumps

        s = _ffi.sized(
            _ffi.po_schedule_opts,
            name=_ffi.text(name),
            pipeline=_ops.pipeline_name(pipeline),
            cron=_ffi.text(cron),
            time_zone=_ffi.text(time_zone),
            params=dumps(params),
            zone=_ffi.text(zone),
            overlap=_ops.choice(overlap, {"allow": 0, "skip": 1}, "overlap"),
            catch_up_ms=_ops.catch_up_ms(catch_up),
            paused=paused,
        )
        self._do(Op(_ffi.quick.po_schedule_define_async, (s, self._opts()), _ops.nothing))

    def delete_schedule(self, name: str) -> None:
        """Delete a schedule; runs that it started go on. Raises NotFound."""
        self._do(Op(_ffi.quick.po_schedule_delete_async, (_ffi.text(name), self._opts()), _ops.nothing))

    def pause_schedule(self, name: str, paused: bool = True) -> None:
        """No ticks from now on, or again. Raises NotFound."""
        self._do(Op(_ffi.quick.po_schedule_pause_async, (_ffi.text(name), int(paused), self._opts()), _ops.nothing))

    def schedules(self) -> Answers:
        """All schedules, with their next and last ticks."""
        return self._do(_ops.query(_ops.SCHEDULES, self._opts(), _ops.list_of("schedules"), limit=1000))

    def schedule(self, name: str) -> Answer:
        """A schedule, its next ticks and latest runs. Raises NotFound."""
        return self._do(_ops.query(_ops.SCHEDULE, self._opts(), _ops.json_of, name=name))


class InProcessClient(Client):
    """A client of a node in this process, which owns it. leader: what its errors tell of the leader."""

    _inner = True

    def __init__(self, pointer: Optional[int], what: str, leader: Callable[[], Optional[str]] = lambda: None) -> None:
        Handle.__init__(self, what)
        self._timeout = 10.0
        self._watches = weakref.WeakSet()
        self._leader = leader
        self._open(pointer)

    def _do(self, op: Op[T]) -> T:
        try:
            return super()._do(op)
        except (NoLeader, TimedOut) as e:
            e.leader_hint = self._leader()
            raise

    def close(self) -> None:
        """Nothing more is called with it; it ends with its node."""
        in_thread(self._close)

    def _release(self, pointer: int) -> None:
        self._close_watches()


def _prepared(task: Task, args: Any, kwargs: Any, input: Any, retries: Optional[int], attempt_timeout: Optional[float]) -> Any:
    """Capability, encoded input, retries and timeout of a submission."""
    from .schema import bind, dumps

    if isinstance(task, TaskFunction):
        if input is not None:
            raise InvalidArgument(f"input is given for {task!r}; give the function's own arguments")
        value = bind(task.signature, *args, **kwargs)
        return (
            task.capability,
            dumps(value),
            task.retries if retries is None else retries,
            task.timeout if attempt_timeout is None else attempt_timeout,
        )
    if not isinstance(task, str):
        raise InvalidArgument(f"the task is {task!r}; expected a capability such as \"classify:image\", or a function made by pipeorch.task")
    if args or kwargs:
        raise InvalidArgument(f"arguments are given for the capability {task!r}, whose parameters are not known here; give input=VALUE")
    return task, dumps(input), retries, attempt_timeout
