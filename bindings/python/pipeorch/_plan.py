"""Plans: how values of one type are read from JSON, and the plans of the types that contain no others.

Strings stand for what JSON has no type for. The schema says which form is meant by format or contentEncoding, which
nobody but the converter here checks.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import difflib
import json
import operator
import pathlib
import re
import sys
import uuid
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, NoReturn, Optional, Sequence, Tuple

from ._encode import PlacedError, a_value, type_name

Decode = Callable[[Any], Any]
JSONSchema = Dict[str, Any]


class InputError(PlacedError):
    """A JSON value does not have the form that the type hints ask for."""


class UnknownMember(InputError):
    """An object has a member that it should not have: probably it was meant as something else."""


class WrongType(InputError):
    """Not even the JSON type is right."""

    @classmethod
    def of(cls, expects: str, value: Any) -> WrongType:
        return cls(f"expected {expects}, found {a_value(value)}")


def wrong(expects: str, value: Any) -> NoReturn:
    raise WrongType.of(expects, value)


class Plan:
    """How values of one type are read. `expects` is for error messages: "an integer"."""

    __slots__ = ("decode", "expects", "record", "schema")

    def __init__(self, decode: Decode, schema: JSONSchema, expects: str, record: bool = False) -> None:
        self.decode = decode
        self.schema = schema
        self.expects = expects
        self.record = record  # a type with named members, which may be the whole input of a task


# ---- objects with named members: the parameters of a function, and records ----


class Member(NamedTuple):
    name: str
    plan: Plan
    required: bool
    kept: bool = True  # False: it may be there and is checked, but not handed on


def nearest(name: str, names: Iterable[str]) -> str:
    """'; the nearest is "top"', or nothing."""
    found = difflib.get_close_matches(name, names, 1)
    return f"; the nearest is {json.dumps(found[0], ensure_ascii=False)}" if found else ""


def members_schema(members: Sequence[Member], extra: Optional[Plan] = None) -> JSONSchema:
    """The schema of an object. extra: what members of other names hold; None: there are no others."""
    schema: JSONSchema = {"type": "object"}
    if members:
        schema["properties"] = {member.name: member.plan.schema for member in members}
    required = [member.name for member in members if member.required]
    if required:
        schema["required"] = required
    if extra is None or extra.schema:
        schema["additionalProperties"] = False if extra is None else extra.schema
    return schema


def members_decoder(members: Sequence[Member], expects: str, extra: Optional[Plan] = None) -> Decode:
    """A function from a JSON object to a dict of those members that it has, converted."""
    plans = {member.name: member.plan.decode for member in members}
    required = tuple(member.name for member in members if member.required)
    dropped = tuple(member.name for member in members if not member.kept)
    known = plans.get
    other = extra.decode if extra else None

    def decode(value: Any) -> Dict[str, Any]:
        if type(value) is not dict:
            wrong(expects, value)
        out: Dict[str, Any] = {}
        name = ""
        try:
            for name, item in value.items():
                convert = known(name, other)
                if convert is None:
                    raise UnknownMember(f"no member of that name is known{nearest(name, plans)}")
                out[name] = convert(item)
        except InputError as error:
            error.inside(name)
            raise
        for name in required:
            if name not in out:
                others = [key for key in value if key not in plans]
                raise InputError(f"the member {json.dumps(name, ensure_ascii=False)} is missing{nearest(name, others)}")
        for name in dropped:
            out.pop(name, None)
        return out

    return decode


# ---- types without parts ----


def _anything(value: Any) -> Any:
    return value


def _integer(value: Any) -> Any:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():  # to JSON Schema, 1.0 is an integer
        return int(value)
    return wrong("an integer", value)


def _number(value: Any) -> Any:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise InputError("the number is beyond what a float holds") from None
    return wrong("a number", value)


def _string(value: Any) -> Any:
    return value if type(value) is str else wrong("a string", value)


def _boolean(value: Any) -> Any:
    return value if type(value) is bool else wrong("true or false", value)


def _null(value: Any) -> Any:
    return None if value is None else wrong("null", value)


def _written(parse: Callable[[str], Any], expects: str, **annotation: str) -> Plan:
    """The plan of a type that is written as a string."""

    def decode(value: Any) -> Any:
        if type(value) is not str:
            wrong(expects, value)
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            raise InputError(f"expected {expects}, found {a_value(value)}") from None

    return Plan(decode, {"type": "string", **annotation}, expects)


def _iso(text: str) -> str:
    """RFC 3339 as fromisoformat of Python before 3.11 reads it: no Z, six digits of fraction."""
    if sys.version_info >= (3, 11):
        return text
    text = re.sub(r"[Zz]$", "+00:00", text)
    return re.sub(r"[.,](\d+)", lambda found: "." + found[1][:6].ljust(6, "0"), text)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


ANY = Plan(_anything, {}, "any value")
_NULL = Plan(_null, {"type": "null"}, "null")
_BYTES = _written(_bytes, "bytes in base64", contentEncoding="base64")

BY_TYPE: Dict[Any, Plan] = {
    Any: ANY,
    object: ANY,
    None: _NULL,
    type(None): _NULL,
    str: Plan(_string, {"type": "string"}, "a string"),
    int: Plan(_integer, {"type": "integer"}, "an integer"),
    float: Plan(_number, {"type": "number"}, "a number"),
    bool: Plan(_boolean, {"type": "boolean"}, "true or false"),
    bytes: _BYTES,
    bytearray: _written(lambda text: bytearray(_bytes(text)), _BYTES.expects, contentEncoding="base64"),
    datetime.datetime: _written(
        lambda text: datetime.datetime.fromisoformat(_iso(text)), "a date and time (ISO 8601)", format="date-time"
    ),
    datetime.date: _written(datetime.date.fromisoformat, "a date (ISO 8601)", format="date"),
    datetime.time: _written(lambda text: datetime.time.fromisoformat(_iso(text)), "a time (ISO 8601)", format="time"),
    uuid.UUID: _written(uuid.UUID, "a UUID", format="uuid"),
    decimal.Decimal: _written(decimal.Decimal, "a decimal number in a string", format="decimal"),
}
for _path in (pathlib.Path, pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())):
    BY_TYPE[_path] = _written(_path, "a path", format="path")


def register(kind: type, decode: Decode, schema: JSONSchema) -> None:
    """How a class is read. decode raises ValueError for what it refuses."""

    def checked(value: Any) -> Any:
        try:
            return decode(value)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(str(error)) from None

    BY_TYPE[kind] = Plan(checked, schema, f"a {kind.__name__}")


# ---- limits in Annotated metadata ----

_NUMBER_LIMITS: Tuple[Tuple[str, str, Callable[[Any, Any], bool], str], ...] = (
    ("ge", "minimum", operator.ge, "at least"),
    ("gt", "exclusiveMinimum", operator.gt, "above"),
    ("le", "maximum", operator.le, "at most"),
    ("lt", "exclusiveMaximum", operator.lt, "below"),
    ("multiple_of", "multipleOf", lambda value, of: not decimal.Decimal(str(value)) % decimal.Decimal(str(of)), "a multiple of"),
)
_LENGTH_LIMITS: Tuple[Tuple[str, str, Callable[[Any, Any], bool], str], ...] = (
    ("min_length", "min", lambda value, least: len(value) >= least, "at least"),
    ("max_length", "max", lambda value, most: len(value) <= most, "at most"),
)
_LENGTH_OF = {"string": "Length", "array": "Items", "object": "Properties"}


def limited(plan: Plan, metadata: Iterable[Any]) -> Plan:
    """The plan with what Annotated says about it: ge, gt, le, lt, multiple_of, min_length and max_length, as attributes
    of the metadata (annotated_types) or of its own metadata (pydantic's Field). Anything else says nothing."""
    items: List[Any] = []
    for item in metadata:
        items += [item, *getattr(item, "metadata", ())]
    schema = dict(plan.schema)
    checks: List[Tuple[Callable[[Any, Any], bool], Any, str]] = []
    for item in items:
        for name, keyword, check, words in _NUMBER_LIMITS:
            limit = getattr(item, name, None)
            if limit is not None:
                checks.append((check, limit, f"{words} {limit}"))
                _add_limit(schema, keyword, limit, ("integer", "number"))
        for name, bound, check, words in _LENGTH_LIMITS:
            limit = getattr(item, name, None)
            if limit is not None:
                checks.append((check, limit, f"{words} {limit} long"))
                for kind, unit in _LENGTH_OF.items():
                    _add_limit(schema, bound + unit, limit, (kind,))
    if not checks:
        return plan
    convert = plan.decode

    def decode(value: Any) -> Any:
        found = convert(value)
        for check, limit, words in checks if found is not None else ():
            if not check(found, limit):
                raise InputError(f"{a_value(value)} is not {words}")
        return found

    return Plan(decode, schema, plan.expects, plan.record)


def _add_limit(schema: JSONSchema, keyword: str, limit: Any, kinds: Tuple[str, ...]) -> None:
    """A schema keeps a limit if the JSON value is what is limited: not the text of a Decimal, not base64."""
    types = schema.get("type", ())
    written = "format" in schema or "contentEncoding" in schema
    if not written and type(limit) in (int, float) and any(kind in types for kind in kinds):
        schema[keyword] = limit
