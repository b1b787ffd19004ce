"""The library's log lines, to the logger "pipeorch" of Python's logging.

They come through one completion queue and one thread, which sleeps while there are none. Lines are bounded: when more
than 1024 of one source wait, newer ones are dropped, and the next line says how many.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import threading
from typing import Any, Optional

from . import _ffi
from ._wait import Outcome, Queue, at_end

logger = logging.getLogger("pipeorch")
_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}
_lock = threading.Lock()
_queue: Optional[Queue] = None
_pid = 0


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it


os.register_at_fork(after_in_child=_after_fork)


def _tell(line: Outcome) -> None:
    lost = f" ({line.lost} lines before this one were dropped)" if line.lost else ""
    logger.log(
        _LEVELS.get(line.code, logging.INFO),
        "%s: %s%s",
        line.name or "pipeorch",
        line.data.decode("utf-8", "replace"),
        lost,
        extra={"event_id": line.message},
    )


def _serve(queue: Queue, stop: int) -> None:
    poll = select.poll()
    poll.register(queue.fd, select.POLLIN)
    poll.register(stop, select.POLLIN)
    while True:
        ended = any(fd == stop for fd, _ in poll.poll())
        for line in queue.take():
            try:
                _tell(line)
            except Exception as e:  # of a filter or handler of the host; later lines are told all the same
                threading.excepthook(threading.ExceptHookArgs((type(e), e, e.__traceback__, threading.current_thread())))
        if ended:
            return


def _start(queue: Queue) -> None:
    read, write = os.pipe2(os.O_CLOEXEC)
    thread = threading.Thread(target=_serve, args=(queue, read), name="pipeorch-log", daemon=True)
    thread.start()
    pid = os.getpid()

    def end() -> None:
        if pid == os.getpid():
            os.write(write, b"x")  # a fork may have the writing end, too: closing it would say nothing
            os.close(write)
            thread.join()

    at_end.append(end)


class LogStream:
    """The log of one node or worker, from its start to its close."""

    def __init__(self) -> None:
        global _queue, _pid
        with _lock:
            if _queue is None or _pid != os.getpid():
                _queue, _pid = Queue(), os.getpid()
                _start(_queue)
        self._ticket = ctypes.c_void_p()
        _ffi.check(_ffi.quick.po_queue_log(_queue.pointer, 0, ctypes.byref(self._ticket)))

    def options(self) -> Any:
        level = 4 if logger.isEnabledFor(logging.DEBUG) else 3
        return _ffi.po_log_opts(cb=_ffi.ON_LOG, arg=self._ticket, level=level)

    def close(self) -> None:
        with _lock:
            ticket, self._ticket = self._ticket, ctypes.c_void_p()
        _ffi.quick.po_ticket_drop(ticket)
