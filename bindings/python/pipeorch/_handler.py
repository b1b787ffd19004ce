"""Calling a handler: from the JSON of a task's input to the JSON of its result, or to the text of its failure.

The same on a thread of the worker and in another process, which does not have to import asyncio for it.
"""

from __future__ import annotations

import json
import os
import traceback
from typing import TYPE_CHECKING, Any, Tuple

from .context import Context, Final
from .errors import Cancelled, Error, InvalidArgument
from .schema import EncodeError, InputError, dumps

if TYPE_CHECKING:
    from ._task import TaskFunction


class Failure(Exception):
    """A failure whose text is made already, as that of a handler in another process."""

    def __init__(self, text: str, retryable: bool = True) -> None:
        super().__init__(text)
        self.retryable = retryable


def call(f: TaskFunction[Any], input: bytes, context: Context) -> bytes:
    """Run a plain or generator function. Raises what it raises, InputError and EncodeError."""
    args, kwargs = f.signature.decode(json.loads(input), context)
    result = f.fn(*args, **kwargs)
    return dumps(_drive(result, context) if f.signature.kind == "generator" else result)


async def call_async(f: TaskFunction[Any], input: bytes, context: Context) -> bytes:
    """As call, of a coroutine function or an asynchronous generator."""
    args, kwargs = f.signature.decode(json.loads(input), context)
    if f.signature.kind == "async":
        return dumps(await f.fn(*args, **kwargs))
    async for value in f.fn(*args, **kwargs):
        context._yielded(value)
    return dumps(None)


def _drive(generator: Any, context: Context) -> Any:
    """Run a generator handler to its end; its return value."""
    try:
        while True:
            context._yielded(next(generator))
            context.raise_if_cancelled()
    except StopIteration as end:
        return end.value
    finally:
        generator.close()


def failure_of(e: BaseException) -> Tuple[str, bool]:
    """What is told of a handler's exception: the text, and whether another attempt may succeed."""
    if isinstance(e, Failure):
        return str(e), e.retryable
    # An answer that was refused (InvalidArgument: it breaks the output schema) is the task's failure, as the handler's own.
    retryable = not isinstance(e, (Final, InputError, EncodeError, InvalidArgument))
    if isinstance(e, Cancelled):
        return "the attempt was cancelled", retryable
    if isinstance(e, (Final, InputError, EncodeError, Error)):
        try:
            return str(e) or type(e).__name__, retryable
        except Exception:  # of a subclass's own __str__, which `described` stands
            pass
    return described(e), retryable


def described(e: BaseException) -> str:
    """An exception with the place where it was raised: what somebody who reads a task's error needs first."""
    frames = traceback.extract_tb(e.__traceback__)
    place = f" (at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return "".join(traceback.format_exception_only(type(e), e)).strip() + place
