"""The C interface: the only module that knows ctypes.

Structs are laid out here as the headers of libpipeorch have them, and their sizes compared with those of the library when
this module is imported: a library that is older than this package, or of another ABI, is refused with a sentence.

Threads and the GIL: `lib` gives up the GIL for the time of a call, for calls that block. `quick` keeps it, for calls
that by contract do not block and take microseconds. No C thread ever runs Python here, except for the callbacks of an
application's own state machine, for which ctypes takes the GIL; outcomes of calls, events of watches and log lines come
as data out of completion queues (_wait.py), and tasks are pulled (worker.py).
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Callable, Iterable, List, Optional, Tuple

from . import errors

VERSION_NEEDED = (0, 3)


class po_label(Structure):
    _fields_ = [
        ("key", c_char_p),
        ("value", c_char_p),
    ]


class po_resource(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("amount", c_uint64),
    ]


class po_member(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("address", c_char_p),
    ]


class po_log_event(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("level", c_int),
        ("time_ms", c_uint64),
        ("id", c_char_p),
        ("name", c_char_p),
        ("message", c_char_p),
    ]


class po_log_opts(Structure):
    _fields_ = [
        ("cb", c_void_p),
        ("arg", c_void_p),
        ("level", c_int),
    ]


class po_call_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("timeout_ms", c_uint32),
        ("key", c_void_p),
        ("key_len", c_size_t),
    ]


class po_capability(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("version", c_char_p),
        ("input_schema", c_char_p),
        ("output_schema", c_char_p),
        ("requires_gpu", c_int),
        ("max_concurrency", c_uint32),
    ]


class po_label_wish(Structure):
    _fields_ = [
        ("key", c_char_p),
        ("value", c_char_p),
        ("op", c_int),
    ]


class po_placement(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("version", c_char_p),
        ("zone", c_char_p),
        ("gpu", c_int),
        ("prefer", c_int),
        ("labels", POINTER(po_label_wish)),
        ("labels_count", c_size_t),
        ("resources", POINTER(po_resource)),
        ("resources_count", c_size_t),
    ]


class po_client_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("calls_max", c_uint32),
        ("log", po_log_opts),
    ]


class po_task_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("capability", c_char_p),
        ("input", c_void_p),
        ("input_len", c_size_t),
        ("zone", c_char_p),
        ("attempts_max", c_uint32),
        ("timeout_ms", c_uint32),
        ("placement", POINTER(po_placement)),
        ("priority", c_uint32),
        ("run_at_ms", c_uint64),
        ("deadline_ms", c_uint64),
        ("retry_ms", c_uint32),
        ("retry_max_ms", c_uint32),
        ("concurrency_key", c_char_p),
        ("concurrency_max", c_uint32),
        ("rate_max", c_uint32),
        ("rate_period_ms", c_uint32),
        ("keep_ms", c_uint64),
    ]


class po_route_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("capability", c_char_p),
        ("zone", c_char_p),
        ("placement", POINTER(po_placement)),
    ]


class po_run_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("pipeline", c_char_p),
        ("params", c_char_p),
        ("zone", c_char_p),
        ("priority", c_uint32),
    ]


class po_schedule_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("pipeline", c_char_p),
        ("cron", c_char_p),
        ("time_zone", c_char_p),
        ("params", c_char_p),
        ("zone", c_char_p),
        ("overlap", c_int),
        ("catch_up_ms", c_uint32),
        ("paused", c_int),
    ]


class po_query(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("what", c_int),
        ("id", c_uint64),
        ("name", c_char_p),
        ("name2", c_char_p),
        ("limit", c_uint32),
        ("stale_ms", c_uint32),
    ]


class po_state_machine(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("arg", c_void_p),
        ("apply", c_void_p),
        ("snapshot", c_void_p),
        ("restore", c_void_p),
    ]


class po_node_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("data_dir", c_char_p),
        ("zone", c_char_p),
        ("cluster", c_char_p),
        ("listen", c_char_p),
        ("advertise", c_char_p),
        ("worker_listen", c_char_p),
        ("worker_advertise", c_char_p),
        ("bootstrap", c_int),
        ("members", POINTER(po_member)),
        ("members_count", c_size_t),
        ("insecure", c_int),
        ("election_ms", c_uint32),
        ("heartbeat_ms", c_uint32),
        ("snapshot_bytes", c_uint64),
        ("trailing_bytes", c_uint64),
        ("segment_bytes", c_uint64),
        ("state_machine", POINTER(po_state_machine)),
        ("log", po_log_opts),
        ("failover_hint_off", c_int),
        ("join", c_char_p),
        ("join_standby", c_int),
        ("prefer_zone", c_char_p),
        ("time_zone_dir", c_char_p),
    ]


class po_node_status(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("id", c_uint64),
        ("leader_id", c_uint64),
        ("term", c_uint64),
        ("commit_index", c_uint64),
        ("applied_index", c_uint64),
        ("last_index", c_uint64),
        ("snapshot_index", c_uint64),
        ("role", c_int),
        ("log_bytes", c_uint64),
        ("mailbox_count", c_uint64),
        ("message", c_char * 256),
        ("code", c_int),
    ]


class po_worker_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("id", c_char_p),
        ("addresses", c_char_p),
        ("zone", c_char_p),
        ("address", c_char_p),
        ("labels", POINTER(po_label)),
        ("labels_count", c_size_t),
        ("heartbeat_ms", c_uint32),
        ("threads", c_uint32),
        ("batch_max", c_uint32),
        ("drain_ms", c_uint32),
        ("log", po_log_opts),
        ("resources", POINTER(po_resource)),
        ("resources_count", c_size_t),
        ("slots", c_uint32),
        ("standalone", c_int),
        ("standalone_dir", c_char_p),
        ("standalone_listen", c_char_p),
        ("insecure", c_int),
    ]


class po_grant(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("what", c_int),
        ("capability", c_uint32),
        ("task", c_void_p),
        ("id", c_uint64),
        ("token", c_uint64),
        ("attempt", c_uint32),
        ("timeout_ms", c_uint32),
        ("input", c_void_p),
        ("input_len", c_size_t),
        ("checkpoint", c_void_p),
        ("checkpoint_len", c_size_t),
    ]


class po_watch_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("after_index", c_uint64),
        ("after_position", c_uint32),
        ("kinds", c_uint64),
        ("task_id", c_uint64),
        ("run_id", c_uint64),
        ("worker_id", c_char_p),
        ("pipeline", c_char_p),
    ]


class po_queue_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("items_max", c_uint32),
    ]


class po_queue_item(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("what", c_int),
        ("code", c_int),
        ("tag", c_uint64),
        ("id", c_uint64),
        ("index", c_uint64),
        ("term", c_uint64),
        ("time_ms", c_uint64),
        ("staleness_ms", c_uint32),
        ("lost", c_uint32),
        ("position", c_uint32),
        ("data", c_void_p),
        ("len", c_size_t),
        ("message", c_char_p),
        ("name", c_char_p),
    ]


class po_sim_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("pipeline", c_char_p),
        ("pipeline_len", c_size_t),
        ("params", c_char_p),
        ("workers", c_char_p),
        ("workers_len", c_size_t),
        ("faults", c_char_p),
        ("seed", c_uint64),
        ("nodes", c_uint32),
        ("runs", c_uint32),
        ("limit_s", c_uint32),
        ("log", po_log_opts),
        ("stop", POINTER(c_int)),
    ]


class po_snapshot_save_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("path", c_char_p),
        ("client", c_void_p),
        ("data_dir", c_char_p),
        ("overwrite", c_int),
        ("timeout_ms", c_uint32),
        ("state_machine", POINTER(po_state_machine)),
    ]


class po_snapshot_restore_opts(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("path", c_char_p),
        ("data_dir", c_char_p),
        ("name", c_char_p),
        ("members", POINTER(po_member)),
        ("members_count", c_size_t),
        ("cluster_id", c_char_p),
    ]


# ---- the library ----


def _candidates() -> List[str]:
    """Where the library may be: named by the user; in this package; on the system."""
    named = os.environ.get("PIPEORCH_LIBRARY")
    if named:
        return [named]
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_lib", "libpipeorch.so")
    return [own] if os.path.exists(own) else ["libpipeorch.so.0"]


def _load() -> Tuple[Any, Any, str]:
    tried = _candidates()
    path = tried[0]
    try:
        return ctypes.CDLL(path), ctypes.PyDLL(path), path
    except OSError as e:
        raise ImportError(
            f"pipeorch: cannot load libpipeorch from {path}: {e}. Expected the library that comes with the wheel, one that the system's "
            "linker finds, or one that the environment variable PIPEORCH_LIBRARY names"
        ) from None


lib, quick, library_path = _load()


def _declare(name: str, *arguments: Any, returns: Any = c_int) -> None:
    for handle in (lib, quick):
        try:
            function = getattr(handle, name)
        except AttributeError:
            raise ImportError(
                f"pipeorch: {library_path} has no {name}: it is older than release {VERSION_NEEDED[0]}.{VERSION_NEEDED[1]}, which this "
                "package needs. Install a newer libpipeorch, or the wheel that contains it"
            ) from None
        function.argtypes = arguments
        function.restype = returns


_S, _V, _U32, _U64, _SIZE = c_char_p, c_void_p, c_uint32, c_uint64, c_size_t
_OPTS = POINTER(po_call_opts)
_CB = (c_void_p, c_void_p)  # a callback, which is always po_queue_on_result, and its ticket

for _name, _arguments, _returns in (
    ("po_version", (), _S),
    ("po_struct_size", (_S,), _SIZE),
    ("po_client_error", (), _S),
    ("po_err_name", (c_int,), _S),
    ("po_err_retryable", (c_int,), c_int),
    ("po_free", (_V,), None),
    ("po_queue_open", (POINTER(_V), POINTER(po_queue_opts)), c_int),
    ("po_queue_close", (_V,), None),
    ("po_queue_fd", (_V,), c_int),
    ("po_queue_take", (_V, POINTER(po_queue_item), _SIZE, _U32, POINTER(_SIZE)), c_int),
    ("po_queue_ticket", (_V, _U64, POINTER(_V)), c_int),
    ("po_queue_watch", (_V, _U64, _V, POINTER(_V)), c_int),
    ("po_queue_log", (_V, _U64, POINTER(_V)), c_int),
    ("po_ticket_drop", (_V,), None),
    ("po_client_open", (POINTER(_V), _S, POINTER(po_client_opts)), c_int),
    ("po_client_close", (_V,), None),
    ("po_submit_task_async", (_V, POINTER(po_task_opts), _OPTS, *_CB), c_int),
    ("po_submit_tasks", (_V, POINTER(po_task_opts), _SIZE, _OPTS, POINTER(_U64), POINTER(c_int)), c_int),
    ("po_task_retry_async", (_V, _U64, _OPTS, *_CB), c_int),
    ("po_task_cancel_async", (_V, _U64, _OPTS, *_CB), c_int),
    ("po_task_wait_async", (_V, _U64, _OPTS, *_CB), c_int),
    ("po_fence_check_async", (_V, _U64, _U64, _OPTS, *_CB), c_int),
    ("po_update_worker_status_async", (_V, _S, c_int, _OPTS, *_CB), c_int),
    ("po_route_with_async", (_V, POINTER(po_route_opts), _OPTS, *_CB), c_int),
    ("po_pipeline_validate", (_S, _SIZE, _S, POINTER(_V)), c_int),
    ("po_draw", (_S, _SIZE, c_int, _U32, POINTER(_V)), c_int),
    ("po_pipeline_define_async", (_V, _S, _SIZE, _OPTS, *_CB), c_int),
    ("po_run_start_with_async", (_V, POINTER(po_run_opts), _OPTS, *_CB), c_int),
    ("po_run_resume_async", (_V, _U64, _S, _OPTS, *_CB), c_int),
    ("po_run_cancel_async", (_V, _U64, _OPTS, *_CB), c_int),
    ("po_run_wait_async", (_V, _U64, _OPTS, *_CB), c_int),
    ("po_schedule_define_async", (_V, POINTER(po_schedule_opts), _OPTS, *_CB), c_int),
    ("po_schedule_delete_async", (_V, _S, _OPTS, *_CB), c_int),
    ("po_schedule_pause_async", (_V, _S, c_int, _OPTS, *_CB), c_int),
    ("po_query_async", (_V, POINTER(po_query), _OPTS, *_CB), c_int),
    ("po_watch_open", (POINTER(_V), _V, POINTER(po_watch_opts), _OPTS), c_int),
    ("po_watch_close", (_V,), None),
    ("po_node_start", (POINTER(_V), POINTER(po_node_opts), _V, _SIZE), c_int),
    ("po_node_stop", (_V,), None),
    ("po_node_hand_over", (_V, _U32), c_int),
    ("po_node_status", (_V, POINTER(po_node_status)), c_int),
    ("po_node_worker_address", (_V, _V, _SIZE), c_int),
    ("po_node_wait_leader", (_V, _U32), c_int),
    ("po_node_client", (_V,), _V),
    ("po_apply_async", (_V, _S, _SIZE, _OPTS, *_CB), c_int),
    ("po_read_barrier_async", (_V, _OPTS, *_CB), c_int),
    ("po_worker_open", (POINTER(_V), POINTER(po_worker_opts), _V, _SIZE), c_int),
    ("po_worker_handle", (_V, POINTER(po_capability), _V, _V), c_int),
    ("po_worker_run", (_V,), c_int),
    ("po_worker_wait_ready", (_V, _U32), c_int),
    ("po_worker_client", (_V,), _V),
    ("po_worker_standalone_address", (_V, _V, _SIZE), c_int),
    ("po_worker_stop", (_V,), None),
    ("po_worker_close", (_V,), None),
    ("po_worker_take", (_V, POINTER(po_grant), _SIZE, _U32, POINTER(_SIZE)), c_int),
    ("po_task_cancelled", (_V,), c_int),
    ("po_task_complete", (_V, _S, _SIZE), c_int),
    ("po_task_fail", (_V, _S, c_int), c_int),
    ("po_task_extend", (_V, _U32), c_int),
    ("po_task_checkpoint", (_V, _U32, _S, _SIZE), c_int),
):
    _declare(_name, *_arguments, returns=_returns)

# What may change or go in any release, testing.h and sim.h: looked up when it is used, so that nobody else misses it.
_PROVISIONAL = {
    "po_sim_preset": ((c_uint32, POINTER(_S)), _S),
    "po_sim_run": ((POINTER(po_sim_opts), POINTER(_V), _V, _SIZE), c_int),
    "po_testing_crash": ((_V,), c_int),
    "po_testing_cut": ((_V, POINTER(_U64), _SIZE), c_int),
    "po_testing_pause": ((_V, c_int), c_int),
}

# Passed on as pointers, never called from here.
ON_RESULT: Any = ctypes.cast(lib.po_queue_on_result, c_void_p)
ON_LOG: Any = ctypes.cast(lib.po_queue_on_log, c_void_p)


def _check() -> str:
    """The library's version, if it is one that this package can work with."""
    version: str = quick.po_version().decode()
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < VERSION_NEEDED or numbers[0] != VERSION_NEEDED[0]:
        raise ImportError(
            f"pipeorch: {library_path} is libpipeorch {version}; this package needs {VERSION_NEEDED[0]}.{VERSION_NEEDED[1]} or a later "
            f"{VERSION_NEEDED[0]}.x. Install that, or the wheel that contains it"
        )
    for struct in Structure.__subclasses__():
        if not struct.__name__.startswith("po_") or struct is po_sim_opts:
            continue
        ours, theirs = ctypes.sizeof(struct), quick.po_struct_size(struct.__name__.encode())
        if theirs < ours:  # a newer library's may be longer: each says its size
            raise ImportError(
                f"pipeorch: struct {struct.__name__} has {theirs} bytes in {library_path} (libpipeorch {version}) and {ours} in this "
                "package; they are of different releases or machines. Install the same release of both"
            )
    for code in range(-1, -200, -1):
        name = quick.po_err_name(code).decode()
        if name == "PO_E?":
            break
        errors._describe(code, name, bool(quick.po_err_retryable(code)))
    return version


library_version = _check()


def provisional(name: str) -> Any:
    """A function of the library's whose interface holds for one release only: that of this package."""
    numbers = tuple(int(part) for part in library_version.split(".")[:2])
    if numbers != VERSION_NEEDED or quick.po_struct_size(b"po_sim_opts") != ctypes.sizeof(po_sim_opts) or not hasattr(lib, name):
        raise errors.VersionMismatch(
            f"{name} is provisional, and {library_path} (libpipeorch {library_version}) is of another release than this package "
            f"({VERSION_NEEDED[0]}.{VERSION_NEEDED[1]}). Install the same release of both"
        )
    function = getattr(lib, name)
    function.argtypes, function.restype = _PROVISIONAL[name]
    return function


# ---- small helpers ----


def last_error(code: int) -> errors.Error:
    """The exception for what the last call on this thread returned."""
    return errors.error_of(code, quick.po_client_error().decode("utf-8", "replace"))


def check(code: int) -> None:
    if code:
        raise last_error(code)


def sized(struct: Any, **fields: Any) -> Any:
    """A struct that says its size; the objects given stay alive as long as it does."""
    made = struct(**fields)
    made.size = ctypes.sizeof(struct)
    return made


def array(struct: Any, rows: Iterable[Any]) -> Any:
    """A C array of structs, each from the values of its members."""
    made = [struct(*row) for row in rows]
    return (struct * len(made))(*made)


def text(value: Optional[str]) -> Optional[bytes]:
    """A C string; None stays None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise errors.InvalidArgument(f"{value!r} is no text; expected a str")
    raw = value.encode()
    if b"\0" in raw:
        raise errors.InvalidArgument(f"{value!r} contains a NUL character, which no text here may")
    return raw


def take_text(pointer: Any) -> str:
    """The text that a call returned through a char **, which is released."""
    try:
        return ctypes.string_at(pointer.value).decode("utf-8", "replace") if pointer.value else ""
    finally:
        quick.po_free(pointer)


_APPLY = ctypes.CFUNCTYPE(c_int, c_void_p, c_uint64, c_void_p, c_size_t, c_void_p, POINTER(c_size_t))
_WRITE = ctypes.CFUNCTYPE(c_int, c_void_p, c_char_p, c_size_t)
_SNAPSHOT = ctypes.CFUNCTYPE(c_int, c_void_p, _WRITE, c_void_p)
_RESTORE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


def state_machine(
    apply: Callable[[int, bytes], Optional[bytes]],
    snapshot: Callable[[], bytes],
    restore: Callable[[bytes], None],
    failed: Callable[[], None],
) -> Any:
    """A po_state_machine that calls Python; `failed` is called in the handler of the exception that stops the node."""

    def on_apply(_: Any, index: int, command: Any, length: int, result: Any, result_length: Any) -> int:
        try:
            given = apply(index, ctypes.string_at(command, length)) or b""
            if len(given) > result_length[0]:
                raise ValueError(f"the result of a command has {len(given)} bytes; at most {result_length[0]}")
            ctypes.memmove(result, given, len(given))
            result_length[0] = len(given)
            return 0
        except BaseException:
            failed()
            return -1

    def on_snapshot(_: Any, write: Any, context: Any) -> int:
        try:
            data = snapshot()
            return int(write(context, data, len(data)))
        except BaseException:
            failed()
            return -1

    def on_restore(_: Any, data: Any, length: int) -> int:
        try:
            restore(ctypes.string_at(data, length) if data else b"")
            return 0
        except BaseException:
            failed()
            return -1

    callbacks = (_APPLY(on_apply), _SNAPSHOT(on_snapshot), _RESTORE(on_restore))
    pointers = [ctypes.cast(callback, c_void_p) for callback in callbacks]
    made = sized(po_state_machine, apply=pointers[0], snapshot=pointers[1], restore=pointers[2])
    made.kept = callbacks
    return made


def draw(document: bytes, form: int, columns: int) -> str:
    """A picture of a pipeline or run, in one of the library's forms."""
    picture = c_void_p()
    check(quick.po_draw(document, len(document), form, columns, byref(picture)))
    return take_text(picture)


def pipeline_validate(document: bytes, name: Optional[str] = None) -> Optional[str]:
    """All problems of a pipeline document, one per line; None if there is none."""
    problems = c_void_p()
    code = lib.po_pipeline_validate(document, len(document), text(name), byref(problems))
    said = take_text(problems)
    if code and not said:
        raise last_error(code)
    return said if code else None

