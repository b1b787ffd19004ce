"""Functions that are tasks: the decorator, and what it makes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypedDict, TypeVar

from .errors import InvalidArgument

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import StepOptions
    from ._steps import StepFunction
    from .schema import Signature

F = TypeVar("F", bound=Callable[..., Any])

building: Optional[Callable[[], Any]] = None
"""The pipeline that is being built, or None; set by _steps, which nobody loads who has no pipelines."""


class Traits(TypedDict, total=False):
    """What can be said of a task: see `task`."""

    version: str
    requires_gpu: bool
    max_concurrency: int
    retries: Optional[int]
    timeout: Optional[float]


class TaskFunction(Generic[F]):
    """A function with the capability that it implements. Calling it calls the function; in a `@pipeline`, it adds a step.

    Attributes: fn, capability ("verb:name"), version, requires_gpu, max_concurrency, retries (further attempts after the
    first), timeout (seconds, of one attempt), as given to `task`.
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
    ) -> None:
        if not callable(fn):
            raise InvalidArgument(f"@task({capability!r}) decorates {fn!r}; expected a function")
        self.fn = fn
        self.capability = capability
        self.version = version
        self.requires_gpu = requires_gpu
        self.max_concurrency = max_concurrency
        self.retries = retries
        self.timeout = timeout
        self._signature: Optional[Signature] = None
        functools.update_wrapper(self, fn)

    @property
    def signature(self) -> Signature:
        """How the task's input becomes the function's arguments; see `pipeorch.schema`."""
        if self._signature is None:
            from .schema import signature_of

            self._signature = signature_of(self.fn)
        return self._signature

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

    def __repr__(self) -> str:
        return f"<task {self.capability} {self.version}: {getattr(self.fn, '__qualname__', self.fn)}>"


def task(capability: str, **traits: Unpack[Traits]) -> Callable[[F], TaskFunction[F]]:
    """Make a function a task: `worker.add` serves it, `client.submit` sends it work.

    capability: "verb:name", each part of a-z 0-9 . _ -. version: semantic; "1.0.0". requires_gpu: told to the cluster, which
    lets tasks choose by it; False. max_concurrency: calls of it at a time in one worker, 1 to 1024; 1. retries: attempts
    after a first one that failed, 0 to 99; timeout: seconds that one attempt may take, 0.1 to 86400: both are the
    defaults of `client.submit(function)`, None leaves them to the cluster (2 retries, 600 s).

    Raises InvalidArgument.
    """

    def decorate(fn: F) -> TaskFunction[F]:
        return TaskFunction(fn, capability, **traits)

    return decorate
