"""Type hints as converters from JSON and as JSON Schema.

One walk over a hint makes a `Plan`: a function that turns a JSON value (as json.loads returns it) into a value of the
hinted type, and the schema of the values that it takes. Both come out of the same branch so that they cannot disagree.
Whatever is decided from the hint is decided once, here; converting a value only calls closures.

The schemas stay in the subset of draft 2020-12 that libpipeorch enforces (pipeorch/types.h). Records (dataclasses,
TypedDicts, NamedTuples, pydantic models) and type aliases go to $defs, which lets them contain themselves.

Of a Union the members are tried in the order in which they are written, so Union[datetime, str] makes a datetime of
what looks like one and Union[str, datetime] never does. Numbers, booleans and null keep their exact type.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
import itertools
import json
import types
import typing
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Type, Union

from . import _pydantic
from ._encode import EncodeError, encode, type_name
from ._plan import (
    ANY,
    BY_TYPE,
    Decode,
    InputError,
    JSONSchema,
    Member,
    Plan,
    UnknownMember,
    WrongType,
    limited,
    members_decoder,
    members_schema,
    wrong,
)

_UNION: Tuple[Any, ...] = (Union, getattr(types, "UnionType", Union))
_MODES = ("validation", "serialization")  # of pydantic: what a model takes, what it makes

# What is made of an array, from a list.
_ARRAYS: Dict[Any, Callable[[List[Any]], Any]] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.deque: collections.deque,
    set: set,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    frozenset: frozenset,
}
_OBJECTS: Dict[Any, Callable[[Dict[Any, Any]], Any]] = {
    dict: dict,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
    collections.OrderedDict: collections.OrderedDict,
}


class Compiler:
    """Makes plans that share one $defs. mode is the side of pydantic models that is wanted."""

    def __init__(self, mode: str = "validation") -> None:
        if mode not in _MODES:
            raise ValueError(f"the mode of a schema is one of {', '.join(_MODES)}, not {mode!r}")
        self.defs: Dict[str, JSONSchema] = {}
        self._mode = mode
        self._named: Dict[Any, Plan] = {}
        self._kept: List[Plan] = []
        self._bound: Dict[Any, Plan] = {}  # TypeVar of the generic record that is being looked into

    def document(self, schema: JSONSchema) -> Optional[JSONSchema]:
        """A schema of this compiler as one that stands alone; None if it allows everything."""
        prefix = "#/$defs/"
        defs = dict(self.defs)
        ref = schema.get("$ref", "") if len(schema) == 1 else ""
        if ref and f'"{ref}"' not in json.dumps(list(defs.values())):
            schema = defs.pop(ref[len(prefix) :])  # nobody else refers to it
        used = _reachable(schema, defs)
        if used:
            schema = {**schema, "$defs": {name: defs[name] for name in defs if name in used}}
        return schema or None

    def plan(self, hint: Any) -> Plan:
        """The plan of a type hint. Raises TypeError: there is no JSON form of it."""
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            return limited(self.plan(args[0]), args[1:])
        if origin in _UNION:
            return _union([self.plan(arg) for arg in args])
        form = getattr(origin, "_name", None) or getattr(hint, "_name", None)
        if form == "Literal":
            return _choice([(value, value) for value in args], "the values of " + type_name(hint))
        if form in ("Required", "NotRequired", "ReadOnly", "Final"):
            return self.plan(args[0]) if args else ANY
        if isinstance(hint, typing.TypeVar):
            return self._bound.get(hint, ANY)
        if hasattr(hint, "__supertype__"):  # NewType
            return self.plan(hint.__supertype__)
        if type(hint).__name__ == "TypeAliasType":
            name: str = hint.__name__
            return self._recursive(hint, name, f"a value of {name}", lambda: self.plan(hint.__value__))
        return self._class(hint, origin or hint, args)

    def _class(self, hint: Any, cls: Any, args: Tuple[Any, ...]) -> Plan:
        if cls in BY_TYPE:
            return BY_TYPE[cls]
        if cls in _ARRAYS:
            return _array(self.plan(args[0]) if args else ANY, _ARRAYS[cls])
        if cls in _OBJECTS:
            key, value = (self.plan(args[0]), self.plan(args[1])) if args else (ANY, ANY)
            return _object(key, value, _OBJECTS[cls])
        if cls is tuple:
            return self._tuple(args, any_length=hint in (tuple, typing.Tuple))
        if isinstance(cls, type):
            if issubclass(cls, enum.Enum):
                return _enum(cls)
            if dataclasses.is_dataclass(cls):
                return self._record(hint, cls, args, self._dataclass_members)
            if hasattr(cls, "model_validate") and hasattr(cls, "model_json_schema"):
                return self._model(cls)
            if hasattr(cls, "__required_keys__") or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
                return self._record(hint, cls, args, self._hinted_members)
        if getattr(cls, "__module__", "").partition(".")[0] in ("numpy", "pyarrow"):
            from . import _store

            if _store.is_shared(cls):
                return _store.plan_of(cls)
        if isinstance(hint, (str, typing.ForwardRef)):
            raise TypeError(f"the annotation {hint!r} is not resolved; define the class at the top level of its module")
        raise TypeError(
            f"{type_name(hint)} has no JSON form; use a dataclass, TypedDict, NamedTuple, pydantic model or Enum, "
            "or the standard types made of JSON values"
        )

    def _tuple(self, args: Tuple[Any, ...], any_length: bool) -> Plan:
        if any_length or args[1:] == (Ellipsis,):
            return _array(self.plan(args[0]) if args else ANY, tuple)
        return _fixed_array([self.plan(arg) for arg in args if arg != ()])  # Tuple[()] has the argument () before 3.11

    # ---- records ----

    def _free_name(self, name: str) -> str:
        number, found = 1, name
        while found in self.defs:
            number += 1
            found = f"{name}_{number}"
        return found

    def _recursive(self, key: Any, name: str, expects: str, build: Callable[[], Plan]) -> Plan:
        """The plan of something that may contain itself: where it does, it finds the plan that is not finished yet."""
        if key in self._named:
            return self._named[key]
        name = self._free_name(name)
        self.defs[name] = {}  # takes the name
        plan = Plan(lambda value: final(value), {"$ref": f"#/$defs/{name}"}, expects, record=True)
        self._named[key] = plan
        built = build()
        final = built.decode
        self.defs[name] = built.schema
        plan.decode, plan.record = final, built.record
        return plan

    def _record(self, hint: Any, cls: Any, args: Tuple[Any, ...], members_of: Callable[[Any], List[Member]]) -> Plan:
        top = not self._bound  # inside of a generic record the same hint may mean several types
        if top and hint in self._named:
            return self._named[hint]
        arguments = [self.plan(arg) for arg in args]
        self._kept += arguments  # so that their ids stay theirs
        expects = f"an object ({cls.__name__})"
        key = (cls, *map(id, arguments))
        plan = self._recursive(key, cls.__name__, expects, lambda: self._record_plan(cls, expects, arguments, members_of))
        if top:
            self._named[hint] = plan
        return plan

    def _record_plan(
        self, cls: Any, expects: str, arguments: List[Plan], members_of: Callable[[Any], List[Member]]
    ) -> Plan:
        outer, self._bound = self._bound, dict(zip(getattr(cls, "__parameters__", ()), arguments))
        try:
            members = members_of(cls)
        finally:
            self._bound = outer
        read = members_decoder(members, expects)

        def decode(value: Any) -> Any:
            found = read(value)
            try:
                return cls(**found)
            except (TypeError, ValueError) as error:  # of __post_init__ and the like
                raise InputError(f"{cls.__name__} refuses its members: {error}") from None

        is_dict = hasattr(cls, "__required_keys__")
        return Plan(read if is_dict else decode, members_schema(members), expects, record=True)

    def _member(self, cls: Any, name: str, hint: Any, required: bool, kept: bool = True) -> Member:
        try:
            return Member(name, self.plan(hint), required, kept)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}.{name}: {error}") from None

    def _dataclass_members(self, cls: Any) -> List[Member]:
        """A field with init=False is written by encode and does no harm in an input: the object computes its own."""
        hints = _class_hints(cls)
        missing = dataclasses.MISSING
        return [
            self._member(
                cls,
                field.name,
                hints[field.name],
                required=field.init and field.default is missing and field.default_factory is missing,
                kept=field.init,
            )
            for field in dataclasses.fields(cls)
        ]

    def _hinted_members(self, cls: Any) -> List[Member]:
        hints = _class_hints(cls)
        if hasattr(cls, "_field_defaults"):  # NamedTuple; one of collections has no hints
            return [self._member(cls, name, hints.get(name, Any), name not in cls._field_defaults) for name in cls._fields]
        return [self._member(cls, name, hint, _is_required(cls, name, hint)) for name, hint in hints.items()]

    def _model(self, cls: Any) -> Plan:
        if cls not in self._named:
            schema = _pydantic.schema_into(self.defs, cls, self._mode, self._free_name)
            self._named[cls] = Plan(_model_decoder(cls), schema, f"an object ({cls.__name__})", record=True)
        return self._named[cls]


def _reachable(schema: Any, defs: Dict[str, JSONSchema]) -> Dict[str, None]:
    """The names in $defs that a schema refers to, directly or through others."""
    found: Dict[str, None] = {}
    todo = [schema]
    while todo:
        for name in _pydantic.references(todo.pop()):
            if name in defs and name not in found:
                found[name] = None
                todo.append(defs[name])
    return found


def _class_hints(cls: Any) -> Dict[str, Any]:
    """The resolved hints of a class, which may name itself even where it is not a module's."""
    try:
        return typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except Exception as error:  # whatever evaluating an annotation raises
        raise TypeError(
            f"the annotations of {cls.__name__} cannot be resolved: {error}; "
            "what they name must be defined at the top level of its module when the handler is registered"
        ) from None


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    """Of a TypedDict. Annotations that are strings hide NotRequired from the class, so the resolved hint counts first."""
    while typing.get_origin(hint) is not None:
        form = getattr(typing.get_origin(hint), "_name", None)
        if form in ("Required", "NotRequired"):
            return bool(form == "Required")
        if form != "ReadOnly" and typing.get_origin(hint) is not typing.Annotated:
            break
        hint = typing.get_args(hint)[0]
    return name in frozenset(cls.__required_keys__)


def _model_decoder(cls: Any) -> Decode:
    validate = cls.model_validate

    def decode(value: Any) -> Any:
        try:
            return validate(value)
        except ValueError as error:
            problems: List[Any] = getattr(error, "errors", list)()
            if not problems:
                raise InputError(str(error)) from None
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise InputError(f"{cls.__name__}: {problems[0]['msg']}{more}", tuple(problems[0]["loc"])) from None

    return decode


# ---- arrays ----


def _elements(decoders: Iterable[Decode], values: List[Any]) -> List[Any]:
    out: List[Any] = []
    try:
        for convert, value in zip(decoders, values):
            out.append(convert(value))
    except InputError as error:
        error.inside(len(out))
        raise
    return out


def _array(item: Plan, make: Callable[[List[Any]], Any]) -> Plan:
    schema: JSONSchema = {"type": "array"}
    if item.schema:
        schema["items"] = item.schema
    convert = item.decode

    def decode(value: Any) -> Any:
        if type(value) is not list:
            wrong("an array", value)
        return make(_elements(itertools.repeat(convert), value))

    def decode_set(value: Any) -> Any:
        try:
            found = decode(value)
        except TypeError as error:  # unhashable, as what Any let through may be
            raise InputError(f"the elements cannot be in a set: {error}") from None
        if len(found) != len(value):
            raise InputError("an element is there twice; a set has each once")
        return found

    if make in (set, frozenset):
        return Plan(decode_set, {**schema, "uniqueItems": True}, "an array")
    return Plan(decode, schema, "an array")


def _fixed_array(items: List[Plan]) -> Plan:
    decoders = [item.decode for item in items]
    count = len(items)
    expects = f"an array of {count} element{'' if count == 1 else 's'}"

    def decode(value: Any) -> Any:
        if type(value) is not list:
            wrong(expects, value)
        if len(value) != count:
            raise InputError(f"expected {expects}, found {len(value)}")
        return tuple(_elements(decoders, value))

    schema: JSONSchema = {"type": "array", "minItems": count, "maxItems": count}
    if items:
        schema["prefixItems"] = [item.schema for item in items]
    return Plan(decode, schema, expects)


# ---- objects with free names ----


def _object(key: Plan, value: Plan, make: Callable[[Dict[Any, Any]], Any]) -> Plan:
    if key.record or key.schema.get("type") in ("array", "object"):
        raise TypeError(f"a key of a JSON object is a string and cannot hold {key.expects}")
    convert = value.decode
    convert_key = _key_decoder(key)

    def decode(given: Any) -> Any:
        if type(given) is not dict:
            wrong("an object", given)
        out: Dict[Any, Any] = {}
        name = ""
        try:
            for name, item in given.items():
                out[name if convert_key is None else convert_key(name)] = convert(item)
        except InputError as error:
            error.inside(name)
            raise
        if len(out) != len(given):
            raise InputError("two names stand for the same key")
        return out if make is dict else make(out)

    schema: JSONSchema = {"type": "object"}
    if value.schema:
        schema["additionalProperties"] = value.schema
    names = key.schema.get("enum", [key.schema["const"]] if "const" in key.schema else [])
    if names:
        schema["propertyNames"] = {"enum": [name if isinstance(name, str) else json.dumps(name) for name in names]}
    return Plan(decode, schema, "an object")


def _key_decoder(key: Plan) -> Optional[Decode]:
    """Keys that are not strings are written as JSON in the name: 1 is "1". Where the type allows both, as Union[int, str]
    does, the name is taken for the string. None: names are keys as they are."""
    if key is ANY or key.schema == {"type": "string"}:
        return None

    def decode(name: str) -> Any:
        try:
            return key.decode(name)
        except InputError:
            try:
                return key.decode(json.loads(name))
            except ValueError:
                raise InputError(f"the name of this member is no key: expected {key.expects}") from None

    return decode


# ---- one of several ----


def _same(value: Any) -> Any:
    """Equal for JSON values that JSON Schema holds equal: 1 and 1.0, but not 1 and true."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (type(value), value) if not isinstance(value, (dict, list)) else json.dumps(value, sort_keys=True)


def _choice(choices: Sequence[Tuple[Any, Any]], what: str) -> Plan:
    """One of (value, value whose JSON form stands for it)."""
    try:
        forms = [encode(form) for _, form in choices]
    except EncodeError as error:
        raise TypeError(f"{what} have no JSON form: {error.reason}") from None
    by_form = {_same(form): value for form, (value, _) in zip(forms, choices)}
    shown = ", ".join(json.dumps(form, ensure_ascii=False) for form in forms[:10])
    expects = (shown if len(forms) == 1 else f"one of {shown}") + (", ..." if len(forms) > 10 else "")

    def decode(value: Any) -> Any:
        try:
            return by_form[_same(value)]
        except KeyError:
            return wrong(expects, value)

    return Plan(decode, {"const": forms[0]} if len(forms) == 1 else {"enum": forms}, expects)


def _enum(cls: Type[enum.Enum]) -> Plan:
    if not len(cls):
        raise TypeError(f"{type_name(cls)} has no members, so no value would be allowed")
    if not issubclass(cls, enum.Flag):
        return _choice([(member, member.value) for member in cls], f"the values of {type_name(cls)}")
    integer = BY_TYPE[int]

    def decode(value: Any) -> Any:
        number = integer.decode(value)
        try:
            return cls(number)
        except ValueError as error:
            raise InputError(str(error)) from None

    return Plan(decode, integer.schema, integer.expects)


def _union(plans: List[Plan]) -> Plan:
    if any(plan is ANY for plan in plans):
        return ANY
    exact = {kind: BY_TYPE[kind] for kind in (int, float, bool, type(None))}
    as_they_are = frozenset(kind for kind, plan in exact.items() if any(plan is member for member in plans))
    others = [plan for plan in plans if plan not in (exact[bool], exact[type(None)])]
    expects = " or ".join(dict.fromkeys(plan.expects for plan in plans))

    def decode(value: Any) -> Any:
        if type(value) in as_they_are:
            return value
        errors: List[InputError] = []
        for plan in others:
            try:
                return plan.decode(value)
            except InputError as error:
                errors.append(error)
        raise _best(errors, expects, value)

    return Plan(decode, _union_schema([plan.schema for plan in plans]), expects)


def _best(errors: List[InputError], expects: str, value: Any) -> InputError:
    """The member of a Union that the value comes nearest to is the one whose error helps."""
    near = [(len(error.path) - isinstance(error, UnknownMember), error) for error in errors]
    near = [(depth, error) for depth, error in near if depth or not isinstance(error, WrongType)]
    if not near:
        return WrongType.of(expects, value)
    deepest = max(depth for depth, _ in near)
    best = [error for depth, error in near if depth == deepest]
    if len(best) == 1:
        return best[0]
    return InputError(f"it is not {expects}: " + "; ".join(str(error) for error in best))


def _union_schema(schemas: List[JSONSchema]) -> JSONSchema:
    if all(list(schema) == ["type"] for schema in schemas):
        names: List[str] = []
        for schema in schemas:
            names += schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return {"type": list(dict.fromkeys(names))}
    return {"anyOf": schemas}
