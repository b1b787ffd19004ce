"""Steps while a pipeline is built: what calling a task, a capability or a pipeline adds to the pipeline that calls it."""

from __future__ import annotations

import contextvars
import itertools
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, NamedTuple, NoReturn, Optional, Tuple

from . import _task
from ._encode import EncodeError, encode
from ._expr import Expression, Reference, has_references, mentions, reference, root_of, shown, step_path, template
from ._options import StepOptions, checked, fields
from ._plan import InputError
from ._shape import Shape, described, fits
from ._task import TaskFunction
from .errors import InvalidArgument
from .schema import bind

if TYPE_CHECKING:
    from typing_extensions import Protocol, Unpack

    from .pipelines import Pipeline

    class Target(Protocol):
        """What a step does."""

        key: str  # of the document: "capability" or "pipeline"
        value: str  # of that key
        name: str  # that a step of it has, unless it is given one
        call: str  # how it is written in the code, for messages
        defaults: Mapping[str, Any]  # options

        @property
        def output(self) -> Optional[Shape]:
            """What is known of what it returns."""

        def input(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
            """What a step gets that is called with these arguments, or NOTHING. Raises TypeError, EncodeError."""


NOTHING: Any = object()
"""Of what is not said."""

_numbers = itertools.count(1)


class Builder:
    """A pipeline while its function runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = next(_numbers)
        self.steps: List[Dict[str, Any]] = []
        self.places: Dict[str, str] = {}  # step name -> "flow.py:12", where it was added
        self.mentioned: Dict[str, Reference] = {}  # path -> what texts refer to
        self.targets: List[Target] = []

    def find(self, number: int, path: str) -> Reference:
        """What a text refers to."""
        if number == 0:
            return Reference(path, path)
        if number != self.number:
            raise InvalidArgument(f"{path} belongs to another pipeline; hand it over as a param of {self.name!r}")
        return self.mentioned[path]

    def add(self, step: StepCall) -> Reference:
        """Add a step; a reference to its output. Raises TypeError, EncodeError, InvalidArgument."""
        name = self._free_name(step)
        uses: List[Reference] = []
        document: Dict[str, Any] = {"name": name, step.target.key: _versioned(step)}
        options = fields(step.options)
        mapped = self._template(step.over, uses, element=False)
        within = self._template(step.input, uses, element=step.over is not NOTHING)
        condition = self._condition(step.options.get("when"), uses)
        uses += self._after(step.options.get("after", ()))
        before = {use._step for use in uses}
        parts = {
            "depends_on": [earlier["name"] for earlier in self.steps if earlier["name"] in before] or None,
            "join": options.pop("join", None),
            "when": condition,
            "map": mapped,
            "map_parallel": step.options.get("parallel"),
            "input": within,
            "config": _config(step.options.get("config")),
            **options,
        }
        self._check_join(name, uses, parts["join"])
        document.update((key, value) for key, value in parts.items() if value is not None)
        self.steps.append(document)
        self.places[name] = step.place
        self.targets.append(step.target)
        shape = step.target.output
        if step.over is not NOTHING:
            shape = Shape({"type": "array", "items": shape.schema}, shape.defs) if shape else Shape({"type": "array"})
        return Reference(step_path(name, "output"), f"the output of step {name!r}", self, name, shape)

    def _free_name(self, step: StepCall) -> str:
        name = step.options.get("name")
        if name is not None:
            if not isinstance(name, str):
                raise InvalidArgument(f"name is {shown(name)}; expected a text")
            if name in self.places:
                raise InvalidArgument(f"the name {name!r} is that of the step at {self.places[name]}; give this one another")
            return name
        name, number = step.target.name, 1
        while name in self.places:
            number += 1
            name = f"{step.target.name}_{number}"
        return name

    def _template(self, value: Any, uses: List[Reference], *, element: bool) -> Any:
        if value is NOTHING:
            return None
        if value is None:
            raise InvalidArgument("the whole input is None, which a step cannot be given; put it into an object or a list")
        made, found = template(value, self)
        uses += self.own(found, element=element)
        return made

    def own(self, uses: Iterable[Reference], *, element: bool) -> List[Reference]:
        """The references, which must mean something here."""
        found = list(uses)
        for use in found:
            if use._builder is not None and use._builder is not self:
                raise InvalidArgument(f"{use._text} belongs to another pipeline; hand it over as a param of {self.name!r}")
            if not element and root_of(use._text) in ("item", "index"):
                raise InvalidArgument(f"{use._text} is there in the arguments of task.map(...) only, for each element")
        return found

    def _condition(self, when: Any, uses: List[Reference]) -> Optional[str]:
        if when is None:
            return None
        if not isinstance(when, Expression):
            hint = " (Python has computed it already: `is`, `not` and `in` do not make conditions)" if isinstance(when, bool) else ""
            raise InvalidArgument(f"when is {shown(when)}{hint}; expected a condition such as out.rows > 0 or length(out.files) == 1")
        uses += self.own(when._uses, element=False)
        return when._text

    def _after(self, after: Any) -> List[Reference]:
        found = list(after) if isinstance(after, (list, tuple)) else [after]
        for step in found:
            if not isinstance(step, Reference) or step._step is None:
                hint = "; it is not called yet" if isinstance(step, (TaskFunction, StepFunction)) else ""
                raise InvalidArgument(
                    f"after has {shown(step)}{hint}; expected the output of a step, as its call returned it, or a list of them"
                )
        return self.own(found, element=False)

    def _check_join(self, name: str, uses: List[Reference], join: Optional[str]) -> None:
        for use in uses:
            if join is None and use._step is not None and not use._text.startswith(step_path(use._step, "output")):
                raise InvalidArgument(
                    f"step {name!r} looks at {use._described()}, but is skipped unless all steps before it succeeded; "
                    'give it options(join="all_done") or options(join="any_succeeded")'
                )


current: "contextvars.ContextVar[Optional[Builder]]" = contextvars.ContextVar("pipeorch_builder", default=None)
_task.building = current.get


class StepCall(NamedTuple):
    """A step that is about to be added."""

    target: Target
    options: Mapping[str, Any]
    input: Any
    over: Any  # what it maps over, or NOTHING
    place: str


def _versioned(step: StepCall) -> str:
    value, version = step.target.value, step.options.get("version")
    if version is None:
        return value
    if "@" in value:
        raise InvalidArgument(f"{value!r} names its versions already; leave options(version={version!r}) out")
    return f"{value}@{version}"


def _config(config: Any) -> Any:
    made = encode(config)
    if has_references(made):
        raise InvalidArgument(f"config is {shown(made)}; it is handed over as it is, and only arguments can have references in them")
    return made


class StepFunction:
    """Adds steps to the pipeline that is being built: called as the task, capability or pipeline that it stands for.

    Made by `task.options(...)`, `pipeorch.step(...)` and `pipeline.options(...)`.
    """

    def __init__(self, target: Target, options: Mapping[str, Any]) -> None:
        self._target = target
        self._options = options

    def __repr__(self) -> str:
        return f"<steps {self._target.call}>"

    def options(self, **options: Unpack[StepOptions]) -> StepFunction:
        """The same with options.

        name: of the step; None: the function's, with a number if it is taken. after: steps, by their outputs, that must be over
        besides those whose outputs are used. join: what if they did not all succeed: "all_succeeded": it is skipped,
        "all_done": it runs all the same, "any_succeeded": one is enough. when: a condition; false: it is skipped.
        retries: 0 to 99 further attempts; 2. retry_delay: seconds before the second attempt, doubled from there on up to
        retry_delay_max. timeout: seconds of one attempt, 0.1 to 86400; 600. on_failure: "fail" the run, or "continue".
        priority: 0 to 9. placement: where it may run. version: range of versions, "^1.2". cache: take the output of an
        earlier task with equal input; a number: at most so many seconds old. config: handed over as it is. parallel: elements
        of a map under way at once, 1 to 1024; 256. description: for people.

        Raises TypeError, InvalidArgument.
        """
        merged = {**self._options, **checked(options, self._target.call, of_pipeline=self._target.key == "pipeline")}
        fields(merged)  # what is wrong with them is told here
        return StepFunction(self._target, merged)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add a step. Returns a reference to its output, for other steps, conditions and the pipeline's result."""
        return self._add(args, kwargs, NOTHING)

    def map(self, items: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Add a step that runs for each element of an array, at the same time; its output is the array of outputs.

        items: an output, a param or a part of one that is an array; or a list; of at most 10,000 elements. The element becomes
        the first argument, in front of the others, which all get alike: `resize.map(files, width=640)`. Arguments that have
        `item` in them are taken as they are: `fit.map(parts, source=item.name, place=index)`.
        """
        if not isinstance(items, (Reference, list, tuple, range)):
            what = f"{self._target.call}.map() goes over {shown(items)}"
            self._refuse(TypeError(f"{what}; expected an output, a param, a part of one, or a list"))
        try:
            explicit = mentions(encode([args, kwargs]), "item")
        except EncodeError:
            explicit = True  # the step tells what is wrong, and where
        given = args if explicit else (self._element(items), *args)
        return self._add(given, kwargs, items if isinstance(items, Reference) else list(items))

    def _element(self, items: Any) -> Any:
        """What `item` is, with what is known of it."""
        shape = items._shape if isinstance(items, Reference) else None
        if shape and not fits(shape.types, {"array"}):
            self._refuse(TypeError(f"{self._target.call}.map() goes over {items._described()}, which is {described(shape.types)}"))
        return Reference("item", "an element of the map", current.get(), shape=shape and shape.element)

    def _add(self, args: Tuple[Any, ...], kwargs: Dict[str, Any], over: Any) -> Any:
        builder = current.get()
        if builder is None:
            raise TypeError(f"{self._target.call} is called outside of a pipeline; steps are added in a function decorated with @pipeline")
        if over is NOTHING and "parallel" in self._options:
            self._refuse(TypeError("the option 'parallel' is for map(...), and this is a call"))
        try:
            made = self._target.input(args, kwargs)
            return builder.add(StepCall(self._target, {**self._target.defaults, **self._options}, made, over, place()))
        except (TypeError, EncodeError, InvalidArgument) as e:
            self._refuse(e)

    def _refuse(self, e: Exception) -> NoReturn:
        """With the line that it is about."""
        kind = TypeError if isinstance(e, TypeError) else InvalidArgument
        message = e.message if isinstance(e, InvalidArgument) else str(e)
        what = "" if message.startswith(self._target.call) else f"{self._target.call}: "
        raise kind(f"{what}{message} (at {place()})") from None


def place() -> str:
    """The line of the caller's code, "flow.py:12"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__:
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


# ---- what steps do ----

_STEP_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")


def _verb(capability: str) -> str:
    return capability.split(":", 1)[0]


class TaskTarget:
    """A function of this program."""

    key = "capability"

    def __init__(self, function: TaskFunction[Any]) -> None:
        self.function = function
        self.value = function.capability
        self.call = getattr(function.fn, "__name__", f"task {function.capability}")
        self.name = self.call if _STEP_NAME.match(self.call) else _verb(function.capability)
        self.defaults: Mapping[str, Any] = {
            name: value for name, value in (("retries", function.retries), ("timeout", function.timeout)) if value is not None
        }

    def input(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        signature = self.function.signature
        try:
            made = bind(signature, *args, **kwargs)
        except TypeError as e:
            options = [name for name in kwargs if name in StepOptions.__annotations__ and name not in signature.parameters]
            if not options:
                raise
            raise TypeError(f"{e}; the option of a step is given before the call: {self.call}.options({options[0]}=...)(...)") from None
        self._check(made)
        return made

    @property
    def output(self) -> Optional[Shape]:
        return Shape.of(self.function.signature.output_schema)

    def _check(self, made: Any) -> None:
        """What is known already must fit the type hints; the rest is known when the task runs."""
        signature = self.function.signature
        known = made
        wanted = Shape.of(signature.input_schema)
        if wanted and signature.convention == "object":
            for name, value in made.items():
                _check_type(name, value, wanted.part(name))
        elif wanted:
            _check_type("its argument", made, wanted)
        if signature.convention == "object":
            known = {name: value for name, value in made.items() if not has_references(value)}
        elif has_references(made):
            return
        try:
            signature.decode(known)
        except InputError as e:
            if e.path or known == made:  # without a place: something is missing, which will come from a reference
                raise TypeError(str(e)) from None


def _check_type(name: str, value: Any, wanted: Optional[Shape]) -> None:
    """Of an argument that is known when the pipeline runs. Raises TypeError: it cannot be what is wanted."""
    builder = current.get()
    if builder is None or wanted is None or not isinstance(value, str) or not has_references(value):
        return
    ref = reference(value, builder)
    given = {"string"} if ref is None else ref._shape.types if ref._shape else {"any"}
    if not fits(given, wanted.types):
        what = "a text" if ref is None else f"{ref._described()}, which is {described(given)}"
        raise TypeError(f"{name} is {what}; expected {described(wanted.types)}")


class CapabilityTarget:
    """What workers of any language do."""

    key = "capability"
    output: Optional[Shape] = None

    def __init__(self, capability: str) -> None:
        self.value = capability
        self.name = _verb(capability)
        self.call = f"step({capability!r})"
        self.defaults: Mapping[str, Any] = {}

    def input(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        if len(args) > 1 or (args and kwargs):
            raise TypeError("takes one value, which is the input, or the members of an object by name")
        return encode(args[0]) if args else encode(kwargs) if kwargs else NOTHING


class PipelineTarget:
    """Another pipeline. pipeline: None: it is only known by name."""

    key = "pipeline"
    output: Optional[Shape] = None

    def __init__(self, name: str, pipeline: Optional[Pipeline]) -> None:
        self.pipeline = pipeline
        self.value = self.name = name
        self.call = f"pipeline {name!r}"
        self.defaults: Mapping[str, Any] = {}

    def input(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        if self.pipeline is not None:
            made = self.pipeline._bind(args, kwargs)
            for name, value in made.items():
                declared = (self.pipeline._declared or {}).get(name)
                _check_type(name, value, declared.shape if declared else None)
            return made
        if args:
            raise TypeError("its params are not known here; give them by name")
        return encode(kwargs)


def step(capability: Optional[str] = None, /, *, pipeline: Optional[str] = None, **options: Unpack[StepOptions]) -> StepFunction:
    """A step for a capability that somebody else serves, in whatever language; or for a pipeline that is defined elsewhere.

    capability: "verb:name", "verb:name@^1.2", or an alias that the pipeline has. Call it with one value, which
    is the input; or with the members of an object by name; or with nothing: then the worker gets the run's params, the
    step's config and the output of the step before, as a step of a document that has no "input". pipeline: instead of a
    capability; call it with its params, by name. options: as of `StepFunction.options`.

    Raises TypeError, InvalidArgument.
    """
    if (capability is None) == (pipeline is None):
        raise TypeError('a step has a capability, as in step("verb:name"), or a pipeline, as in step(pipeline="name")')
    for value in (capability, pipeline):
        if value is not None and not isinstance(value, str):
            hint = "functions decorated with @task are called as they are"
            raise TypeError(f"step() is given {shown(value)}; expected a text such as \"verb:name\"; {hint}")
    target: Target = CapabilityTarget(capability) if capability is not None else PipelineTarget(pipeline or "", None)
    return StepFunction(target, {}).options(**options)
