"""Params of a pipeline: what the parameters of a function become, and what a run is given for them."""

from __future__ import annotations

import inspect
import typing
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from ._convert import Compiler
from ._encode import EncodeError, encode
from ._expr import has_references
from ._plan import InputError, Plan, nearest
from .errors import InvalidArgument
from .schema import _hints

_WORDS = {"string", "number", "integer", "boolean", "object", "array"}


class Param(NamedTuple):
    declared: Dict[str, Any]  # as the document has it
    plan: Optional[Plan]  # of the type hint; None: there is no more than what is declared


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
            params[parameter.name] = _param(parameter, hint, plan, compiler.defs)
        except TypeError as e:
            raise TypeError(f"{name}: parameter {parameter.name}: {e}") from None
    return params


def of_document(document: Mapping[str, Any]) -> Optional[Dict[str, Param]]:
    """The params that a document declares; None: it takes whatever a run is started with, as chains do."""
    declared = document.get("params")
    if declared is None and document.get("start_node") is not None:
        return None
    return {name: Param(param, None) for name, param in declared.items()} if isinstance(declared, dict) else {}


def _param(parameter: inspect.Parameter, hint: Any, plan: Plan, defs: Mapping[str, Any]) -> Param:
    required = parameter.default is parameter.empty
    declared: Dict[str, Any] = {}
    words = _words(plan.schema, defs)
    if not required:
        words.discard("null")  # which every param takes that may be left out
    if len(words) == 1 and words <= _WORDS:
        declared["type"] = words.pop()
    if required:
        declared["required"] = True
    elif parameter.default is not None:
        declared["default"] = encode(parameter.default)
    for said in getattr(hint, "__metadata__", ()):
        if isinstance(said, str):
            declared["description"] = said
    return Param(declared, plan)


def _words(schema: Any, defs: Mapping[str, Any]) -> "set[str]":
    """The types that a schema allows, as params name them; "any" is among them if it is not known."""
    if "$ref" in schema:
        return _words(defs[schema["$ref"].rsplit("/", 1)[1]], defs)
    if "anyOf" in schema:
        found = {word for one in schema["anyOf"] for word in _words(one, defs)}
    elif "enum" in schema or "const" in schema:
        found = {_word(value) for value in schema.get("enum", [schema.get("const")])}
    else:
        types = schema.get("type", "any")
        found = {types} if isinstance(types, str) else set(types)
    return found - {"integer"} if "number" in found else found


def _word(value: Any) -> str:
    for kind, word in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (type(None), "null")):
        if isinstance(value, kind):
            return word
    return "any"


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
        raise TypeError(f"{what} needs {', '.join(map(repr, missing))}, which {'is' if len(missing) == 1 else 'are'} missing")
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
