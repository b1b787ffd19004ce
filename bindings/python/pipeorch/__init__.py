"""pipeorch: durable tasks and pipelines in this process, on a Raft-replicated control plane, without a server to install.

    import pipeorch

    worker = pipeorch.Worker()              # no controllers: it is a cluster of its own

    @worker.task("greet:person")
    def greet(name: str) -> str:
        return f"Hello, {name}"

    with worker:
        print(worker.client.submit(greet, "Ada").result())

Names are loaded when they are first used, so that importing this package takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from ._ffi import library_version
from .errors import Error

if TYPE_CHECKING:
    from ._ops import Placement, TaskOptions, TaskResult
    from ._store import Store, share
    from ._task import TaskFunction, task
    from .aclient import AsyncClient, AsyncRunHandle, AsyncTaskHandle
    from .answers import Answer, Answers, draw
    from .client import Client, RunFailed, RunHandle, TaskFailed, TaskHandle
    from .context import Context, Final, Progress, current
    from .node import Node, NodeStatus
    from .pipelines import InvalidPipeline, Pipeline, error_of, exists, index, item, length, pipeline, state_of, step, this_run
    from .statemachine import StateMachine
    from .watch import Event, Position, Watch
    from .worker import Worker

# Where a name comes from when it is used; tests hold this, the imports above and __all__ together.
_MODULES = {
    "_ops": "Placement TaskOptions TaskResult",
    "_store": "Store share",
    "_task": "TaskFunction task",
    "aclient": "AsyncClient AsyncRunHandle AsyncTaskHandle",
    "answers": "Answer Answers draw",
    "client": "Client RunFailed RunHandle TaskFailed TaskHandle",
    "context": "Context Final Progress current",
    "node": "Node NodeStatus",
    "pipelines": "InvalidPipeline Pipeline error_of exists index item length pipeline state_of step this_run",
    "statemachine": "StateMachine",
    "watch": "Event Position Watch",
    "worker": "Worker",
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names.split()}

__version__ = library_version
__all__ = [
    "Error",
    "errors",
    "library_version",
    "Placement",
    "TaskOptions",
    "TaskResult",
    "Store",
    "share",
    "TaskFunction",
    "task",
    "AsyncClient",
    "AsyncRunHandle",
    "AsyncTaskHandle",
    "Answer",
    "Answers",
    "draw",
    "Client",
    "RunFailed",
    "RunHandle",
    "TaskFailed",
    "TaskHandle",
    "Context",
    "Final",
    "Progress",
    "current",
    "Node",
    "NodeStatus",
    "InvalidPipeline",
    "Pipeline",
    "error_of",
    "exists",
    "index",
    "item",
    "length",
    "pipeline",
    "state_of",
    "step",
    "this_run",
    "StateMachine",
    "Event",
    "Position",
    "Watch",
    "Worker",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'pipeorch' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted([*globals(), *_WHERE])
