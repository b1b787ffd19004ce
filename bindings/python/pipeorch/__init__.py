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
    from ._task import TaskFunction, task
    from .aclient import AsyncClient
    from .client import Client, RunHandle, TaskFailed, TaskHandle
    from .context import Context, Final, Progress, current
    from .node import Node
    from .statemachine import StateMachine
    from .watch import Watch
    from .worker import Worker

_WHERE = {
    "Placement": "_ops",
    "TaskOptions": "_ops",
    "TaskResult": "_ops",
    "TaskFunction": "_task",
    "task": "_task",
    "AsyncClient": "aclient",
    "Client": "client",
    "RunHandle": "client",
    "TaskFailed": "client",
    "TaskHandle": "client",
    "Context": "context",
    "Final": "context",
    "Progress": "context",
    "current": "context",
    "Node": "node",
    "StateMachine": "statemachine",
    "Watch": "watch",
    "Worker": "worker",
}

__version__ = library_version
__all__ = ["Error", "errors", "library_version", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'pipeorch' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted([*globals(), *_WHERE])
