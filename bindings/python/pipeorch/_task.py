"""Functions that are tasks: the decorator, and what it makes."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, Tuple, TypedDict, TypeVar

from .errors import InvalidArgument

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import StepOptions
    from ._steps import StepFunction
    from .schema import Signature

F = TypeVar("F", bound=Callable[..., Any])

loading = False  # while a process that a worker has started imports the modules of its tasks
_EXECUTIONS = ("thread", "process", "asyncio")
_CONCURRENCY_MAX = 1024  # calls of a task at a time
RETRIES_MAX = 99  # further attempts
ATTEMPT_MAX = 86400.0  # seconds, of one attempt and of a wait between two

building: Optional[Callable[[], Any]] = None
"""The pipeline that is being built, or None; set by _steps, which nobody loads who has no pipelines."""


class Traits(TypedDict, total=False):
    """What can be said of a task: see `task`."""

    version: str
    requires_gpu: bool
    max_concurrency: int
    retries: Optional[int]
    timeout: Optional[float]
    execution: Optional[str]


class TaskFunction(Generic[F]):
    """A function with the capability that it implements. Calling it calls the function; in a `@pipeline`, it adds a step.

    Attributes: fn, capability ("verb:name"), version, requires_gpu, max_concurrency, retries (further attempts after the
    first), timeout (seconds, of one attempt), as given to `task`; execution: "thread", "process" or "asyncio".
    """

    def __init__(
        self,
        fn: F,
        capability: str,
        *,
        version: str = "1.0.0",
        requires_gpu: bool = False,
        max_concurrency: int = 1,
        retries: Optional[int] = None,
        timeout: Optional[float] = None,
        execution: Optional[str] = None,
    ) -> None:
        if not callable(fn):
            raise InvalidArgument(f"@task({capability!r}) decorates {fn!r}; expected a function")
        _check(capability, version, requires_gpu, max_concurrency, retries, timeout)
        self.fn = fn
        self.capability = capability
        self.version = version
        self.requires_gpu = requires_gpu
        self.max_concurrency = max_concurrency
        self.retries = retries
        self.timeout = timeout
        self._execution = execution
        self._signature: Optional[Signature] = None
        if execution not in (None, *_EXECUTIONS):
            raise InvalidArgument(f"{self!r}: execution is {execution!r}; expected 'thread', 'process' or 'asyncio'")
        if execution == "process":
            address_of(self)  # what cannot be found by another process is told here
        functools.update_wrapper(self, fn)

    @property
    def signature(self) -> Signature:
        """How the task's input becomes the function's arguments; see `pipeorch.schema`."""
        if self._signature is None:
            from .schema import signature_of

            signature = signature_of(self.fn)
            asynchronous = signature.kind.startswith("async")
            if self._execution is not None and asynchronous != (self._execution == "asyncio"):
                is_a, instead = ("asynchronous", "'asyncio'") if asynchronous else ("a plain", "'thread' or 'process'")
                raise InvalidArgument(f"{self!r}: execution is {self._execution!r}, and it is {is_a} function; expected {instead}, or none")
            self._signature = signature
        return self._signature

    @property
    def execution(self) -> str:
        """Where it runs: as given, else "asyncio" for coroutine functions and asynchronous generators, "thread" for others."""
        return self._execution or ("asyncio" if self.signature.kind.startswith("async") else "thread")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if building is not None and building() is not None:
            return self.options()(*args, **kwargs)
        return self.fn(*args, **kwargs)

    def options(self, **options: Unpack[StepOptions]) -> StepFunction:
        """In a `@pipeline`: what adds steps with these options, see `StepFunction.options`. `resize.options(retries=5)(file)`"""
        from ._steps import StepFunction, TaskTarget

        return StepFunction(TaskTarget(self), {}).options(**options)

    def map(self, items: Any, /, *args: Any, **kwargs: Any) -> Any:
        """In a `@pipeline`: a step that runs for each element, see `StepFunction.map`. `resize.map(files, width=640)`"""
        return self.options().map(items, *args, **kwargs)

    def __reduce__(self) -> Any:
        """A task is pickled by the name of its function, as functions are, whose name is the task's."""
        return getattr(self, "__qualname__", None) or super().__reduce__()

    def __repr__(self) -> str:
        return f"<task {self.capability} {self.version}: {getattr(self.fn, '__qualname__', self.fn)}>"


def _check(capability: Any, version: Any, requires_gpu: Any, max_concurrency: Any, retries: Any, timeout: Any) -> None:
    """What the library would refuse when a worker starts or a task is submitted is told where it is written."""
    if not isinstance(capability, str) or not re.fullmatch(r"[a-z0-9._-]+:[a-z0-9._-]+", capability):
        raise InvalidArgument(f"the capability is {capability!r}; expected \"verb:name\", each part of a-z 0-9 . _ -")
    wrong = (
        ("version", version, isinstance(version, str), 'a text such as "1.2.0"'),
        ("requires_gpu", requires_gpu, isinstance(requires_gpu, bool), "True or False"),
        ("max_concurrency", max_concurrency, whole(max_concurrency, 1, _CONCURRENCY_MAX), f"1 to {_CONCURRENCY_MAX}"),
        ("retries", retries, retries is None or whole(retries, 0, RETRIES_MAX), f"0 to {RETRIES_MAX}, or None"),
        ("timeout", timeout, timeout is None or _seconds(timeout), f"0.1 to {ATTEMPT_MAX:g} seconds, or None"),
    )
    for name, value, right, expected in wrong:
        if not right:
            raise InvalidArgument(f"{name} of task {capability!r} is {value!r}; expected {expected}")


def whole(value: Any, least: int, most: int) -> bool:
    """Whether it is an integer in this range; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0.1 <= value <= ATTEMPT_MAX


def address_of(function: TaskFunction[Any]) -> Tuple[str, str]:
    """The module and the qualified name by which another process finds a task's function. Raises InvalidArgument: it cannot."""
    module, name = getattr(function.fn, "__module__", None), getattr(function.fn, "__qualname__", None)
    if not module or not name or "<" in name:
        raise InvalidArgument(
            f"{function!r} cannot run in another process, which finds a function by its module and its name: expected one that is defined "
            "with def at the top level of a module, no lambda, local function, partial or object"
        )
    return module, name


def task(capability: str, **traits: Unpack[Traits]) -> Callable[[F], TaskFunction[F]]:
    """Make a function a task: `worker.add` serves it, `client.submit` sends it work.

    capability: "verb:name", each part of a-z 0-9 . _ -. version: semantic; "1.0.0". requires_gpu: told to the cluster, which
    lets tasks choose by it; False. max_concurrency: calls of it at a time in one worker, 1 to 1024; 1. retries: attempts
    after a first one that failed, 0 to 99; timeout: seconds that one attempt may take, 0.1 to 86400: both are the
    defaults of `client.submit(function)`, None leaves them to the cluster (2 retries, 600 s).

    execution: where the worker runs it. "thread": on a thread of the worker; "asyncio": on an event loop; "process": in another
    process, for computations that hold the GIL, native code that may crash, and memory that is to be given back. None: "asyncio"
    for coroutine functions and asynchronous generators, which run nowhere else, and "thread" for all others.

    Raises InvalidArgument.
    """

    if callable(capability):
        raise InvalidArgument(f"@task is written above {capability!r} without a capability; write @task(\"verb:name\")")

    def decorate(fn: F) -> TaskFunction[F]:
        return TaskFunction(fn, capability, **traits)

    return decorate
