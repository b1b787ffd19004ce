"""The calls of a client, from Python values to the library's arguments and back: what Client and AsyncClient share."""

from __future__ import annotations

import ctypes
import json
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from . import _ffi
from ._task import ATTEMPT_MAX, RETRIES_MAX, whole
from ._wait import Handle, Op, Outcome, T, milliseconds
from .answers import Answer, Answers
from .errors import InvalidArgument, NoLeader, OutcomeUnknown, TimedOut, Unreachable

if TYPE_CHECKING:
    from ._task import TaskFunction
    from .pipelines import Pipeline

TASKS_AT_ONCE = 100000
BATCH_SLICE = 5.0  # seconds that each message of a batch may take before the batch is sent again

# PO_QUERY_* of client.h
STATUS, WORKERS, CAPABILITIES, ROUTE, TASK, TASKS, PIPELINES, PIPELINE, RUN, RUNS, MEMBERS, EXPLAIN = range(1, 13)
SCHEDULES, SCHEDULE = 14, 15

_PREFER = {"balance": 0, "spread": 1, "binpack": 2, "local": 3}
_GPU = {None: 0, "required": 1, "forbidden": 2}
LabelWish = Union[str, bool, Mapping[str, str]]


class TaskResult(NamedTuple):
    """A task that is finished."""

    id: int
    state: str  # "succeeded", "failed" or "cancelled"
    output: Any  # the decoded result; None unless it succeeded
    error: Optional[str]
    attempts: int
    worker: Optional[str]
    zone: Optional[str]


class Placement(NamedTuple):
    """Where a task may run: see Client.submit."""

    version: Optional[str] = None
    zone: Optional[str] = None
    gpu: Optional[str] = None
    prefer: str = "balance"
    labels: Mapping[str, LabelWish] = {}
    resources: Mapping[str, int] = {}


def call_opts(timeout: float, key: Union[str, bytes, None]) -> Any:
    opts = _ffi.sized(_ffi.po_call_opts, timeout_ms=milliseconds(timeout, "timeout"))
    if key is not None:
        raw = key.encode() if isinstance(key, str) else bytes(key)
        buffer = ctypes.create_string_buffer(raw, len(raw) + 1)
        opts.key, opts.key_len, opts.kept = ctypes.addressof(buffer), len(raw), buffer
    return opts


def nothing(outcome: Outcome) -> None:
    return None


def json_of(outcome: Outcome) -> Answer:
    return Answer(json.loads(outcome.data))


def list_of(key: str) -> Callable[[Outcome], Answers]:
    def read(outcome: Outcome) -> Answers:
        return Answers(json.loads(outcome.data)[key])

    return read


def id_of(outcome: Outcome) -> int:
    return outcome.id


def result_of(outcome: Outcome) -> TaskResult:
    task = json_of(outcome)
    return TaskResult(
        task["id"],
        task["state"],
        task["result"] if task["state"] == "succeeded" else None,
        task["error"] or None,
        task["attempts"],
        task["worker_id"] or None,
        task["zone"] or None,
    )


def query(
    what: int,
    opts: Any,
    read: Callable[[Outcome], T],
    *,
    id: int = 0,
    name: Optional[str] = None,
    name2: Optional[str] = None,
    limit: int = 0,
    stale: float = 0,
) -> Op[T]:
    q = _ffi.sized(_ffi.po_query, what=what, id=id, name=_ffi.text(name), name2=_ffi.text(name2), limit=limit)
    if stale:
        q.stale_ms = milliseconds(stale, "stale")
    return Op(_ffi.quick.po_query_async, (q, opts), read)


# ---- tasks ----


def choice(value: Any, allowed: Mapping[Any, int], name: str) -> int:
    try:
        return allowed[value]
    except (KeyError, TypeError):
        raise InvalidArgument(f"{name} is {value!r}; expected one of {', '.join(repr(k) for k in allowed)}") from None


def _wish(key: str, wish: LabelWish) -> Tuple[bytes, Optional[bytes], int]:
    """A demand on a label, as pipeline documents write it: a value; {"not": value}; True or False for there or not."""
    if isinstance(wish, bool):
        return key.encode(), None, 2 if wish else 3
    if isinstance(wish, str):
        return key.encode(), wish.encode(), 0
    if isinstance(wish, Mapping) and list(wish) == ["not"] and isinstance(wish["not"], str):
        return key.encode(), wish["not"].encode(), 1
    raise InvalidArgument(
        f'the demand on label {key!r} is {wish!r}; expected a value, {{"not": value}}, True (it is there) or False (it is not)'
    )


def placement_struct(p: Placement) -> Any:
    """None if nothing is demanded."""
    if p == Placement():
        return None
    wishes = [_wish(k, w) for k, w in p.labels.items()]
    labels = _ffi.array(_ffi.po_label_wish, wishes)
    resources = _ffi.array(_ffi.po_resource, ((k.encode(), v) for k, v in p.resources.items()))
    return _ffi.sized(
        _ffi.po_placement,
        version=_ffi.text(p.version),
        zone=_ffi.text(p.zone),
        gpu=choice(p.gpu, _GPU, "gpu"),
        prefer=choice(p.prefer, _PREFER, "prefer"),
        labels=labels,
        labels_count=len(wishes),
        resources=resources,
        resources_count=len(p.resources),
    )


def moment_ms(at: Any, name: str) -> int:
    """A datetime with a time zone, or seconds since 1970."""
    seconds = at
    if hasattr(at, "timestamp"):
        if getattr(at, "tzinfo", None) is None:
            raise InvalidArgument(f"{name} is {at!r}, a datetime without a time zone; give one, as in datetime.now(timezone.utc)")
        seconds = at.timestamp()
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
        raise InvalidArgument(f"{name} is {at!r}; expected a datetime with a time zone, or seconds since 1970")
    return int(seconds * 1000)


class TaskOptions(NamedTuple):
    """The options of Client.submit, as one value."""

    zone: Optional[str] = None
    retries: Optional[int] = None
    attempt_timeout: Optional[float] = None
    retry_delay: Optional[float] = None
    retry_delay_max: Optional[float] = None
    priority: int = 0
    delay: Optional[float] = None
    run_at: Any = None
    deadline: Any = None
    concurrency_key: Optional[str] = None
    concurrency: int = 0
    rate: int = 0
    rate_period: float = 1.0
    keep: Optional[float] = None
    placement: Placement = Placement()


def fill_task(t: Any, capability: bytes, input: bytes, o: TaskOptions) -> Any:
    """Returns what must stay alive as long as the struct."""
    t.size = ctypes.sizeof(_ffi.po_task_opts)
    t.capability = capability
    t.input = ctypes.cast(ctypes.c_char_p(input), ctypes.c_void_p).value
    t.input_len = len(input)
    t.zone = _ffi.text(o.zone)
    t.priority = o.priority
    if o.retries is not None:
        if not whole(o.retries, 0, RETRIES_MAX):
            raise InvalidArgument(f"retries is {o.retries!r}; expected 0 to {RETRIES_MAX}")
        t.attempts_max = o.retries + 1
    if o.attempt_timeout is not None:
        t.timeout_ms = milliseconds(o.attempt_timeout, "attempt_timeout", ATTEMPT_MAX, 0.1)
    if o.retry_delay is not None:
        t.retry_ms = milliseconds(o.retry_delay, "retry_delay", ATTEMPT_MAX)
        t.retry_max_ms = max(t.retry_ms, 60000)
    if o.retry_delay_max is not None:
        t.retry_max_ms = milliseconds(o.retry_delay_max, "retry_delay_max", ATTEMPT_MAX)
        t.retry_ms = t.retry_ms or 500
    if o.delay is not None and o.run_at is not None:
        raise InvalidArgument("delay and run_at are both given; expected one of them")
    if o.delay is not None:
        t.run_at_ms = moment_ms(time.time() + o.delay, "delay")
    elif o.run_at is not None:
        t.run_at_ms = moment_ms(o.run_at, "run_at")
    if o.deadline is not None:
        t.deadline_ms = moment_ms(o.deadline, "deadline")
    if o.keep is not None:
        t.keep_ms = milliseconds(o.keep, "keep", 1e9)
    if o.concurrency_key is not None:
        t.concurrency_key = _ffi.text(o.concurrency_key)
        t.concurrency_max = o.concurrency
        if o.rate:
            t.rate_max, t.rate_period_ms = o.rate, milliseconds(o.rate_period, "rate_period", ATTEMPT_MAX)
    elif o.concurrency or o.rate:
        raise InvalidArgument("concurrency or rate is given without the concurrency_key that they limit")
    placement = placement_struct(o.placement)
    if placement is not None:
        t.placement = ctypes.pointer(placement)
    return (input, placement)


def submit(capability: str, input: bytes, o: TaskOptions, opts: Any) -> Op[int]:
    t = _ffi.po_task_opts()
    t.kept = fill_task(t, capability.encode(), input, o)
    return Op(_ffi.quick.po_submit_task_async, (t, opts), id_of)


def check_batch(task: TaskFunction[Any], inputs: Sequence[bytes]) -> None:
    """Raises InvalidArgument: an input is the value of a parameter, where a mapping of all arguments is expected."""
    names = task.signature.parameters
    wrong = next((i for i, raw in enumerate(inputs) if names and not raw.startswith(b"{")), None)
    if task.signature.convention == "object" and wrong is not None:
        value = inputs[wrong][:40].decode("utf-8", "replace")
        arguments = ", ".join(f'"{name}": ...' for name in names)
        raise InvalidArgument(f"input {wrong} of {task!r} is {value}; expected a mapping of the function's arguments, {{{arguments}}}")


def batch(capability: str, inputs: Sequence[bytes], o: TaskOptions) -> Any:
    """The array of all tasks, with what it points to."""
    if not 1 <= len(inputs) <= TASKS_AT_ONCE:
        raise InvalidArgument(f"{len(inputs)} inputs are given; expected 1 to {TASKS_AT_ONCE} in one call")
    name = capability.encode()
    tasks: Any = (_ffi.po_task_opts * len(inputs))()
    kept = fill_task(tasks[0], name, inputs[0], o)
    size = ctypes.sizeof(_ffi.po_task_opts)
    first = bytes(tasks[0])
    ctypes.memmove(tasks, first * len(inputs), size * len(inputs))
    joined = b"\0".join(inputs)
    buffer = ctypes.create_string_buffer(joined, len(joined) + 1)
    at = ctypes.addressof(buffer)
    for i, raw in enumerate(inputs):
        t = tasks[i]
        t.input = at
        t.input_len = len(raw)
        at += len(raw) + 1
    tasks.kept = (kept, buffer, name)
    return tasks


def send_batch(client: Handle, tasks: Any, key: Union[str, bytes], until: float) -> List[int]:
    """Submit in slices of time, so that closing the client waits for one of them only; the key makes repeating safe."""
    ids = (ctypes.c_uint64 * len(tasks))()
    while True:
        left = min(max(until - time.monotonic(), 0.001), BATCH_SLICE)
        code = client._blocking(_ffi.lib.po_submit_tasks, tasks, len(tasks), call_opts(left, key), ids, None)
        if code == 0:
            return list(ids)
        failed = _ffi.last_error(code)
        if not isinstance(failed, (TimedOut, NoLeader, Unreachable, OutcomeUnknown)) or time.monotonic() >= until:
            raise failed


def on_id(function: Any, id: int, opts: Any, read: Any = nothing, subject: str = "") -> Op[Any]:
    if isinstance(id, bool) or not isinstance(id, int) or not 1 <= id < 1 << 64:
        raise InvalidArgument(f"the id is {id!r}; expected a number from 1 on")
    return Op(function, (id, opts), read, subject)


# ---- addresses ----


def addresses_of(given: Union[str, Sequence[str], None]) -> str:
    """Comma-separated addresses of control nodes: those given, or those of the environment; "" if there are none.

    An address may be written as a URL, of which host and port count.
    """
    if given is None:
        given = os.environ.get("PO_CONTROLLERS") or os.environ.get("CONTROLLER_URL") or ""
    parts = given.split(",") if isinstance(given, str) else list(given)
    return ",".join(part.strip().split("://", 1)[-1].rstrip("/") for part in parts if part.strip())


def document_of(pipeline: Union[Pipeline, str, bytes, Mapping[str, Any]]) -> bytes:
    """A pipeline's document as text."""
    if isinstance(pipeline, bytes):
        return pipeline
    if isinstance(pipeline, str):
        return pipeline.encode()
    if not isinstance(pipeline, Mapping):
        if not hasattr(pipeline, "document"):
            raise InvalidArgument(f"the pipeline is {pipeline!r}; expected a Pipeline, or a document as JSON text or a dict")
        pipeline = pipeline.document
    return json.dumps(pipeline, ensure_ascii=False).encode()


def pipeline_name(pipeline: Any) -> bytes:
    """Of a pipeline, or its name."""
    name = getattr(pipeline, "name", pipeline)
    if not isinstance(name, str):
        raise InvalidArgument(f"the pipeline is {pipeline!r}; expected its name, or a Pipeline")
    return name.encode()


def catch_up_ms(seconds: Optional[float]) -> int:
    if seconds is None:
        return 0  # the default
    return milliseconds(seconds, "catch_up", 604800) if seconds else 0xFFFFFFFF
