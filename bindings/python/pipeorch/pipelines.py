"""Pipelines written as Python functions.

    @task("clean:table")
    def clean(path: str) -> dict: ...

    @task("train:model", retries=5)
    def train(rows: list, epochs: int) -> dict: ...

    @pipeline
    def nightly(path: str, epochs: int = 3):
        table = clean(path)                                     # a step; `table` is a reference to its output
        return train.options(when=table.count > 0)(table.rows, epochs)

    nightly.run("a.csv", local=True)                            # in this process
    nightly.submit(client, "a.csv")                             # in a cluster

The function runs when the pipeline is used, to build the document; each call of a task, a `step(...)` or another pipeline adds a step. The
document is the one that `poctl pipeline define` takes: `nightly.document`, `nightly.to_json()`, `Pipeline.from_json(text)`.
"""

from __future__ import annotations

import copy
import inspect
import os
import threading
from typing import (
    TYPE_CHECKING,
    Any,
    Awaitable,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    overload,
)

from . import _document, _encode, _ffi, _params
from ._encode import EncodeError
from ._expr import Reference, error_of, exists, index, item, length, state_of, this_run
from ._options import StepOptions
from ._steps import Builder, PipelineTarget, StepFunction, TaskTarget, current, step
from ._task import TaskFunction
from ._wait import Handle
from .client import Client, RunHandle
from .errors import InvalidArgument

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .aclient import AsyncClient, AsyncRunHandle
    from .client import Key
    from .local import LocalRun
    from .worker import Worker

C = TypeVar("C")

__all__ = [
    "InvalidPipeline",
    "Pipeline",
    "Reference",
    "StepFunction",
    "error_of",
    "exists",
    "index",
    "item",
    "length",
    "pipeline",
    "state_of",
    "step",
    "this_run",
]

class InvalidPipeline(InvalidArgument):
    """A pipeline's document is wrong. problems: all of them, a sentence each, with its place."""

    def __init__(self, name: str, problems: List[str]) -> None:
        count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
        super().__init__(f"pipeline {name!r} has {count}:\n  " + "\n  ".join(problems))
        self._name = name
        self.problems = problems

    def __reduce__(self) -> Any:
        return type(self), (self._name, self.problems)

    def __str__(self) -> str:
        return self.message


class _Built(NamedTuple):
    document: Dict[str, Any]
    text: str  # that is checked
    places: Mapping[str, str]  # step name -> "flow.py:12"
    tasks: List[TaskFunction[Any]]
    pipelines: List[Pipeline]


class Pipeline:
    """A pipeline: what `@pipeline` makes of a function, or `Pipeline.from_json` of a document.

    Called in the function of another pipeline it is a step of that one. Attributes: name; fn, the function, or None.
    """

    def __init__(self, name: str, fn: Optional[Callable[..., Any]] = None, **about: Any) -> None:
        self.name = name
        self.fn = fn
        self._about = about
        self._lock = threading.RLock()
        self._parameters: Optional[Dict[str, _params.Param]] = None
        self._made: Optional[_Built] = None
        if fn is not None:
            self.__doc__ = fn.__doc__
            self.__module__ = fn.__module__

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def __reduce__(self) -> Any:
        """Pickled by the name of its function, as functions are; without one, by its document."""
        return self.fn.__qualname__ if self.fn is not None else (Pipeline.from_json, (self.document,))

    # ---- the document ----

    def _repr_html_(self) -> str:
        from ._html import one

        return one(self.document)

    @classmethod
    def from_json(cls, source: Union[str, bytes, Mapping[str, Any], "os.PathLike[str]"]) -> Pipeline:
        """The pipeline that a document describes: JSON text, a mapping, or the path of a file.

        What else is wrong with it than its syntax is told by `validate`. Raises InvalidArgument, OSError."""
        place = None
        if isinstance(source, os.PathLike):
            place = os.fspath(source)
            with open(source, "rb") as file:
                source = file.read()
        if isinstance(source, (str, bytes)):
            text, document = _document.parsed(source, place or "the document")
        else:
            document = copy.deepcopy(dict(source))
            text = _document.text(document, None)
        made = cls(str(document.get("name", "")), None, place=place)
        made._made = _Built(document, text, {}, [], [])
        return made

    @property
    def document(self) -> Dict[str, Any]:
        """The document, as json.loads returns it: a copy."""
        return copy.deepcopy(self._anew().document)

    def to_json(self, indent: Optional[int] = 2) -> str:
        """The document as text: what `poctl pipeline define` and `Pipeline.from_json` take."""
        return _document.text(self._anew().document, indent)

    @property
    def steps(self) -> List[Dict[str, Any]]:
        """The steps of the document."""
        steps: List[Dict[str, Any]] = self.document.get("steps", [])
        return steps

    @property
    def edges(self) -> List[Tuple[str, str]]:
        """Pairs of names of steps: the second one depends on the first."""
        found: Dict[Tuple[str, str], None] = {}
        for step in self._anew().document.get("steps", []):
            found.update(((before, step["name"]), None) for before in step.get("depends_on", ()))
            if "next_node" in step:
                found[step["name"], step["next_node"]] = None
        return list(found)

    @property
    def tasks(self) -> List[TaskFunction[Any]]:
        """The functions of this program that its steps and those of its pipelines call: what a worker has to serve."""
        found = {id(task): task for pipeline in self._all() for task in pipeline._built.tasks}
        return list(found.values())

    @property
    def _built(self) -> _Built:
        with self._lock:
            if self._made is None:
                self._made = self._build()
            return self._made

    def _anew(self) -> _Built:
        """Built from what its function calls now, which in a notebook changes: each use of a pipeline begins with this."""
        with self._lock:
            if self.fn is not None:
                self._made = None
            return self._built

    @property
    def _declared(self) -> Optional[Dict[str, _params.Param]]:
        if self.fn is None:
            return _params.of_document(self._built.document)
        if self._parameters is None:
            self._parameters = _params.of_function(self.fn)
        return self._parameters

    def _bind(self, args: Tuple[Any, ...], kwargs: Mapping[str, Any]) -> Dict[str, Any]:
        return _params.bind(f"pipeline {self.name!r}", self._declared, args, kwargs)

    def _build(self) -> _Built:
        assert self.fn is not None
        params = self._declared or {}
        builder = Builder(self.name)
        given = {
            name: Reference(f"params.{name}", f"the param {name!r}", builder, shape=param.shape) for name, param in params.items()
        }
        positional = [p.name for p in inspect.signature(self.fn).parameters.values() if p.kind is p.POSITIONAL_ONLY]
        token = current.set(builder)
        try:
            output = self.fn(*[given.pop(name) for name in positional], **given)
        finally:
            current.reset(token)
        if not builder.steps:
            raise InvalidArgument(f"pipeline {self.name!r} has no step: its function calls no task, step(...) or other pipeline")
        document = _document.assembled(self.name, self._about, params, builder, output)
        tasks = {id(t.function): t.function for t in builder.targets if isinstance(t, TaskTarget)}
        pipelines = {id(t.pipeline): t.pipeline for t in builder.targets if isinstance(t, PipelineTarget) and t.pipeline is not None}
        return _Built(document, _document.text(document, None), builder.places, list(tasks.values()), list(pipelines.values()))

    def _all(self) -> List[Pipeline]:
        """The pipelines that this one runs, before those that run them, and itself at the end. Raises InvalidArgument."""
        found: Dict[str, Pipeline] = {}

        def visit(pipeline: Pipeline, above: Tuple[str, ...]) -> None:
            if pipeline.name in above:
                raise InvalidArgument(f"the pipelines run each other without end: {' -> '.join([*above, pipeline.name])}")
            other = found.get(pipeline.name)
            if other is not None and other is not pipeline:
                raise InvalidArgument(f"two pipelines that {self.name!r} runs are called {pipeline.name!r}; names must be unique")
            for below in pipeline._anew().pipelines:
                visit(below, (*above, pipeline.name))
            found[pipeline.name] = pipeline

        visit(self, ())
        return list(found.values())

    def validate(self) -> None:
        """Check it, and the pipelines that it runs, without a cluster. Raises InvalidPipeline, which lists all problems."""
        self._valid()

    def _valid(self) -> List[Pipeline]:
        """The pipelines that it runs, and itself: see _all."""
        pipelines = self._all()
        for pipeline in pipelines:
            pipeline._validate()
        return pipelines

    def _validate(self) -> None:
        built = self._built
        said = _ffi.pipeline_validate(built.text.encode(), self._about.get("place"))
        if said is not None:
            raise InvalidPipeline(self.name, [_placed(line, built) for line in said.splitlines()])

    # ---- in other pipelines ----

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """In a `@pipeline`: add a step that runs this one, with these params. Returns a reference to its result."""
        if current.get() is None:
            raise TypeError(
                f"pipeline {self.name!r} is called outside of a pipeline; "
                "use run(..., local=True), run(..., client=...) or submit(client, ...)"
            )
        return self.options()(*args, **kwargs)

    def options(self, **options: Unpack[StepOptions]) -> StepFunction:
        """In a `@pipeline`: what adds steps that run this one, with these options: see `StepFunction.options`."""
        return StepFunction(PipelineTarget(self.name, self), {}).options(**options)

    def map(self, items: Any, /, *args: Any, **kwargs: Any) -> Any:
        """In a `@pipeline`: a step that runs this one for each element: see `StepFunction.map`."""
        return self.options().map(items, *args, **kwargs)

    # ---- in a cluster, or here ----

    @overload
    def define(self, client: Client) -> None: ...
    @overload
    def define(self, client: AsyncClient) -> Awaitable[None]: ...
    def define(self, client: Any) -> Any:
        """Define it in a cluster, and before it the pipelines that it runs. To be awaited with an AsyncClient.

        Raises InvalidPipeline, and what client.define_pipeline does."""
        texts = [pipeline._built.text for pipeline in self._valid()]
        if not _blocking(client):
            return _define_async(client, texts)
        for text in texts:
            client.define_pipeline(text)
        return None

    @overload
    def submit(
        self,
        client: Client,
        /,
        *args: Any,
        key: Key = None,
        zone: Optional[str] = None,
        priority: int = 0,
        define: bool = True,
        **params: Any,
    ) -> RunHandle: ...
    @overload
    def submit(
        self,
        client: AsyncClient,
        /,
        *args: Any,
        key: Key = None,
        zone: Optional[str] = None,
        priority: int = 0,
        define: bool = True,
        **params: Any,
    ) -> Awaitable[AsyncRunHandle]: ...
    def submit(
        self, client: Any, /, *args: Any, key: Key = None, zone: Optional[str] = None, priority: int = 0, define: bool = True, **params: Any
    ) -> Any:
        """Define it in a cluster and start a run. To be awaited with an AsyncClient.

        args, params: the run's params, by position or by name; those that are called as an option here, by position. key:
        idempotency key; with the same key the same run is answered again. zone: preferred for its tasks. priority: 0 to 9.
        define: False: a definition that the cluster has already is used as it is.

        Raises TypeError (of the params), InvalidPipeline, and what client.start_run does."""
        given = self._bind(args, params)
        options = {"params": given or None, "key": key, "zone": zone, "priority": priority}
        if not _blocking(client):
            return self._submit_async(client, define, options)
        if define:
            self.define(client)
        return client.start_run(self.name, **options)

    async def _submit_async(self, client: AsyncClient, define: bool, options: Dict[str, Any]) -> AsyncRunHandle:
        if define:
            await self.define(client)
        return await client.start_run(self.name, **options)

    def run(
        self,
        *args: Any,
        local: bool = False,
        client: Optional[Client] = None,
        timeout: Optional[float] = None,
        tasks: Sequence[Union[TaskFunction[Any], Worker, Pipeline]] = (),
        **params: Any,
    ) -> Any:
        """Run it to its end and return its result.

        args, params: the run's params, as of `submit`. local: in this process, without a server: its tasks run on threads
        here, by the same engine that a cluster has; where its steps want to be placed does not count. tasks: what serves steps
        that are only named, by `step(...)` or in a document: functions, workers with theirs, pipelines; only with local.
        client: in that cluster; None, without local: in that of the environment variable PO_CONTROLLERS. timeout: seconds;
        None: as long as it takes. A local run ends with the call, whatever ends it, Ctrl-C included; one in a cluster goes on
        when its caller is interrupted.

        Raises TypeError (of the params), InvalidPipeline, RunFailed, TimedOut, NoCapability (local: nobody serves a step)."""
        if local:
            return self._local(args, params, client, tasks, timeout).result()
        _refuse_tasks(tasks)
        if client is not None:
            if not _blocking(client):
                raise InvalidArgument("the client is an AsyncClient; use `await pipeline.arun(...)`, or a Client")
            return self.submit(client, *args, **params).result(_seconds(timeout))
        with self._client_of(Client) as own:
            return self.submit(own, *args, **params).result(_seconds(timeout))

    async def arun(
        self,
        *args: Any,
        local: bool = False,
        client: Optional[AsyncClient] = None,
        timeout: Optional[float] = None,
        tasks: Sequence[Union[TaskFunction[Any], Worker, Pipeline]] = (),
        **params: Any,
    ) -> Any:
        """As `run`, awaited, with an AsyncClient. Local: tasks that are coroutines run on an event loop of their own thread;
        cancelling ends the run."""
        if local:
            return await self._local(args, params, client, tasks, timeout).awaited()
        _refuse_tasks(tasks)
        if client is not None:
            if _blocking(client):
                raise InvalidArgument("the client is a Client, which would hold up the event loop; use an AsyncClient")
            return await (await self.submit(client, *args, **params)).result(_seconds(timeout))
        from .aclient import AsyncClient

        async with self._client_of(AsyncClient) as own:
            return await (await self.submit(own, *args, **params)).result(_seconds(timeout))

    def _local(self, args: Any, params: Any, client: Any, tasks: Any, timeout: Optional[float]) -> LocalRun:
        from .local import LocalRun

        if client is not None:
            raise InvalidArgument("local=True and client are both given; expected one of them")
        return LocalRun(self, self._bind(args, params), tasks, timeout)

    def _client_of(self, kind: Callable[[], C]) -> C:
        """Of the environment's cluster."""
        try:
            return kind()
        except InvalidArgument as e:
            where = f"where should pipeline {self.name!r} run? Give local=True to run it here, or client=..."
            raise InvalidArgument(f"{where}; {e.message}") from None


async def _define_async(client: AsyncClient, texts: List[str]) -> None:
    for text in texts:
        await client.define_pipeline(text)


def _refuse_tasks(tasks: Sequence[Any]) -> None:
    if tasks:
        raise InvalidArgument("tasks are given for a run that is not local; give them to a worker of the cluster")


def _seconds(timeout: Optional[float]) -> float:
    return float("inf") if timeout is None else timeout


def _blocking(client: Any) -> bool:
    if isinstance(client, Client):
        return True
    if any(kind.__name__ == "AsyncClient" for kind in type(client).__mro__):
        return False
    hint = "; give its client" if isinstance(client, Handle) else ""  # a node, a worker
    raise InvalidArgument(f"the client is {client!r}; expected a Client or an AsyncClient{hint}")


def _placed(line: str, built: _Built) -> str:
    """A problem of a document that a function built is about a line of that function."""
    if not built.places:
        return line
    problem = line.split(": ", 1)[1]
    number = problem[len("/steps/") :].split("/")[0].split(":")[0] if problem.startswith("/steps/") else ""
    if not number.isdigit():
        return problem
    name = built.document["steps"][int(number)]["name"]
    return f"{problem} (step {name!r}, {built.places[name]})"


# ---- the decorator ----


@overload
def pipeline(name: Callable[..., Any], /) -> Pipeline: ...
@overload
def pipeline(
    name: Optional[str] = None,
    /,
    *,
    version: Optional[str] = None,
    description: Optional[str] = None,
    aliases: Optional[Mapping[str, str]] = None,
) -> Callable[[Callable[..., Any]], Pipeline]: ...
def pipeline(
    name: Any = None,
    /,
    *,
    version: Optional[str] = None,
    description: Optional[str] = None,
    aliases: Optional[Mapping[str, str]] = None,
) -> Any:
    """Make a function a pipeline: it runs when the pipeline is used, and the tasks that it calls become steps.

    The function's parameters become the pipeline's params, with types and defaults from their hints; Annotated[str, "text"]
    describes one. What it returns is the result of a run: the output of a step, or a value with references in it; None: the
    output of the last step.

    name: None: the function's. version: a label of yours. description: for people; None: the first paragraph of the
    function's docstring. aliases: of capabilities, for `step(alias)`: {"fit": "trend:line@^1.0"}.
    """

    def decorate(fn: Callable[..., Any]) -> Pipeline:
        if isinstance(fn, (TaskFunction, Pipeline)) or not callable(fn):
            raise InvalidArgument(f"@pipeline decorates {fn!r}; expected a function")
        said = description
        if said is None and fn.__doc__:
            said = " ".join(inspect.cleandoc(fn.__doc__).split("\n\n")[0].split())
        about = {"version": version, "description": said, "service_registry": dict(aliases) if aliases is not None else None}
        return Pipeline(name if isinstance(name, str) else fn.__name__, fn, **about)

    if name is None or isinstance(name, str):
        return decorate
    return decorate(name)


def _not_called(value: Any) -> Any:
    raise EncodeError(f"{value!r} is given, which is not called yet; give what its call returns")


for _kind in (TaskFunction, StepFunction, Pipeline):
    _encode.register(_kind, _not_called)
