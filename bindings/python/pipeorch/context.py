"""What a handler knows about the attempt that it runs, and what it can tell the cluster."""

from __future__ import annotations

import contextvars
import json
import threading
import time
from typing import Any, Callable, NamedTuple, Optional

from . import _ffi
from ._wait import milliseconds
from .errors import Cancelled, InvalidArgument

_UNCHANGED = 1001  # PO_PROGRESS_UNCHANGED
_EXTEND_MAX = 86400.0  # seconds


class Final(Exception):
    """Raised by a handler: the task failed for good, another attempt would fail, too. Any other exception is retryable."""


class Progress(NamedTuple):
    """Yielded by a generator handler: how far it is, 0 to 1, and what the next attempt should find."""

    fraction: Optional[float] = None
    checkpoint: Any = None


class Context:
    """One attempt of a task.

    id: of the task. attempt: 1, 2, ... token: the fencing token; hand it to every sink that can refuse older ones.
    capability: what is run. deadline: seconds since 1970 until which the attempt's lease lasts, unless it is extended.
    checkpoint: what an earlier attempt left; None: nothing.

    May be used from any thread, until the handler has returned.
    """

    def __init__(self, pointer: int, id: int, token: int, attempt: int, capability: str, timeout_ms: int, checkpoint: Optional[bytes]) -> None:
        self._key = pointer
        self._pointer: Optional[int] = pointer  # None: answered, or given up
        self._lock = threading.Lock()
        self._on_lost: Callable[[], None] = _nothing  # tells who executes that the lease is lost
        self.id = id
        self.token = token
        self.attempt = attempt
        self.capability = capability
        self.deadline = time.time() + timeout_ms / 1000
        self._checkpoint = checkpoint

    def __repr__(self) -> str:
        return f"<attempt {self.attempt} of task {self.id} ({self.capability})>"

    @property
    def checkpoint(self) -> Any:
        """What an earlier attempt left with `save`; None: nothing."""
        return None if self._checkpoint is None else json.loads(self._checkpoint)

    @property
    def cancelled(self) -> bool:
        """Whether the lease is lost: the task was cancelled, timed out or given to another worker, or this worker ended. The
        answer will be refused: stop, and leave no side effects."""
        with self._lock:
            return self._pointer is None or bool(_ffi.quick.po_task_cancelled(self._pointer))

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled if the lease is lost."""
        if self.cancelled:
            raise Cancelled(f"the lease of task {self.id}, attempt {self.attempt}, is lost")

    def progress(self, fraction: float) -> None:
        """Tell how far the attempt is, 0 to 1. Costs little: only the newest counts."""
        self._tell(self._thousandths(fraction), None)

    def save(self, checkpoint: Any, fraction: Optional[float] = None) -> None:
        """Leave a value for the next attempt, should this one not come to its end; at most 256 KiB of JSON. Raises TooBig."""
        from .schema import dumps

        self._tell(_UNCHANGED if fraction is None else self._thousandths(fraction), dumps(checkpoint))

    def extend(self, seconds: float) -> None:
        """Ask for more time: the attempt's deadline becomes now + seconds (0.1 to 86400)."""
        self._extend(milliseconds(seconds, "seconds", _EXTEND_MAX, 0.1))
        self.deadline = time.time() + seconds

    @staticmethod
    def _thousandths(fraction: float) -> int:
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
            raise InvalidArgument(f"progress is {fraction!r}; expected 0 to 1")
        return round(fraction * 1000)

    def _tell(self, progress: int, data: Optional[bytes]) -> None:
        with self._lock:
            if self._pointer is not None:
                _ffi.check(_ffi.quick.po_task_checkpoint(self._pointer, progress, data, len(data) if data else 0))

    def _extend(self, ms: int) -> None:
        with self._lock:
            if self._pointer is not None:
                _ffi.check(_ffi.quick.po_task_extend(self._pointer, ms))

    def _yielded(self, value: Any) -> None:
        """What a generator handler yields: a fraction, a Progress, or None for nothing but a sign of life."""
        if isinstance(value, Progress):
            if value.checkpoint is not None:
                self.save(value.checkpoint, value.fraction)
            elif value.fraction is not None:
                self.progress(value.fraction)
        elif value is not None:
            self.progress(value)

    def _answer(self, function: Any, *arguments: Any) -> None:
        """Complete or fail. After the worker was closed nobody waits for the answer any more."""
        with self._lock:
            if self._pointer is not None:
                _ffi.check(function(self._pointer, *arguments))
                self._pointer = None

    def _give_up(self) -> None:
        with self._lock:
            self._pointer = None


def _nothing() -> None:
    """Functions on threads ask whether they are cancelled."""


current_context: "contextvars.ContextVar[Context]" = contextvars.ContextVar("pipeorch_context")


def current() -> Context:
    """The context of the task that this code runs for. Raises LookupError outside of a handler."""
    try:
        return current_context.get()
    except LookupError:
        raise LookupError("no task runs here: pipeorch.current() is for code that a handler calls") from None
