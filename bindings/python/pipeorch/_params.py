"""Params of a pipeline: what the parameters of a function become, and what a run is given for them."""

from __future__ import annotations

import inspect
import typing
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from ._convert import Compiler
from ._encode import EncodeError, encode
from ._expr import has_references
from ._plan import InputError, Plan, nearest
from ._shape import Shape
from .errors import InvalidArgument
from .schema import _hints

_TYPES = {"string", "number", "integer", "boolean", "object", "array"}


OPTIONS = frozenset({"client", "define", "key", "local", "priority", "tasks", "timeout", "zone"})
"""Names that mean something else in Pipeline.run and Pipeline.submit: params that are called so are given by position."""


class Param(NamedTuple):
    declared: Dict[str, Any]  # as the document has it
    plan: Optional[Plan] = None  # of the type hint; None: there is no more than what is declared
    shape: Optional[Shape] = None  # likewise


def of_function(fn: Callable[..., Any]) -> Dict[str, Param]:
    """The params that a function's parameters become. Raises TypeError."""
    name = getattr(fn, "__name__", "the pipeline") + "()"
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{name} is a pipeline, whose function adds steps and returns; it can neither wait nor yield")
    hints = _hints(fn, name)
    compiler = Compiler("validation")
    params: Dict[str, Param] = {}
    for parameter in inspect.signature(fn).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{name}: a pipeline declares its params; {parameter} is none, take an array or an object instead")
        hint = hints.get(parameter.name, Any)
        try:
            plan = compiler.plan(hint)
            params[parameter.name] = _param(parameter, hint, plan, Shape(plan.schema, compiler.defs))
        except TypeError as e:
            raise TypeError(f"{name}: parameter {parameter.name}: {e}") from None
    return params


def of_document(document: Mapping[str, Any]) -> Optional[Dict[str, Param]]:
    """The params that a document declares; None: it takes whatever a run is started with, as chains do."""
    declared = document.get("params")
    if declared is None and document.get("start_node") is not None:
        return None
    return {name: _declared(param) for name, param in declared.items()} if isinstance(declared, dict) else {}


def _declared(param: Any) -> Param:
    """Of a document, which may be wrong: that is told by Pipeline.validate."""
    known = param if isinstance(param, dict) else {}
    return Param(known, None, Shape({"type": known["type"]}) if known.get("type") in _TYPES else None)


def _param(parameter: inspect.Parameter, hint: Any, plan: Plan, shape: Shape) -> Param:
    required = parameter.default is parameter.empty
    declared: Dict[str, Any] = {}
    types = shape.types
    if not required:
        types.discard("null")  # which every param takes that may be left out
    if len(types) == 1 and types <= _TYPES:
        declared["type"] = types.pop()
    if required:
        declared["required"] = True
    elif parameter.default is not None:
        declared["default"] = encode(parameter.default)
    for said in getattr(hint, "__metadata__", ()):
        if isinstance(said, str):
            declared["description"] = said
    return Param(declared, plan, shape)


def bind(what: str, params: Optional[Mapping[str, Param]], args: Tuple[Any, ...], kwargs: Mapping[str, Any]) -> Dict[str, Any]:
    """What a run gets that is given these arguments. Raises TypeError, InvalidArgument (one has no JSON form)."""
    if params is None:
        if args:
            raise TypeError(f"{what} declares no params; give what it needs by name")
        return _encoded(what, kwargs)
    if len(args) > len(params):
        raise TypeError(f"{what} has {len(params)} params{_listed(params)}, but {len(args)} values were given")
    given: Dict[str, Any] = dict(zip(params, args))
    for name, value in kwargs.items():
        if name not in params:
            raise TypeError(f"{what} has no param {name!r}{nearest(name, params)}")
        if name in given:
            raise TypeError(f"{what} got two values for {name!r}, one by position and one by name")
        given[name] = value
    missing = [name for name, param in params.items() if param.declared.get("required") and name not in given]
    if missing:
        also = [name for name in missing if name in OPTIONS]
        hint = f"; {also[0]!r} is an option of run and submit as well, so that it is given by position" if also else ""
        raise TypeError(f"{what} needs {', '.join(map(repr, missing))}, which {'is' if len(missing) == 1 else 'are'} missing{hint}")
    made = _encoded(what, given)
    for name, value in made.items():
        _check(what, name, params[name], value)
    return made


def _encoded(what: str, given: Mapping[str, Any]) -> Dict[str, Any]:
    try:
        return dict(encode(given))
    except EncodeError as e:
        raise InvalidArgument(f"{what}: {e}") from None


def _check(what: str, name: str, param: Param, value: Any) -> None:
    """What is known already must fit the type hint, which may say more than the document does."""
    if param.plan is None or has_references(value) or (value is None and not param.declared.get("required")):
        return
    try:
        param.plan.decode(value)
    except InputError as e:
        e.inside(name)
        raise TypeError(f"{what}: {e}") from None


def _listed(params: Mapping[str, Any]) -> str:
    return f" ({', '.join(params)})" if params else ""
