"""A run of a pipeline in this process: a standalone worker, which has a control node of its own, serves its tasks."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ._handler import failure_of
from ._ops import Placement
from ._plan import nearest
from ._task import TaskFunction
from ._wait import deadline
from .client import RunFailed
from .errors import Error, InvalidArgument, NoCapability, TimedOut
from .pipelines import Pipeline
from .worker import Worker

if TYPE_CHECKING:
    from .client import Client, RunHandle
    from .context import Context

Given = Union[TaskFunction[Any], Worker, Pipeline]

_DRAIN = 2.0  # seconds that tasks get to end when the run was interrupted
_RAISED_MAX = 100  # exceptions of tasks that are kept, the latest ones
_SHOWN_MAX = 5  # steps in a message
_BEGINNING = 200  # characters of an error by which it is known


class _LocalWorker(Worker):
    """A worker that keeps what its functions raised, for whoever looks for the traceback."""

    def __init__(self) -> None:
        super().__init__("local", [], drain=_DRAIN)
        self.raised: Deque[BaseException] = collections.deque(maxlen=_RAISED_MAX)

    def _fail(self, context: Context, e: BaseException) -> None:
        self.raised.append(e)
        super()._fail(context, e)


class LocalRun:
    """A run of a pipeline, in this process: see Pipeline.run. Raises what is wrong with it at once."""

    def __init__(self, pipeline: Pipeline, params: Mapping[str, Any], more: Sequence[Given], timeout: Optional[float]) -> None:
        _check_given(more)
        if timeout is not None:
            deadline(timeout)  # what is wrong with it is told here
        pipeline.validate()
        pipelines = {p.name: p for given in (*more, pipeline) if isinstance(given, Pipeline) for p in given._all()}
        self._pipeline = pipeline
        self._params = params
        self._timeout = timeout
        self._documents = [_without_placement(p.document) for p in pipelines.values()]
        self._worker = _worker([*(task for p in pipelines.values() for task in p._built.tasks), *more])
        self._lock = threading.Lock()
        self._run: Optional[RunHandle] = None
        self._cancelled = False
        _check_names(self._documents, self._worker)

    def result(self) -> Any:
        """Run it, once; its result."""
        with self._worker as worker:
            client = worker.client
            _check_versions(self._documents, client)
            for document in self._documents:
                client.define_pipeline(document)
            run = client.start_run(self._pipeline.name, params=self._params or None)
            with self._lock:
                self._run = run
                cancelled = self._cancelled
            try:
                if cancelled:
                    _cancel(run)
                return run.result(float("inf") if self._timeout is None else self._timeout)
            except RunFailed as e:
                raise e from self._cause(e.run["error"] or "")
            except TimedOut:
                under_way = _under_way(run)
                _cancel(run)
                raise TimedOut(f"pipeline {self._pipeline.name!r} did not end within {self._timeout:g} s: {under_way}") from None
            except BaseException:  # Ctrl-C, too: nothing goes on
                _cancel(run)
                raise

    async def awaited(self) -> Any:
        """As `result`, which runs on a thread. Cancelling ends the run."""
        own = concurrent.futures.ThreadPoolExecutor(1, "pipeorch-run")  # the loop's has few threads, which others want, too
        try:
            future = asyncio.get_running_loop().run_in_executor(own, self.result)
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                self._stop()
                await asyncio.wait([future])
                future.exception()  # that it was cancelled
                raise
        finally:
            own.shutdown(wait=False)

    def _stop(self) -> None:
        """From another thread."""
        with self._lock:
            self._cancelled = True
            run = self._run
        if run is not None:
            _cancel(run)

    def _cause(self, error: str) -> Optional[BaseException]:
        """What a function raised, by the error of the run, which ends with the error of the task."""
        raised = self._worker.raised.copy()  # other tasks may still fail
        return next((e for e in reversed(raised) if _ends_with(error, failure_of(e)[0])), None)


def _without_placement(document: Dict[str, Any]) -> Dict[str, Any]:
    for step in document["steps"]:
        step.pop("placement", None)
    return document


def _check_given(tasks: Any) -> None:
    expected = "functions decorated with @task, workers that have some, or pipelines"
    if not isinstance(tasks, (list, tuple)):
        raise InvalidArgument(f"tasks is {tasks!r}; expected a list of {expected}")
    for one in tasks:
        if not isinstance(one, (TaskFunction, Worker, Pipeline)):
            raise InvalidArgument(f"tasks has {one!r}; expected {expected}")


def _worker(given: Sequence[Given]) -> _LocalWorker:
    functions: List[TaskFunction[Any]] = []
    for one in given:
        functions += one._functions if isinstance(one, Worker) else [one] if isinstance(one, TaskFunction) else []
    worker = _LocalWorker()
    served: Dict[str, TaskFunction[Any]] = {}
    for function in functions:
        other = served.setdefault(function.capability, function)
        if other is not function:
            raise InvalidArgument(f"{other!r} and {function!r} have the same capability; one of them would never run")
    for function in served.values():
        worker.add(function)
    return worker


# ---- what nobody here serves: such a step would wait for ever ----


def _wanted(documents: Sequence[Mapping[str, Any]]) -> List[Tuple[str, str, str, str]]:
    """Pipeline, step, capability and range of versions of all steps that are tasks."""
    found = []
    for document in documents:
        aliases = document.get("service_registry", {})
        for step in document["steps"]:
            if "capability" in step:
                capability, _, versions = aliases.get(step["capability"], step["capability"]).partition("@")
                found.append((document["name"], step["name"], capability, versions))
    return found


def _check_names(documents: Sequence[Mapping[str, Any]], worker: Worker) -> None:
    names = [function.capability for function in worker._functions]
    known = {document["name"] for document in documents}
    problems = [
        f"step {step!r} of pipeline {pipeline!r} needs {capability!r}{nearest(capability, names)}"
        for pipeline, step, capability, _ in _wanted(documents)
        if capability not in names
    ]
    if problems:
        raise NoCapability(_list("no function here serves a step, which would wait for ever; give it with tasks=[...]", problems))
    unknown = [
        f"step {step['name']!r} of pipeline {document['name']!r} runs {step['pipeline']!r}"
        for document in documents
        for step in document["steps"]
        if step.get("pipeline", document["name"]) not in known
    ]
    if unknown:
        raise InvalidArgument(_list("a pipeline is only known by its name; call the Pipeline itself, or give it with tasks=[...]", unknown))


def _check_versions(documents: Sequence[Mapping[str, Any]], client: Client) -> None:
    """The control node knows best which version is in which range."""
    problems = []
    for pipeline, step, capability, versions in _wanted(documents):
        if not versions:
            continue
        try:
            client.route(capability, placement=Placement(version=versions))
        except NoCapability:
            offered = client.route(capability)["version"]
            problems.append(f"step {step!r} of pipeline {pipeline!r} needs {capability}@{versions}, and {offered} is here")
    if problems:
        raise NoCapability(_list("no function here has the version that a step needs", problems))


def _list(what: str, problems: Sequence[str]) -> str:
    return f"{what}: {problems[0]}" if len(problems) == 1 else what + ":\n  " + "\n  ".join(problems)


# ---- how it ended ----


def _under_way(run: RunHandle) -> str:
    running = [f"step {step['name']!r}" for step in run.info()["steps"] if step["state"] == "running"]
    more = f" and {len(running) - _SHOWN_MAX} more" if len(running) > _SHOWN_MAX else ""
    return f"{', '.join(running[:_SHOWN_MAX]) or 'no step'}{more} was running"


def _ends_with(error: str, text: str) -> bool:
    """Of long texts runs and steps keep the beginning."""
    at = error.rfind(text[:_BEGINNING])
    return at >= 0 and text.startswith(error[at:])


def _cancel(run: RunHandle) -> None:
    try:
        run.cancel()
    except Error:  # WrongState: it ended meanwhile; Closed, OutcomeUnknown: so does its worker, with whatever runs
        pass
