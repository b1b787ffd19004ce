"""Handlers and JSON: how the input of a task becomes the arguments of a function, and back.

`signature_of` looks at a handler once. What it returns decodes the inputs of tasks (on the worker), makes inputs from
the arguments of a call (`bind`, on the side of the client) and has the schemas with which the task is registered.

The input of a task is one JSON value. It is taken by the first of these conventions that fits the parameters, the one
for the Context left aside:

    value   one positional-only parameter, `def f(x, /)`: the input is its value, of whatever type
    model   one parameter that is annotated with a dataclass, TypedDict, NamedTuple or pydantic model: the input is that
    object  anything else: the input is an object that has the parameters as members. Missing members take the
            parameter's default; unknown ones are refused unless there is **kwargs

A parameter without an annotation takes any JSON value as it is. One whose default is None takes null, too.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import _encode, _plan
from ._convert import Compiler
from ._encode import EncodeError, dumps, encode, type_name
from ._plan import ANY, Decode, InputError, JSONSchema, Member, Plan, members_decoder, members_schema, nearest

__all__ = [
    "EncodeError",
    "InputError",
    "JSONSchema",
    "Signature",
    "bind",
    "dumps",
    "encode",
    "register",
    "schema_of",
    "signature_of",
]

_CONTEXT = ("pipeorch.context", "Context")
_LEFT_OUT: Any = object()

# What a function that looks plain returns, if its annotation says so.
_KINDS: Dict[Any, str] = {
    collections.abc.Awaitable: "async",
    collections.abc.Coroutine: "async",
    collections.abc.Generator: "generator",
    collections.abc.Iterator: "generator",
    collections.abc.AsyncGenerator: "async_generator",
    collections.abc.AsyncIterator: "async_generator",
    collections.abc.AsyncIterable: "async_generator",
}


def schema_of(hint: Any, mode: str = "validation") -> Optional[JSONSchema]:
    """The JSON Schema of the values of a type, in the subset that libpipeorch enforces; None if it allows everything.

    mode is the side of pydantic models: "validation" for what they take, "serialization" for what they make.
    Raises TypeError: the type has no JSON form.
    """
    compiler = Compiler(mode)
    return compiler.document(compiler.plan(hint).schema)


def register(
    kind: type, *, encode: Callable[[Any], Any], decode: Callable[[Any], Any], schema: Optional[JSONSchema] = None
) -> None:
    """Give a class a JSON form. encode makes a value that has one, which decode gets back as json.loads returns it.

    decode raises ValueError for what it refuses. Without a schema every JSON value gets as far as decode.
    Signatures that exist already do not change.
    """
    _encode.register(kind, encode)
    _plan.register(kind, decode, schema or {})


class Signature:
    """How one handler takes its input. Made by `signature_of`.

    name            for messages: "classify()"
    kind            "plain", "async", "generator" or "async_generator": what a call returns
    context         the name of the parameter that takes the Context, or None
    convention      "object", "model" or "value"
    parameters      the names of the others, in order; without those of * and **
    input_schema    JSON Schema of the input; None if every value is allowed
    output_schema   of the result; None if nothing is known about it
    """

    __slots__ = (
        "_extra",
        "_parameters",
        "_positional",
        "_read",
        "context",
        "convention",
        "input_schema",
        "kind",
        "name",
        "output_schema",
        "parameters",
    )

    def __init__(self, name: str, kind: str, context: Optional[str], taken: _Taken, output: Optional[JSONSchema]) -> None:
        self.name = name
        self.kind = kind
        self.context = context
        self.convention = taken.convention
        self.parameters = tuple(p.name for p in taken.parameters)
        self.input_schema = taken.schema
        self.output_schema = output
        self._parameters = taken.parameters
        self._positional = taken.positional
        self._extra = taken.extra
        self._read = taken.read

    def decode(self, value: Any, context: Any = _LEFT_OUT) -> Tuple[List[Any], Dict[str, Any]]:
        """The arguments of the call for an input, as json.loads returns it: positional ones and those by name.

        context goes to the parameter that takes it, if there is one; left out, that argument is missing from the call.
        Raises InputError, with the place: "at /epochs: expected an integer, found the string "x"".
        """
        try:
            named: Dict[str, Any] = self._read(value)
        except RecursionError:
            raise InputError("there are too many arrays and objects inside of each other") from None
        if context is not _LEFT_OUT and self.context is not None:
            named[self.context] = context
        return [named.pop(name, default) for name, default in self._positional] if self._positional else [], named


class _Parameter(NamedTuple):
    name: str
    default: Any  # inspect.Parameter.empty: there is none
    by_position: bool  # whether a call may give it by its position

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


class _Taken(NamedTuple):
    """How the input is taken."""

    convention: str
    parameters: List[_Parameter]
    positional: List[Tuple[str, Any]]  # positional-only, with their defaults; the Context's is among them
    extra: bool  # there is **kwargs
    read: Decode  # the input -> the arguments by name
    schema: Optional[JSONSchema]


def signature_of(fn: Callable[..., Any]) -> Signature:
    """Look at a handler: a function, method, functools.partial or object with __call__; plain, async, or a generator.

    Decorators that use functools.wraps are looked through. kind is then that of the function inside, because a plain
    wrapper usually returns what the function inside returned.
    Raises TypeError if the handler cannot be one: an annotation that has no JSON form or that cannot be resolved,
    a parameter *args, two parameters for the Context.
    """
    if isinstance(fn, type) or not callable(fn):
        raise TypeError(f"a handler is a function or an object with __call__, not {fn!r}")
    layers = list(_layers(fn))
    name = getattr(layers[-1], "__name__", type_name(type(fn))) + "()"
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except ValueError:
        raise TypeError(f"{name} does not tell its parameters; wrap it in a function that does") from None
    owner = getattr(layers[-1], "__qualname__", "").rpartition("<locals>.")[2].rpartition(".")[0]
    if owner and parameters and parameters[0].name == "self":
        raise TypeError(
            f"{name} is a method of {owner}, and a task has no object to call it on; decorate what a task can call: "
            f"task(...)(the_object.{layers[-1].__name__}), a staticmethod, or a function"
        )
    hints = _hints(layers[-1], name)
    context = _context_of(parameters, hints, name)
    taken = _take([p for p in parameters if p.name != context], hints, name)
    taken.positional[:] = [
        (p.name, None if p.name == context else p.default) for p in parameters if p.kind is p.POSITIONAL_ONLY
    ]
    if context is not None and taken.extra:
        taken = taken._replace(read=_without(context, taken.read))
    kind = next((kind for kind in map(_kind_of, layers) if kind != "plain"), "plain")
    kind, output = _output(hints.get("return", Any), kind, name)
    return Signature(name, kind, context, taken, output)


def bind(signature: Signature, /, *args: Any, **kwargs: Any) -> Any:
    """The input that makes the handler be called with these arguments, as a value that json can write.

    The Context is not among the arguments. Parameters with a default may be left out, and get it where the task runs.
    Raises TypeError if the arguments do not fit the parameters, EncodeError if one has no JSON form.
    """
    parameters = signature._parameters
    positional = [p.name for p in parameters if p.by_position]
    if len(args) > len(positional):
        takes = f"{len(positional)} positional argument{'' if len(positional) == 1 else 's'}"
        raise TypeError(f"{signature.name} takes {takes}{_listed(positional)}, but {len(args)} were given")
    given: Dict[str, Any] = dict(zip(positional, args))
    for name, value in kwargs.items():
        if name in given:
            raise TypeError(f"{signature.name} got two values for {name!r}, one by position and one by name")
        if name == signature.context:
            raise TypeError(f"{signature.name} gets {name!r} from the worker that runs it; leave it out")
        if name not in signature.parameters and not signature._extra:
            raise TypeError(f"{signature.name} has no parameter {name!r}{nearest(name, signature.parameters)}")
        given[name] = value
    missing = [p.name for p in parameters if p.required and p.name not in given]
    if missing:
        raise TypeError(f"{signature.name} needs {', '.join(map(repr, missing))}, which {'is' if len(missing) == 1 else 'are'} missing")
    if signature.convention == "object":
        return encode(given)
    only = parameters[0]
    return encode(given.get(only.name, only.default))


def _listed(names: List[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


# ---- what a handler is ----


def _layers(fn: Any) -> Iterator[Any]:
    """The handler, then what it wraps, to the function at the bottom."""
    while True:
        yield fn
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif inspect.isroutine(fn):
            return
        else:
            fn = type(fn).__call__


def _kind_of(fn: Any) -> str:
    if inspect.isasyncgenfunction(fn):
        return "async_generator"
    if inspect.iscoroutinefunction(fn):
        return "async"
    return "generator" if inspect.isgeneratorfunction(fn) else "plain"


def _hints(fn: Any, name: str) -> Dict[str, Any]:
    """The annotations, resolved. Of the Context it is enough that it is named, as it may be imported for checkers only."""
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except Exception:  # whatever evaluating an annotation raises: look at them one by one
        pass
    hints: Dict[str, Any] = {}
    for key, annotation in getattr(fn, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={key: annotation})
        try:
            hints.update(typing.get_type_hints(alone, getattr(fn, "__globals__", {}), include_extras=True))
        except Exception as error:
            if str(annotation).strip("'\"").rsplit(".", 1)[-1] != _CONTEXT[1]:
                raise TypeError(
                    f"{name}: the annotation {annotation!r} of {key} cannot be resolved: {error}; "
                    "what it names must be defined at the top level of the handler's module when it is registered"
                ) from None
            hints[key] = _ContextByName
    return hints


class _ContextByName:
    """Stands for an annotation that is called Context and cannot be resolved."""


def _is_context(hint: Any) -> bool:
    """Whether a hint is the Context, or it or None. By name: importing the class would cost more than looking."""
    classes = [hint, *(typing.get_args(hint) if type(None) in typing.get_args(hint) else ())]
    return any(
        base is _ContextByName or (base.__module__, base.__qualname__) == _CONTEXT
        for cls in classes
        if isinstance(cls, type)
        for base in getattr(cls, "__mro__", ())
    )


def _context_of(parameters: List[inspect.Parameter], hints: Dict[str, Any], name: str) -> Optional[str]:
    found = [p.name for p in parameters if _is_context(hints.get(p.name))]
    if len(found) > 1:
        raise TypeError(f"{name} has {len(found)} parameters for the Context ({', '.join(found)}); it gets one")
    return found[0] if found else next((p.name for p in parameters if p.name == "ctx"), None)


# ---- what it takes and returns ----


def _take(parameters: List[inspect.Parameter], hints: Dict[str, Any], name: str) -> _Taken:
    compiler = Compiler("validation")
    rest = {p.kind: p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    plain = [p for p in parameters if p.kind not in rest]
    others = rest.get(inspect.Parameter.VAR_KEYWORD)
    several = rest.get(inspect.Parameter.VAR_POSITIONAL)
    if several is not None and others is None:
        raise TypeError(f"{name}: an input has no place for *{several.name}; take a list instead, {several.name}: list")
    plans = [_plan_of(compiler, p, hints, name) for p in plain]
    known = [_Parameter(p.name, p.default, p.kind is not p.KEYWORD_ONLY) for p in plain]
    if len(plain) == 1 and others is None:
        alone, plan = plain[0], plans[0]
        is_value = alone.kind is alone.POSITIONAL_ONLY
        if is_value or compiler.plan(hints.get(alone.name, Any)).record:
            read = _only(alone.name, plan.decode)
            return _Taken("value" if is_value else "model", known, [], False, read, compiler.document(plan.schema))
    members = [Member(p.name, plan, p.required) for p, plan in zip(known, plans)]
    extra = None if others is None else _plan_of(compiler, others, hints, name)
    schema = members_schema(members, extra)
    read = members_decoder(members, f"an object (the parameters of {name})", extra)
    if not plain:  # a task that is submitted without an input has null
        schema["type"] = ["object", "null"]
        read = _or_null(read)
    return _Taken("object", known, [], others is not None, read, compiler.document(schema))


def _plan_of(compiler: Compiler, parameter: inspect.Parameter, hints: Dict[str, Any], name: str) -> Plan:
    hint = hints.get(parameter.name, Any)
    try:
        return compiler.plan(Optional[hint] if parameter.default is None else hint)
    except TypeError as error:
        raise TypeError(f"{name}: parameter {parameter.name}: {error}") from None


def _only(name: str, convert: Decode) -> Decode:
    return lambda value: {name: convert(value)}


def _or_null(read: Decode) -> Decode:
    return lambda value: {} if value is None else read(value)


def _without(context: str, read: Decode) -> Decode:
    """No member of the input gets to the parameter of the Context by way of **kwargs."""

    def checked(value: Any) -> Any:
        named = read(value)
        if context in named:
            raise InputError("the worker gives this argument; an input cannot", (context,))
        return named

    return checked


def _output(hint: Any, kind: str, name: str) -> Tuple[str, Optional[JSONSchema]]:
    """The kind, which an annotation may know better, and the schema of the result."""
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    annotated = _KINDS.get(origin) if kind != "async" else None
    if kind == "plain":
        kind = annotated or kind
    if kind in ("generator", "async_generator"):
        hint = args[2] if origin is collections.abc.Generator and len(args) == 3 else Any
    elif annotated == "async":
        hint = args[-1] if args else Any
    if hint is typing.NoReturn or getattr(hint, "_name", None) == "Never":
        hint = Any
    compiler = Compiler("serialization")
    try:
        return kind, compiler.document(compiler.plan(hint).schema)
    except TypeError as error:
        raise TypeError(f"{name}: what it returns: {error}") from None
